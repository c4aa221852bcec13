"""Plots that count: figures by site, and what every round moved and took."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from medtl_core.report import numerals
from medtl_core.report.plots import WIDTH
from medtl_core.report.pool import Exchange
from medtl_core.report.svg import (
    FOCUS,
    FOCUS_SOFT,
    GRID,
    INK,
    MUTED,
    SECOND,
    THIRD,
    Scale,
    axis_below,
    axis_left,
    element,
    line,
    picture,
    text,
    text_width,
    titled,
)

#: Fill and outline of the bars of up to three methods; they differ in lightness as well as in colour.
_BARS = ((FOCUS, FOCUS), (GRID, THIRD), (FOCUS_SOFT, FOCUS))


@dataclass(frozen=True)
class _Strip:
    """One row of bars over all exchanges: a heading, a value for each, its colour and how to write it."""

    heading: str
    values: Sequence[float]
    colour: str
    write: Callable[[float], str]


def site_bars(figures: Mapping[str, Mapping[str, float | None]], title: str = "Balanced accuracy by site") -> str:
    """Returns horizontal bars, a group for every site and a bar for every method.

    Args:
        figures: method -> site -> value in [0, 1] or None; at most three methods.
        title: names the plot for readers who do not see it.
    """
    methods = list(figures)[: len(_BARS)]
    sites = list(dict.fromkeys(site for method in methods for site in figures[method]))
    left = min(max((text_width(site, 13) for site in sites), default=60.0) + 16, 240.0)
    thick, gap, top = 15.0, 14.0, 30.0
    group = thick * len(methods) + gap
    bottom = top + group * len(sites)
    scale = Scale(0.0, 1.0, left, WIDTH - 50)
    parts = [_legend(methods, left), axis_below(scale, top, bottom, lambda value: f"{value:.1f}")]
    for place, site in enumerate(sites):
        start = top + place * group + gap / 2
        middle = start + thick * len(methods) / 2 + 4.5
        parts.append(text(site, left - 10, middle, text_anchor="end", font_size=13.0))
        for number, method in enumerate(methods):
            value = figures[method].get(site)
            parts.append(_bar(f"{site}, {method}", value, scale, start + number * thick, thick - 2, _BARS[number]))
    words = "; ".join(
        f"{site}: " + ", ".join(f"{method} {numerals.figure(figures[method].get(site))}" for method in methods)
        for site in sites
    )
    return picture("".join(parts), WIDTH, bottom + 26, title, words)


def round_bars(exchanges: Sequence[Exchange], title: str = "Bytes and seconds of every round") -> str:
    """Returns two strips of bars over the run's exchanges in order: bytes moved, and seconds taken."""
    left, top, height, gap = 64.0, 26.0, 92.0, 42.0
    x = Scale(0, max(len(exchanges), 1), left, WIDTH - 6)
    strips = (
        _Strip("sent by all hospitals", [item.bytes_up for item in exchanges], FOCUS, numerals.size),
        _Strip("sent to all hospitals", [item.bytes_down for item in exchanges], THIRD, numerals.size),
        _Strip("seconds", [item.seconds for item in exchanges], SECOND, numerals.seconds),
    )
    parts = []
    for number, strip in enumerate(strips):
        start = top + number * (height + gap)
        parts.append(_strip(strip, exchanges, x, start, start + height))
    bottom = top + len(strips) * (height + gap) - gap
    parts.append(_phases(exchanges, x, bottom))
    words = "; ".join(
        f"{item.phase} {item.round}: {numerals.size(item.bytes_up)} up, {numerals.size(item.bytes_down)} down, "
        f"{numerals.seconds(item.seconds)}"
        for item in exchanges
    )
    return picture("".join(parts), WIDTH, bottom + 34 + _slanted_room(exchanges, x), title, words)


def _legend(methods: Sequence[str], left: float) -> str:
    parts, x = [], left
    for number, method in enumerate(methods):
        fill, stroke = _BARS[number]
        parts.append(element("rect", x=x, y=6.0, width=14.0, height=11.0, fill=fill, stroke=stroke))
        parts.append(text(method, x + 20, 16))
        x += 44 + text_width(method, 12)
    return "".join(parts)


def _bar(name: str, value: float | None, scale: Scale, top: float, thick: float, colours: tuple[str, str]) -> str:
    fill, stroke = colours
    if value is None:
        return text("not defined: one class only", scale.start + 6, top + thick - 3, fill=MUTED, font_size=11.0)
    end = scale(min(max(value, 0.0), 1.0))
    bar = element("rect", x=scale.start, y=top, width=end - scale.start, height=thick, fill=fill, stroke=stroke)
    words = text(numerals.figure(value), end + 6, top + thick - 2, font_size=11.0, fill=INK)
    return titled(bar, f"{name}: {numerals.figure(value)}") + words


def _strip(strip: _Strip, exchanges: Sequence[Exchange], x: Scale, top: float, bottom: float) -> str:
    most = max(strip.values, default=0.0) or 1.0
    y = Scale(0.0, most, bottom, top)
    wide = max((x.stop - x.start) / max(len(exchanges), 1) - 2, 1.0)
    wide = min(wide, 40.0)
    parts = [text(strip.heading, x.start, top - 10, font_weight="600")]
    parts.append(axis_left(y, x.start, x.stop, strip.write, 3))
    for place, (item, value) in enumerate(zip(exchanges, strip.values, strict=True)):
        bar = element(
            "rect", x=x(place + 0.5) - wide / 2, y=y(value), width=wide, height=bottom - y(value), fill=strip.colour
        )
        parts.append(titled(bar, f"{item.phase}, round {item.round}: {strip.write(value)}"))
    parts.append(line(x.start, bottom, x.stop, bottom, stroke=MUTED))
    return "".join(parts)


def _phases(exchanges: Sequence[Exchange], x: Scale, top: float) -> str:
    """Returns a bracket with its name under every run of exchanges of one phase; a name that is too long slants."""
    parts, place = [], 0
    for phase, length in _runs(exchanges):
        start, stop = x(place) + 2, x(place + length) - 2
        middle = (start + stop) / 2
        parts.append(line(start, top + 8, stop, top + 8, stroke=MUTED))
        if text_width(phase) <= stop - start:
            parts.append(text(phase, middle, top + 24, text_anchor="middle", fill=MUTED))
        else:
            slant = f"rotate(-40 {middle:.1f} {top + 20:.1f})"
            parts.append(text(_cut(phase), middle, top + 20, text_anchor="end", fill=MUTED, transform=slant))
        place += length
    return "".join(parts)


def _slanted_room(exchanges: Sequence[Exchange], x: Scale) -> float:
    """Returns the pixels that the longest slanted phase name needs below the plot."""
    widths = [text_width(_cut(phase)) for phase, length in _runs(exchanges) if text_width(phase) > x(length) - x(0) - 4]
    return 0.65 * max(widths, default=0.0)


def _runs(exchanges: Sequence[Exchange]) -> list[tuple[str, int]]:
    """Returns each phase with the number of its exchanges that follow one another."""
    return [(phase, len(list(same))) for phase, same in groupby(exchanges, key=lambda item: item.phase)]


def _cut(phase: str, most: int = 16) -> str:
    return phase if len(phase) <= most else phase[: most - 1] + "…"
