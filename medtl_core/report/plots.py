"""Plots that judge: comparison of methods, ROC per site, reliability. Bars are in `medtl_core.report.bars`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from medtl_core.report import numerals
from medtl_core.report.pool import Bin
from medtl_core.report.summary import Estimate
from medtl_core.report.svg import (
    FOCUS,
    FOCUS_SOFT,
    GRID,
    INK,
    MUTED,
    PAPER,
    THIRD,
    Scale,
    axis_below,
    axis_left,
    element,
    line,
    picture,
    polyline,
    text,
    text_width,
    titled,
)

#: Width of a full-width plot in pixels; the page scales it down on a small screen.
WIDTH = 864.0

Curve = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class Row:
    """One method in a comparison.

    Attributes:
        name: as written at the left.
        estimates: one for each panel, in order.
        focus: whether the report looks at this method closely.
        reference: whether it is a yardstick and not a federated method.
    """

    name: str
    estimates: Sequence[Estimate]
    focus: bool = False
    reference: bool = False


@dataclass(frozen=True)
class RocPanel:
    """One site in a grid of ROC curves: its name, its curve, its AUROC and the number of its test cases."""

    name: str
    curve: Curve | None
    auroc: float | None
    cases: float | None = None


def comparison(rows: Sequence[Row], panels: Sequence[str], title: str = "Comparison of methods") -> str:
    """Returns one dot with its interval for every method, one panel for every figure."""
    left = min(max((text_width(row.name, 13) for row in rows), default=60.0) + 16, 240.0)
    gap, value_room, top, step = 26.0, 46.0, 34.0, 27.0
    width = (WIDTH - left - gap * (len(panels) - 1)) / max(len(panels), 1)
    bottom = top + step * len(rows)
    parts = [_band(rows, top, step)]
    parts += [_name(row, left - 12, top + step * (number + 0.5)) for number, row in enumerate(rows)]
    for number, heading in enumerate(panels):
        start = left + number * (width + gap)
        estimates = [row.estimates[number] for row in rows]
        scale = Scale(*_extent(estimates), start + 6, start + width - value_room)
        parts.append(text(heading, start + 6, 18, font_weight="600"))
        parts.append(axis_below(scale, top, bottom, "{:.2f}".format, 4))
        parts += [
            _dot(row, row.estimates[number], scale, top + step * (place + 0.5), start + width)
            for place, row in enumerate(rows)
        ]
    words = "; ".join(
        f"{row.name}: "
        + ", ".join(
            f"{heading} {numerals.figure(found['mean'])} {numerals.spread(found)}".strip()
            for heading, found in zip(panels, row.estimates, strict=True)
        )
        for row in rows
    )
    return picture("".join(parts), WIDTH, bottom + 26, title, words)


def roc_grid(panels: Sequence[RocPanel], overall: Curve | None, title: str = "ROC curves by site") -> str:
    """Returns one small ROC panel for every site, each before the curve of all sites in grey."""
    columns = min(max(len(panels), 1), 4)
    gap, head, foot, left = 32.0, 24.0, 34.0, 30.0
    side = min((WIDTH - left - 10 - gap * (columns - 1)) / columns, 250.0)
    height = head + side + foot
    parts = []
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        parts.append(_roc_panel(panel, overall, left + column * (side + gap), row * height + head, side, column == 0))
    lines = -(-len(panels) // columns)
    words = "; ".join(f"{panel.name}: AUROC {numerals.figure(panel.auroc)}" for panel in panels)
    return picture("".join(parts), left + columns * side + (columns - 1) * gap + 10, lines * height, title, words)


def reliability(bins: Sequence[Bin], title: str = "Reliability") -> str:
    """Returns the reliability diagram: accuracy over stated confidence, with the number of cases underneath."""
    side, left, top, strip = 260.0, 44.0, 12.0, 44.0
    x, y = Scale(0, 1, left, left + side), Scale(0, 1, top + side, top)
    below = top + side + 8
    parts = [axis_left(y, left, left + side, _tenth)]
    parts += [line(x(tick / 5), top, x(tick / 5), top + side) for tick in range(6)]
    parts.append(line(x(0), y(0), x(1), y(1), stroke=MUTED, stroke_dasharray="4 4"))
    parts.append(polyline([(x(item.confidence), y(item.accuracy)) for item in bins]))
    most = max((item.count for item in bins), default=1.0)
    height = Scale(0, most, 0, strip)
    for item in bins:
        words = f"confidence {item.confidence:.2f}, right {item.accuracy:.2f}, {item.count:.0f} cases"
        dot = element("circle", cx=x(item.confidence), cy=y(item.accuracy), r=4.0, fill=FOCUS, stroke=PAPER)
        bar = element(
            "rect",
            x=x(item.confidence) - 6,
            y=below + strip - height(item.count),
            width=12.0,
            height=height(item.count),
            fill=FOCUS_SOFT,
        )
        parts.append(titled(dot + bar, words))
    end = below + strip
    parts.append(line(left, end, left + side, end, stroke=MUTED))
    parts += [text(_tenth(tick / 5), x(tick / 5), end + 15, text_anchor="middle", fill=MUTED) for tick in range(6)]
    parts.append(text("stated confidence", left + side / 2, end + 33, text_anchor="middle"))
    parts.append(_upright("share answered right", 12, top + side / 2))
    parts.append(_upright("cases", 12, below + strip / 2, MUTED))
    words = "; ".join(f"{item.confidence:.2f}: {item.accuracy:.2f} ({item.count:.0f} cases)" for item in bins)
    return picture("".join(parts), left + side + 14, end + 40, title, words)


def _band(rows: Sequence[Row], top: float, step: float) -> str:
    return "".join(
        element("rect", x=0.0, y=top + step * number, width=WIDTH, height=step, rx=4.0, fill=FOCUS_SOFT, opacity=0.45)
        for number, row in enumerate(rows)
        if row.focus
    )


def _name(row: Row, x: float, y: float) -> str:
    weight = "650" if row.focus else "400"
    fill = MUTED if row.reference else INK
    return text(row.name, x, y + 4.5, font_size=13.0, text_anchor="end", font_weight=weight, fill=fill)


def _dot(row: Row, found: Estimate, scale: Scale, y: float, end: float) -> str:
    mean, low, high = found["mean"], found["low"], found["high"]
    colour = THIRD if row.reference else FOCUS
    value = text(numerals.figure(mean), end, y + 4.5, text_anchor="end", font_weight="650" if row.focus else "400")
    if mean is None:
        return value
    parts = []
    if low is not None and high is not None:
        ends = (max(scale(low), scale.start), min(scale(high), scale.stop))
        parts.append(line(ends[0], y, ends[1], y, stroke=colour, stroke_width=2.0))
        parts += [line(place, y - 4, place, y + 4, stroke=colour, stroke_width=2.0) for place in ends]
    # A reference is hollow, so that it differs by shape and not by colour alone.
    fill = PAPER if row.reference else colour
    parts.append(element("circle", cx=scale(mean), cy=y, r=5.0, fill=fill, stroke=colour, stroke_width=2.0))
    return titled("".join(parts), f"{row.name}: {numerals.figure(mean)} {numerals.spread(found)}".strip()) + value


def _extent(estimates: Sequence[Estimate]) -> tuple[float, float]:
    """Returns ends that hold every dot and interval, rounded outwards to twentieths inside [0, 1]."""
    known = [value for found in estimates for key in ("mean", "low", "high") if (value := found[key]) is not None]
    if not known:
        return 0.0, 1.0
    low, high = max(0.0, min(known)), min(1.0, max(known))
    low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    return (low, high) if high - low >= 0.1 else (max(0.0, high - 0.1), min(1.0, max(high, 0.1)))


def _roc_panel(panel: RocPanel, overall: Curve | None, left: float, top: float, side: float, labelled: bool) -> str:
    x, y = Scale(0, 1, left, left + side), Scale(0, 1, top + side, top)
    ends = (0.0, 0.5, 1.0)
    parts = [element("rect", x=left, y=top, width=side, height=side, fill="none", stroke=GRID)]
    parts += [line(x(0.5), top, x(0.5), top + side), line(left, y(0.5), left + side, y(0.5))]
    parts.append(line(x(0), y(0), x(1), y(1), stroke=MUTED, stroke_dasharray="3 4"))
    parts += [text(_tenth(tick), x(tick), top + side + 15, text_anchor="middle", fill=MUTED) for tick in ends]
    if labelled:
        parts += [text(_tenth(tick), left - 5, y(tick) + 4, text_anchor="end", fill=MUTED) for tick in ends]
    if overall is not None:
        parts.append(polyline(_points(overall, x, y), stroke=THIRD, stroke_width=1.5, opacity=0.7))
    if panel.curve is not None:
        parts.append(polyline(_points(panel.curve, x, y)))
    parts.append(text(panel.name, left, top - 8, font_size=13.0, font_weight="600"))
    words = f"AUROC {numerals.figure(panel.auroc)}" if panel.auroc is not None else "AUROC not defined"
    parts.append(text(words, left + side - 8, top + side - 26, text_anchor="end", font_size=13.0, font_weight="600"))
    if panel.cases is not None:
        cases = f"{panel.cases:.0f} test cases"
        parts.append(text(cases, left + side - 8, top + side - 9, text_anchor="end", fill=MUTED))
    return "".join(parts)


def _points(curve: Curve, x: Scale, y: Scale) -> list[tuple[float, float]]:
    return [(x(first), y(second)) for first, second in zip(*curve, strict=True)]


def _upright(words: str, x: float, y: float, fill: str = INK) -> str:
    return text(words, x, y, text_anchor="middle", fill=fill, transform=f"rotate(-90 {x:g} {y:g})")


def _tenth(value: float) -> str:
    return f"{value:.1f}"
