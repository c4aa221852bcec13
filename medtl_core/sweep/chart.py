"""Charts of a sweep: a figure against epsilon with its intervals, and what was spent against what was promised."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from medtl_core.report import svg
from medtl_core.report.svg import Axis, LogAxis, element, line, polyline, text, titled
from medtl_core.sweep.findings import SweepLine

#: Colours of lines, each with its value on a light page (Okabe and Ito 2008, darkened); the page has them for dark.
_COLOURS = ("#0b6e99", "#b3541e", "#00795a", "#9c3f84", "#7a6200", "#4a4fb0", "#a3243b", "#3f5a2a")
#: Shapes, so that lines differ by more than their colour; corners on a circle of radius 1, none = the circle itself.
_SHAPES = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)),
    ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)),
    ((0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)),
)  # fmt: skip
#: Dashes of references' lines.
_DASHES = ("none", "2 3", "8 3 2 3")
#: Pixels between the marks of two lines at one epsilon, and between two labels.
_DODGE, _STEP = 5.0, 16.0


@dataclass(frozen=True)
class _Label:
    """Words at the end of a line, and the number of the mechanism whose mark stands before them, if any."""

    height: float
    words: str
    colour: str
    mechanism: int | None = None


def accuracy_chart(private: Sequence[SweepLine], references: Sequence[SweepLine], chance: float, title: str) -> str:
    """Returns a line of balanced accuracy with interval bars for every mechanism, over epsilon on a logarithmic axis.

    Args:
        private: the mechanisms.
        references: yardsticks without privacy, drawn as horizontal lines.
        chance: what guessing gives, drawn as a dashed line.
        title: names the chart for readers who do not see it.
    """
    left, top, bottom = 44.0, 14.0, 374.0
    names = [*(each.name for each in private), *(f"{each.method}, not private" for each in references)]
    right = svg.WIDTH - min(max(svg.text_width(name) for name in names) + 44, 300.0)
    epsilons = sorted({point.epsilon or 0.0 for each in private for point in each.points})
    x = LogAxis.of(epsilons, left, right, room=0.08)
    y = Axis(*_extent([*private, *references], chance), bottom, top)
    shapes = svg.axis_left(y, left, right, svg.tenths, svg.ticks(y.low, y.high))
    shapes += svg.axis_below(x, top, bottom, "{:g}".format, epsilons)
    shapes.append(line(left, y(chance), right, y(chance), stroke=svg.INK, stroke_width=1.5, stroke_dasharray="6 5"))
    labels = [_Label(y(chance), "guessing", svg.INK)]
    for each, dash in zip(references, itertools.cycle(_DASHES)):
        estimate = each.points[0].balanced_accuracy
        if estimate.mean is not None:
            level = y(estimate.mean)
            drawn = line(left, level, right, level, stroke=svg.MUTED, stroke_width=1.5, stroke_dasharray=dash)
            shapes.append(titled(drawn, f"{each.method}, without privacy: {estimate}"))
            labels.append(_Label(level, f"{each.method}, not private", svg.MUTED))
    for number, each in enumerate(private):
        shapes += _curve(each, number, x, y, (number - (len(private) - 1) / 2) * _DODGE)
        means = [mean for point in each.points if (mean := point.balanced_accuracy.mean) is not None]
        labels += [_Label(y(mean), each.name, colour(number), number) for mean in means[-1:]]
    shapes += _labels(labels, right, bottom + 8)
    shapes.append(text("epsilon promised to every patient", (left + right) / 2, bottom + 36, text_anchor="middle"))
    words = "; ".join(
        f"{each.name}: " + ", ".join(f"{point.epsilon:g}: {point.balanced_accuracy}" for point in each.points)
        for each in private
    )
    return svg.picture(shapes, svg.WIDTH, bottom + 44, title, f"Guessing gives {chance:.3f}; {words}")


def spent_chart(private: Sequence[SweepLine], title: str) -> str:
    """Returns the epsilon that ledgers account for over the epsilon promised; on or under the dashed line is kept."""
    side, left, top = 300.0, 52.0, 12.0
    spent = [
        (number, each.name, point.epsilon or 0.0, point.spent)
        for number, each in enumerate(private)
        for point in each.points
        if point.spent is not None
    ]
    promised = sorted({epsilon for _, _, epsilon, _ in spent})
    every = [*promised, *(used for *_, used in spent if used > 0)]
    x = LogAxis.of(every, left, left + side, room=0.06)
    y = LogAxis.of(every, top + side, top, room=0.06)
    shapes = svg.axis_below(x, top, top + side, "{:g}".format, promised)
    shapes += svg.axis_left(y, left, left + side, "{:g}".format, promised)
    shapes.append(line(left, top + side, left + side, top, stroke=svg.MUTED, stroke_width=1.5, stroke_dasharray="6 5"))
    for number, name, epsilon, used in spent:
        if used > 0:
            shift = (number - (len(private) - 1) / 2) * _DODGE / 2
            shapes.append(
                titled(_mark(number, x(epsilon) + shift, y(used)), f"{name}: {used:.4g} of {epsilon:g} spent")
            )
    shapes.append(text("promised", left + side / 2, top + side + 34, text_anchor="middle"))
    shapes.append(svg.upright("spent", 12, top + side / 2))
    words = "; ".join(f"{name}: {used:.4g} of {epsilon:g}" for _, name, epsilon, used in spent)
    return svg.picture(shapes, left + side + 10, top + side + 42, title, words)


def colour(number: int) -> str:
    """Returns the colour of a mechanism's line: a variable of the page, with a fallback."""
    place = number % len(_COLOURS)
    return f"var(--line-{place}, {_COLOURS[place]})"


def apart(heights: Sequence[float], step: float, most: float) -> list[float]:
    """Returns heights moved to lie at least `step` apart, in their given rising order; none is above `most`.

    Example:
        >>> apart([10.0, 11.0, 50.0], 5.0, 100.0)
        [10.0, 15.0, 50.0]
    """
    places: list[float] = []
    for height in heights:
        places.append(max(height, places[-1] + step) if places else height)
    highest = [most - step * number for number in reversed(range(len(places)))]
    return [min(place, limit) for place, limit in zip(places, highest, strict=True)]


def _labels(labels: Sequence[_Label], x: float, bottom: float) -> list[str]:
    """Returns labels in order of their lines' ends, moved apart where they would overlap, each with a leader."""
    ordered = sorted(labels, key=lambda label: label.height)
    shapes = []
    for label, place in zip(ordered, apart([label.height for label in ordered], _STEP, bottom), strict=True):
        shapes.append(polyline([(x, label.height), (x + 14, place)], stroke=label.colour, stroke_width=1.0))
        if label.mechanism is not None:
            shapes.append(_mark(label.mechanism, x + 21, place))
        shapes.append(text(label.words, x + (18 if label.mechanism is None else 30), place + 4, fill=label.colour))
    return shapes


def _curve(each: SweepLine, number: int, x: Axis, y: Axis, shift: float) -> list[str]:
    """Returns a mechanism's line, its interval bars and its marks; bars end where the chart does."""
    ends, marks = [], []
    for point in each.points:
        estimate, place = point.balanced_accuracy, x(point.epsilon or 0.0) + shift
        if estimate.mean is None:
            continue
        bar = ""
        if estimate.ends is not None:
            low, high = (y.clip(end) for end in estimate.ends)
            lines = [(place, low, place, high), *((place - 3, end, place + 3, end) for end in (low, high))]
            bar = "".join(line(*ends_, stroke=colour(number), stroke_width=1.4) for ends_ in lines)
        mark = _mark(number, place, y(estimate.mean))
        marks.append(titled(bar + mark, f"{each.name}, epsilon {point.epsilon:g}: {estimate}"))
        ends.append((place, y(estimate.mean)))
    return [polyline(ends, stroke=colour(number), stroke_width=1.8), *marks]


def _mark(number: int, x: float, y: float, radius: float = 4.2) -> str:
    corners = _SHAPES[number % len(_SHAPES)]
    style: dict[str, str | float] = {"fill": colour(number), "stroke": svg.PAPER, "stroke_width": 1.0}
    if not corners:
        return element("circle", cx=x, cy=y, r=radius, **style)
    points = " ".join(f"{x + radius * across:.1f},{y + radius * down:.1f}" for across, down in corners)
    return element("polygon", points=points, **style)


def _extent(lines: Sequence[SweepLine], chance: float) -> tuple[float, float]:
    """Returns ends that hold every mean, interval and yardstick, rounded outwards to tenths inside [0, 1]."""
    estimates = [point.balanced_accuracy for each in lines for point in each.points]
    known = [value for each in estimates for value in (each.mean, each.low, each.high) if value is not None]
    low, high = max(0.0, min([chance, *known])), min(1.0, max([chance, *known]))
    return max(0.0, math.floor(low * 10 - 0.2) / 10), min(1.0, math.ceil(high * 10 + 0.2) / 10)
