"""The chart of a sweep: balanced accuracy against epsilon, with its intervals, beside what needs no privacy."""

import math
from collections.abc import Sequence
from itertools import cycle

from medtl_core.report import svg
from medtl_core.report.charts import extent
from medtl_core.report.estimate import Estimate
from medtl_core.report.svg import Axis, line, polyline, text, titled
from medtl_core.sweep.findings import SweepLine, SweepPoint

#: Colours of lines, each with its value on a light page (Okabe and Ito 2008, darkened); the page has them for dark.
_COLOURS = ("#0b6e99", "#b3541e", "#00795a", "#9c3f84", "#7a6200", "#4a4fb0", "#a3243b", "#3f5a2a")
#: Marks, so that lines differ by more than their colour.
_MARKS = "●■▲◆▼"
#: Dashes of references' lines.
_DASHES = ("none", "2 3", "8 3 2 3")
#: Pixels between the marks of two lines at one epsilon, and between two names of the legend.
_DODGE, _STEP = 5.0, 18.0


def accuracy_chart(private: Sequence[SweepLine], references: Sequence[SweepLine], chance: float, title: str) -> str:
    """Returns a line of balanced accuracy with interval bars for every mechanism, over epsilon on a logarithmic axis.

    Args:
        private: the mechanisms.
        references: yardsticks without privacy, drawn as horizontal lines.
        chance: what guessing gives, drawn as a dashed line.
        title: names the chart for readers who do not see it.
    """
    levels = [("guessing", Estimate(chance), svg.INK, "6 5")]
    for each, dash in zip(references, cycle(_DASHES)):
        levels.append((f"{each.method}, not private", each.points[0].balanced_accuracy, svg.MUTED, dash))
    names = [*(each.name for each in private), *(name for name, *_ in levels)]
    left, top, bottom = 44.0, 14.0, 374.0
    right = svg.WIDTH - min(max(svg.text_width(name) for name in names) + 50, 300.0)
    # Doubles of epsilon lie at equal distances, with a little room at both ends.
    doubles = sorted({_double(point) for each in private for point in each.points})
    room = 0.08 * (doubles[-1] - doubles[0]) or 1.0
    estimates = [point.balanced_accuracy for each in private for point in each.points]
    x = Axis(doubles[0] - room, doubles[-1] + room, left, right)
    y = Axis(*extent([*estimates, *(estimate for _, estimate, *_ in levels)]), bottom, top)
    shapes = svg.axis_left(y, left, right, svg.tenths, svg.ticks(y.low, y.high))
    shapes += svg.axis_below(x, top, bottom, lambda double: f"{2**double:g}", doubles)
    shapes.append(text("epsilon promised to every patient", (left + right) / 2, bottom + 36, text_anchor="middle"))
    for number, each in enumerate(private):
        shapes += _curve(each, number, x, y, (number - (len(private) - 1) / 2) * _DODGE)
        shapes.append(_mark(number, right + 24, top + _STEP * number))
    for number, (name, estimate, stroke, dash) in enumerate(levels, start=len(private)):
        style: dict[str, str | float] = {"stroke": stroke, "stroke_width": 1.5, "stroke_dasharray": dash}
        shapes.append(line(right + 14, top + _STEP * number, right + 34, top + _STEP * number, **style))
        if estimate.mean is not None:
            shapes.append(titled(line(left, y(estimate.mean), right, y(estimate.mean), **style), f"{name}: {estimate}"))
    shapes += [text(name, right + 40, top + _STEP * number + 4) for number, name in enumerate(names)]
    words = "; ".join(
        f"{each.name}: " + ", ".join(f"{point.epsilon:g}: {point.balanced_accuracy}" for point in each.points)
        for each in private
    )
    return svg.picture(shapes, svg.WIDTH, bottom + 44, title, f"Guessing gives {chance:.3f}; {words}")


def _curve(each: SweepLine, number: int, x: Axis, y: Axis, shift: float) -> list[str]:
    """Returns a mechanism's line, its interval bars and its marks; bars end where the chart does."""
    ends, marks = [], []
    for point in each.points:
        estimate, place = point.balanced_accuracy, x(_double(point)) + shift
        if estimate.mean is not None:
            ends.append((place, y(estimate.mean)))
            bar = svg.interval(estimate.ends, y, place, upright=True, stroke=_colour(number), stroke_width=1.4)
            mark = bar + _mark(number, *ends[-1])
            marks.append(titled(mark, f"{each.name}, epsilon {point.epsilon:g}: {estimate}"))
    return [polyline(ends, stroke=_colour(number), stroke_width=1.8), *marks]


def _double(point: SweepPoint) -> float:
    return math.log2(point.epsilon or 1.0)


def _colour(number: int) -> str:
    """The colour of a mechanism's line: a variable of the page, with a fallback."""
    place = number % len(_COLOURS)
    return f"var(--line-{place}, {_COLOURS[place]})"


def _mark(number: int, x: float, y: float) -> str:
    return text(_MARKS[number % len(_MARKS)], x, y + 4.2, text_anchor="middle", fill=_colour(number))
