"""The kernel of every chart: escaped SVG elements, scales, axes, intervals and the picture around them.

Colours are CSS variables with a fallback, so a chart follows the page's light or dark theme and still stands alone.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

INK = "var(--ink, #1d2733)"
MUTED = "var(--muted, #5a6675)"
GRID = "var(--grid, #dfe4ea)"
PAPER = "var(--paper, #ffffff)"
FOCUS = "var(--focus, #0b6e99)"
FOCUS_SOFT = "var(--focus-soft, #cfe4ee)"
SECOND = "var(--second, #b3541e)"
THIRD = "var(--third, #7a8694)"

#: Width of a panel in pixels; a wide page sets two side by side, a phone shows one at nearly its own size.
PANEL = 390.0

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_BREAKS = str.maketrans({"\n": "&#10;", "\r": "&#13;", "\t": "&#9;"})
#: Rough width of one character in units of the font size; there is no way to measure text here.
_GLYPH = 0.55


@dataclass(frozen=True)
class Axis:
    """A linear map from data, `low` to `high`, to pixels; `start` may be above `stop`, as on a vertical axis."""

    low: float
    high: float
    start: float
    stop: float

    def __call__(self, value: float) -> float:
        """Returns the pixel of a value; the middle when the axis has no extent."""
        span = self.high - self.low
        share = (value - self.low) / span if span else 0.5
        return self.start + share * (self.stop - self.start)

    def clip(self, value: float) -> float:
        """Returns the pixel of a value, or the end of the axis beyond which it lies."""
        return self(min(max(value, self.low), self.high))


def escape(words: str) -> str:
    """Returns text as XML has it; the standard library's function reads all of its network modules first."""
    return words.replace("&", "&amp;").replace(">", "&gt;").replace("<", "&lt;")


def element(tag: str, body: str = "", /, **attributes: str | float) -> str:
    """Returns one element; underscores in attribute names become dashes, a trailing one is dropped.

    Example:
        >>> element("circle", r=2.0, stroke_width=1)
        '<circle r="2" stroke-width="1"/>'
    """
    words = "".join(
        f" {name.rstrip('_').replace('_', '-')}={_quoted(value if isinstance(value, str) else shorten(value))}"
        for name, value in attributes.items()
    )
    return f"<{tag}{words}>{body}</{tag}>" if body else f"<{tag}{words}/>"


def _quoted(words: str) -> str:
    """An attribute's value, between the marks that it does not hold."""
    words = escape(words).translate(_BREAKS)
    return f"'{words}'" if '"' in words and "'" not in words else '"' + words.replace('"', "&quot;") + '"'


def shorten(value: float) -> str:
    """Returns a pixel coordinate with at most one decimal.

    Example:
        >>> shorten(3.14), shorten(2.0)
        ('3.1', '2')
    """
    return f"{value:.1f}".removesuffix(".0")


def text(words: str, x: float, y: float, **attributes: str | float) -> str:
    """Returns a line of escaped text; size 12 and ink unless said otherwise."""
    style: dict[str, str | float] = {"font_size": 12.0, "fill": INK}
    return element("text", escape(words), x=x, y=y, **(style | attributes))


def upright(words: str, x: float, y: float, fill: str = INK) -> str:
    """Returns a line of text that reads upwards, centred."""
    return text(words, x, y, text_anchor="middle", fill=fill, transform=f"rotate(-90 {x:g} {y:g})")


def text_width(words: str, size: float = 12.0) -> float:
    """Returns about how many pixels a line of text takes."""
    return _GLYPH * size * len(words)


def names_width(names: Iterable[str]) -> float:
    """Returns the pixels that a column of names at the left of a panel takes."""
    return min(max((text_width(name, 13.5) for name in names), default=60.0) + 12, 150.0)


def fitted(name: str, width: float, size: float = 12.0) -> str:
    """Returns a name, cut where it is wider than so many pixels.

    Example:
        >>> fitted("University Hospital North", 66.0)
        'Universit…'
    """
    most = max(int(width / (_GLYPH * size)), 2)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float) -> str:
    """Returns a straight line; a grid line unless said otherwise."""
    style: dict[str, str | float] = {"stroke": GRID, "stroke_width": 1.0}
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **(style | attributes))


def polyline(points: Iterable[tuple[float, float]], **attributes: str | float) -> str:
    """Returns an open line through pixel points."""
    style: dict[str, str | float] = {"fill": "none", "stroke": FOCUS, "stroke_width": 2.0, "stroke_linejoin": "round"}
    return element("polyline", points=" ".join(f"{shorten(x)},{shorten(y)}" for x, y in points), **(style | attributes))


def titled(shape: str, words: str) -> str:
    """Returns a shape with a tooltip."""
    return element("g", element("title", escape(words)) + shape)


def picture(shapes: Iterable[str], width: float, height: float, title: str, description: str) -> str:
    """Returns the whole SVG with a name and a description for readers who do not see it."""
    body = "".join(shapes)
    number = hashlib.sha256(f"{title}{body}".encode()).hexdigest()[:10]
    head = element("title", escape(title), id=f"plot-{number}-title")
    head += element("desc", escape(description or title), id=f"plot-{number}-desc")
    return element(
        "svg",
        head + body,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {shorten(width)} {shorten(height)}",
        width=width,
        role="img",
        aria_labelledby=f"plot-{number}-title plot-{number}-desc",
        font_family=_FONT,
    )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Returns round numbers inside [low, high], about as many as asked for.

    Example:
        >>> ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * min((1, 2, 5, 10), key=lambda factor: abs(math.log(rough / (power * factor))))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, -math.floor(math.log10(step)) + 1)
    return [round(number * step, digits) for number in range(first, last + 1)]


Write = Callable[[float], str]


def axis_below(axis: Axis, top: float, bottom: float, write: Write, values: Sequence[float]) -> list[str]:
    """Returns vertical grid lines from `top` to `bottom` at some values, with their labels underneath."""
    return [
        line(axis(value), top, axis(value), bottom)
        + text(write(value), axis(value), bottom + 15, text_anchor="middle", fill=MUTED)
        for value in values
    ]


def axis_left(axis: Axis, left: float, right: float, write: Write, values: Sequence[float]) -> list[str]:
    """Returns horizontal grid lines from `left` to `right` at some values, with their labels before them."""
    return [
        line(left, axis(value), right, axis(value))
        + text(write(value), left - 6, axis(value) + 4, text_anchor="end", fill=MUTED)
        for value in values
    ]


def interval(ends: tuple[float, float] | None, axis: Axis, y: float, **style: str | float) -> str:
    """Returns an interval as a line along a horizontal axis, at a height; it stops where the axis does."""
    if ends is None:
        return ""
    low, high = (axis.clip(end) for end in ends)
    lines = [(low, y, high, y), *((end, y - 4, end, y + 4) for end in (low, high))]
    return "".join(line(x1, y1, x2, y2, **style) for x1, y1, x2, y2 in lines)


def tenths(value: float) -> str:
    """Returns the label of a share.

    Example:
        >>> tenths(0.25), tenths(1)
        ('0.2', '1.0')
    """
    return f"{value:.1f}"
