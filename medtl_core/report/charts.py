"""Charts of figures, a panel each: forest plots of methods, hospitals and groups, and bars of what phases took."""

import math
from collections.abc import Collection, Iterable, Mapping

from medtl_core.report import numerals, svg
from medtl_core.report.estimate import Estimate
from medtl_core.report.svg import PANEL, Axis, element, line, text, titled

#: Figures of the forest plot of methods, a panel each.
_FIGURES: Mapping[str, str] = {"balanced_accuracy": "Balanced accuracy", "auroc": "AUROC", "concordance": "Concordance"}
#: Pixels for figures and intervals at the right of a panel.
_WORDS = 116.0


def forest_plot(methods: Mapping[str, Mapping[str, Estimate]], references: Collection[str], focus: str = "") -> str:
    """Returns panels, one for every figure, with a dot and its interval for every method.

    Args:
        methods: name -> figure -> its estimate.
        references: names whose dots are hollow.
        focus: the name on a band of colour, if any.
    """
    panels = {figure: heading for figure, heading in _FIGURES.items() if all(figure in row for row in methods.values())}
    return "".join(
        forest({name: row[figure] for name, row in methods.items()}, heading, references, focus)
        for figure, heading in panels.items()
    )


def forest(rows: Mapping[str, Estimate], title: str, hollow: Collection[str] = (), focus: str = "") -> str:
    """Returns one panel: a dot over its interval for every row, in their order, and both in words.

    Args:
        rows: name -> its estimate.
        title: of the panel.
        hollow: names whose dots are hollow.
        focus: the name on a band of colour, if any.
    """
    left, top, step = svg.names_width(rows), 30.0, 25.0
    axis = Axis(*_extent(rows.values()), left + 6, PANEL - _WORDS - 8)
    middles = {name: top + step * (number + 0.5) for number, name in enumerate(rows)}
    bottom = top + step * len(rows)
    shapes = [text(title, 0, 16, font_weight="600", font_size=13.0)]
    if focus in rows:
        band: dict[str, str | float] = {"width": PANEL, "height": step, "rx": 4.0}
        shapes.append(element("rect", x=0.0, y=middles[focus] - step / 2, **band, fill=svg.FOCUS_SOFT, opacity=0.45))
    shapes += svg.axis_below(axis, top, bottom, "{:.2f}".format, svg.ticks(axis.low, axis.high, 3))
    for name, estimate in rows.items():
        y, weight = middles[name], "650" if name == focus else "400"
        fill = svg.MUTED if name in hollow else svg.INK
        label = text(svg.fitted(name, left - 8), left - 8, y + 4.5, text_anchor="end", font_weight=weight, fill=fill)
        shapes.append(titled(label, name))
        shapes.append(_dot(name, estimate, axis, y, hollow=name in hollow))
        told = "not defined" if estimate.mean is None else estimate.figure
        shapes.append(text(told, PANEL - _WORDS, y + 4.5, font_weight=weight))
        shapes.append(text(estimate.spread, PANEL, y + 4.5, text_anchor="end", fill=svg.MUTED, font_size=11.0))
    words = "; ".join(f"{name}: {estimate}" for name, estimate in rows.items())
    return svg.picture(shapes, PANEL, bottom + 22, title, words)


def bars(rows: Mapping[str, float], title: str, write: svg.Write, colour: str = svg.FOCUS) -> str:
    """Returns one panel of horizontal bars, each with its value in words."""
    left, top, step = svg.names_width(rows), 26.0, 19.0
    axis = Axis(0.0, max(rows.values(), default=0.0) or 1.0, left + 6, PANEL - 62)
    shapes = [text(title, 0, 14, font_weight="600", font_size=13.0)]
    for number, (name, value) in enumerate(rows.items()):
        y = top + step * number
        label = text(svg.fitted(name, left - 8), left - 8, y + 13, text_anchor="end")
        bar = element("rect", x=axis.start, y=y + 3, width=axis(value) - axis.start, height=step - 6, fill=colour)
        shapes += [titled(label + bar, f"{name}: {write(value)}"), text(write(value), axis(value) + 6, y + 13)]
    shapes.append(line(axis.start, top, axis.start, top + step * len(rows), stroke=svg.MUTED))
    words = "; ".join(f"{name}: {write(value)}" for name, value in rows.items())
    return svg.picture(shapes, PANEL, top + step * len(rows) + 6, title, words)


def phase_bars(up: Mapping[str, float], down: Mapping[str, float], seconds: Mapping[str, float]) -> str:
    """Returns panels of what each phase sent either way, over all hospitals, and how long it took."""
    return (
        bars(up, "Sent by all hospitals", numerals.size)
        + bars(down, "Sent to all hospitals", numerals.size, svg.THIRD)
        + bars(seconds, "Seconds", numerals.seconds, svg.SECOND)
    )


def _dot(name: str, estimate: Estimate, axis: Axis, y: float, *, hollow: bool) -> str:
    """Returns the mean as a dot over its interval; nothing where the figure is not defined."""
    if estimate.mean is None:
        return ""
    colour = svg.THIRD if hollow else svg.FOCUS
    shape = svg.interval(estimate.ends, axis, y, stroke=colour, stroke_width=2.0)
    # A reference is hollow, so that it differs by shape and not by colour alone.
    fill = svg.PAPER if hollow else colour
    shape += element("circle", cx=axis(estimate.mean), cy=y, r=5.0, fill=fill, stroke=colour, stroke_width=2.0)
    return titled(shape, f"{name}: {estimate}")


def _extent(estimates: Iterable[Estimate]) -> tuple[float, float]:
    """Returns ends that hold every dot and interval, rounded outwards to twentieths inside [0, 1]."""
    known = [value for each in estimates for value in (each.mean, each.low, each.high) if value is not None]
    if not known:
        return 0.0, 1.0
    low, high = max(0.0, min(known)), min(1.0, max(known))
    low, high = math.floor(low * 20) / 20, math.ceil(high * 20) / 20
    return (low, high) if high - low >= 0.1 else (max(0.0, high - 0.1), min(1.0, max(high, 0.1)))
