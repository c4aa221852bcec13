"""Plots of a sweep: a figure against epsilon with its intervals, and what was spent against what was promised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medtl_core.report import numerals
from medtl_core.report.plots import WIDTH
from medtl_core.report.summary import Estimate
from medtl_core.report.svg import (
    INK,
    MUTED,
    PAPER,
    Scale,
    axis_left,
    element,
    line,
    picture,
    polyline,
    text,
    text_width,
    titled,
)

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
_DODGE = 5.0
_STEP = 16.0


@dataclass(frozen=True)
class Point:
    """A figure at one epsilon."""

    epsilon: float
    found: Estimate


@dataclass(frozen=True)
class Line:
    """One mechanism: its name and its points, in order of epsilon."""

    name: str
    points: Sequence[Point]


def colour(number: int) -> str:
    """Returns the colour of a line: a variable of the page, with a fallback where the plot stands alone."""
    place = number % len(_COLOURS)
    return f"var(--line-{place}, {_COLOURS[place]})"


def against_epsilon(
    lines: Sequence[Line], references: Sequence[tuple[str, Estimate]], chance: float, title: str
) -> str:
    """Returns one line with interval bars for every mechanism, over epsilon on a logarithmic axis.

    Args:
        lines: the mechanisms.
        references: yardsticks without privacy, drawn as horizontal lines.
        chance: what guessing gives, drawn as a dashed line.
        title: names the plot for readers who do not see it.
    """
    left, top, bottom = 44.0, 14.0, 374.0
    right = WIDTH - min(max((text_width(name) for name in _names(lines, references)), default=60.0) + 44, 300.0)
    epsilons = sorted({point.epsilon for one in lines for point in one.points})
    x, y = _logarithmic(epsilons, left, right, room=0.08), Scale(*_extent(lines, references, chance), bottom, top)
    parts = [axis_left(y, left, right, "{:.1f}".format), _axis(epsilons, x, top, bottom)]
    parts.append(line(left, y(chance), right, y(chance), stroke=INK, stroke_width=1.5, stroke_dasharray="6 5"))
    labels = [_Label("guessing", y(chance), INK)]
    for number, (name, found) in enumerate(references):
        if found["mean"] is not None:
            level = y(found["mean"])
            dash = ("none", "2 3", "8 3 2 3")[number % 3]
            parts.append(titled(
                line(left, level, right, level, stroke=MUTED, stroke_width=1.5, stroke_dasharray=dash),
                f"{name}, without privacy: {_told(found)}",
            ))  # fmt: skip
            labels.append(_Label(f"{name}, not private", level, MUTED))
    for number, one in enumerate(lines):
        shift = (number - (len(lines) - 1) / 2) * _DODGE
        parts.append(_curve(one, number, shift, x, y))
        last = [point.found["mean"] for point in one.points if point.found["mean"] is not None][-1:]
        labels += [_Label(one.name, y(mean), colour(number), number) for mean in last if mean is not None]
    parts.append(_labels(labels, right, bottom + 8))
    parts.append(text("epsilon promised to every patient", (left + right) / 2, bottom + 36, text_anchor="middle"))
    words = "; ".join(
        f"{one.name}: " + ", ".join(f"{point.epsilon:g}: {_told(point.found)}" for point in one.points) for one in lines
    )
    return picture("".join(parts), WIDTH, bottom + 44, title, f"Guessing gives {chance:.3f}; {words}")


def spent_plot(lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], title: str) -> str:
    """Returns the epsilon that ledgers account for over the epsilon promised; on or under the dashed line is kept.

    Args:
        lines: mechanism and its (promised, spent) pairs, the largest spent of all hospitals and seeds.
        title: names the plot for readers who do not see it.
    """
    side, left, top = 300.0, 52.0, 12.0
    promised = sorted({pair[0] for _, pairs in lines for pair in pairs})
    every = [*promised, *(pair[1] for _, pairs in lines for pair in pairs if pair[1] > 0)]
    x = _logarithmic(every, left, left + side, room=0.06)
    y = _logarithmic(every, top + side, top, room=0.06)
    parts = [_axis(promised, x, top, top + side)]
    for value in promised:
        parts.append(line(left, y(math.log2(value)), left + side, y(math.log2(value))))
        parts.append(text(f"{value:g}", left - 6, y(math.log2(value)) + 4, text_anchor="end", fill=MUTED))
    parts.append(line(left, top + side, left + side, top, stroke=MUTED, stroke_width=1.5, stroke_dasharray="6 5"))
    for number, (name, pairs) in enumerate(lines):
        shift = (number - (len(lines) - 1) / 2) * _DODGE / 2
        for value, used in pairs:
            if used > 0:
                mark = _mark(number, x(math.log2(value)) + shift, y(math.log2(used)), 4.0)
                parts.append(titled(mark, f"{name}: {used:.4g} of {value:g} spent"))
    parts.append(text("promised", left + side / 2, top + side + 34, text_anchor="middle"))
    middle = top + side / 2
    parts.append(text("spent", 12, middle, text_anchor="middle", transform=f"rotate(-90 12 {middle:g})"))
    words = "; ".join(
        f"{name}: " + ", ".join(f"{used:.4g} of {value:g}" for value, used in pairs) for name, pairs in lines
    )
    return picture("".join(parts), left + side + 10, top + side + 42, title, words)


@dataclass(frozen=True)
class _Label:
    """Words beside the end of a line, with the mark of that line, if it has one."""

    words: str
    end: float
    colour: str
    mark: int | None = None


def _labels(labels: Sequence[_Label], x: float, bottom: float) -> str:
    """Returns labels in order of their lines' ends, moved apart where they would overlap, each with a leader."""
    ordered = sorted(labels, key=lambda label: label.end)
    parts = []
    for label, place in zip(ordered, apart([label.end for label in ordered], _STEP, bottom), strict=True):
        parts.append(polyline([(x, label.end), (x + 14, place)], stroke=label.colour, stroke_width=1.0))
        start = x + 18
        if label.mark is not None:
            parts.append(_mark(label.mark, x + 21, place, 4.2))
            start = x + 30
        parts.append(text(label.words, start, place + 4, fill=label.colour))
    return "".join(parts)


def apart(places: Sequence[float], step: float, most: float) -> list[float]:
    """Returns places at least `step` apart and as near as can be to those given, which rise; none is above `most`.

    Least squares by pooling neighbours that would overlap (isotonic regression).

    Example:
        >>> apart([10.0, 11.0, 50.0], 5.0, 100.0)
        [8.0, 13.0, 50.0]
    """
    pools: list[list[float]] = []
    for number, place in enumerate(places):
        pools.append([place - number * step])
        while len(pools) > 1 and sum(pools[-2]) / len(pools[-2]) > sum(pools[-1]) / len(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    levels = [sum(pool) / len(pool) for pool in pools for _ in pool]
    highest = most - step * (len(places) - 1)
    return [min(level, highest) + number * step for number, level in enumerate(levels)]


def _curve(one: Line, number: int, shift: float, x: Scale, y: Scale) -> str:
    """Returns a mechanism's line, its interval bars and its marks; bars end where the plot does."""
    drawn = [(x(math.log2(point.epsilon)) + shift, point) for point in one.points if point.found["mean"] is not None]
    heights = [y(point.found["mean"] or 0.0) for _, point in drawn]
    ends = [(place, height) for (place, _), height in zip(drawn, heights, strict=True)]
    parts = [polyline(ends, stroke=colour(number), stroke_width=1.8)]
    for (place, point), height in zip(drawn, heights, strict=True):
        low, high = point.found["low"], point.found["high"]
        bar = ""
        if low is not None and high is not None:
            reach = [y(min(max(value, y.low), y.high)) for value in (low, high)]
            bar = line(place, reach[0], place, reach[1], stroke=colour(number), stroke_width=1.4)
            bar += "".join(
                line(place - 3, end, place + 3, end, stroke=colour(number), stroke_width=1.4) for end in reach
            )
        told = f"{one.name}, epsilon {point.epsilon:g}: {_told(point.found)}"
        parts.append(titled(bar + _mark(number, place, height, 4.2), told))
    return "".join(parts)


def _mark(number: int, x: float, y: float, radius: float) -> str:
    corners = _SHAPES[number % len(_SHAPES)]
    style: dict[str, str | float] = {"fill": colour(number), "stroke": PAPER, "stroke_width": 1.0}
    if not corners:
        return element("circle", cx=x, cy=y, r=radius, **style)
    points = " ".join(f"{x + radius * across:.1f},{y + radius * down:.1f}" for across, down in corners)
    return element("polygon", points=points, **style)


def _axis(epsilons: Sequence[float], x: Scale, top: float, bottom: float) -> str:
    """Returns a grid line and a label at every epsilon that was tried."""
    parts = []
    for value in epsilons:
        place = x(math.log2(value))
        parts += [
            line(place, top, place, bottom),
            text(f"{value:g}", place, bottom + 16, text_anchor="middle", fill=MUTED),
        ]
    return "".join(parts)


def _logarithmic(values: Sequence[float], start: float, stop: float, *, room: float) -> Scale:
    """Returns the scale of base-2 logarithms, with a share of room at both ends."""
    logs = [math.log2(value) for value in values] or [0.0]
    spare = room * (max(logs) - min(logs)) or 1.0
    return Scale(min(logs) - spare, max(logs) + spare, start, stop)


def _extent(lines: Sequence[Line], references: Sequence[tuple[str, Estimate]], chance: float) -> tuple[float, float]:
    """Returns ends that hold every mean, interval and yardstick, rounded outwards to tenths inside [0, 1]."""
    estimates = [point.found for one in lines for point in one.points] + [found for _, found in references]
    known = [value for found in estimates for key in ("mean", "low", "high") if (value := found[key]) is not None]
    low, high = max(0.0, min([chance, *known])), min(1.0, max([chance, *known]))
    return max(0.0, math.floor(low * 10 - 0.2) / 10), min(1.0, math.ceil(high * 10 + 0.2) / 10)


def _names(lines: Sequence[Line], references: Sequence[tuple[str, Estimate]]) -> list[str]:
    return [*(one.name for one in lines), *(f"{name}, not private" for name, _ in references)]


def _told(found: Estimate) -> str:
    return f"{numerals.figure(found['mean'])} {numerals.spread(found)}".strip()
