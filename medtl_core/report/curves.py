"""Charts of curves, a panel each: ROC, reliability, net benefit and what abstaining buys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from medtl_core.clinical.ranking import wilson
from medtl_core.evaluation.formulas import Curve
from medtl_core.report import svg
from medtl_core.report.estimate import Estimate
from medtl_core.report.pool import CalibrationBin, SiteSummary
from medtl_core.report.svg import Axis, element, line, polyline, tenths, text, titled

#: Sides of a small and a large panel, and the room for their axes.
_SMALL, _LARGE, _LEFT, _FOOT = 190.0, 300.0, 40.0, 38.0
_SHARES = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class RocPanel:
    """One ROC curve: its name, the curve, its area, a line on its cases, and the number of those of the class."""

    name: str
    curve: Curve | None
    area: Estimate
    cases: str = ""
    positive: int = 0


def roc_grid(
    sites: Mapping[str, SiteSummary], curves: Mapping[str, Curve | None], overall: Curve | None, title: str
) -> str:
    """Returns one small ROC panel for every site, each before the curve of all sites in grey.

    Where there is no site, one panel shows the curve of all of them. The title is for readers who do not see the chart.
    """
    panels = [
        RocPanel(name, curves[name], summary.auroc, f"{summary.cases:.0f} test cases")
        for name, summary in sites.items()
    ] or [RocPanel("all sites", overall, Estimate())]
    return "".join(roc_panel(panel, title, overall if sites else None) for panel in panels)


def roc_panel(panel: RocPanel, title: str, behind: Curve | None = None, *, large: bool = False) -> str:
    """Returns a ROC curve with its area; a large one on the band of the sensitivity's 95 % interval at each point.

    The band is Wilson's interval for the cases of the class, the false positive rate taken as it is.
    """
    side, head = _LARGE if large else _SMALL, 24.0
    x, y = Axis(0, 1, _LEFT, _LEFT + side), Axis(0, 1, head + side, head)
    shapes = _square(x, y)
    if large and panel.curve and panel.positive:
        shapes.append(_band(panel.curve, panel.positive, x, y))
    shapes += _trace(behind, x, y, stroke=svg.THIRD, stroke_width=1.5, opacity=0.7)
    shapes += _trace(panel.curve, x, y)
    heading = text(svg.fitted(panel.name, side, 13), x.start, head - 9, font_size=13.0, font_weight="600")
    shapes.append(titled(heading, panel.name))
    defined = panel.area.mean is not None
    words = [f"AUROC {panel.area.figure}" if defined else "AUROC not defined", panel.area.spread, panel.cases]
    for number, word in enumerate(filter(None, reversed(words))):
        style = {"fill": svg.INK if word.startswith("AUROC") else svg.MUTED, "text_anchor": "end"}
        shapes.append(text(word, x.stop - 8, y.start - 9 - 16 * number, **style))
    shapes += _titles(x, y, "false positive rate", "sensitivity")
    told = f"{panel.name}: AUROC {panel.area}, {panel.cases}"
    return svg.picture(shapes, x.stop + 10, y.start + _FOOT, f"{title}, {panel.name}", told)


def reliability_diagram(bins: Sequence[CalibrationBin], title: str) -> str:
    """Returns accuracy over stated confidence with Wilson's interval, and the number of cases underneath."""
    side, left, top, strip = 260.0, 44.0, 12.0, 44.0
    x, y = Axis(0, 1, left, left + side), Axis(0, 1, top + side, top)
    below, shares = top + side + 8, svg.ticks(0.0, 1.0)
    end = below + strip
    shapes = svg.axis_left(y, left, left + side, tenths, shares)
    shapes += [line(x(tick), top, x(tick), top + side) for tick in shares]
    shapes.append(line(x(0), y(0), x(1), y(1), stroke=svg.MUTED, stroke_dasharray="4 4"))
    height = Axis(0, max((item.count for item in bins), default=1.0), 0, strip)
    for item in bins:
        place, tall = x(item.confidence), height(item.count)
        low, high = wilson(item.accuracy * item.count, item.count) or (0.0, 1.0)
        spread = line(place, y(low), place, y(high), stroke=svg.FOCUS, stroke_width=1.5)
        dot = element("circle", cx=place, cy=y(item.accuracy), r=4.0, fill=svg.FOCUS, stroke=svg.PAPER)
        bar = element("rect", x=place - 6, y=below + strip - tall, width=12.0, height=tall, fill=svg.FOCUS_SOFT)
        words = f"confidence {item.confidence:.2f}, right {item.accuracy:.2f}, {item.count:.0f} cases"
        shapes.append(titled(spread + dot + bar, words))
    shapes.append(line(left, end, left + side, end, stroke=svg.MUTED))
    shapes += [text(tenths(tick), x(tick), end + 15, text_anchor="middle", fill=svg.MUTED) for tick in shares]
    shapes.append(text("stated confidence", left + side / 2, end + 33, text_anchor="middle"))
    shapes.append(svg.upright("share answered right", 12, top + side / 2))
    shapes.append(svg.upright("cases", 12, below + strip / 2, svg.MUTED))
    words = "; ".join(f"{item.confidence:.2f}: {item.accuracy:.2f} ({item.count:.0f} cases)" for item in bins)
    return svg.picture(shapes, left + side + 14, end + 40, title, words)


def benefit_panel(name: str, benefit: Mapping[str, Sequence[float]], title: str) -> str:
    """Returns net benefit over the threshold probability: of the model, of answering all with the class, of none."""
    lines = {"model": benefit["model"], "all": benefit["everyone"]}
    top = max(max(benefit["model"]), max(benefit["everyone"]), 0.01) * 1.1
    x, y = Axis(0, 1, _LEFT + 8, _LEFT + 248), Axis(-0.25 * top, top, 24 + 190.0, 24.0)
    shapes = svg.axis_left(y, x.start, x.stop, "{:.2f}".format, svg.ticks(y.low, y.high, 4))
    shapes += [text(tenths(tick), x(tick), y.start + 15, text_anchor="middle", fill=svg.MUTED) for tick in _SHARES]
    shapes.append(line(x.start, y(0), x.stop, y(0), stroke=svg.INK, stroke_dasharray="2 3"))
    for key, values in lines.items():
        drawn = takewhile(lambda pair: pair[1] >= y.low, zip(benefit["threshold"], values, strict=True))
        points = [(x(threshold), y(value)) for threshold, value in drawn]
        stroke = svg.FOCUS if key == "model" else svg.THIRD
        shapes.append(polyline(points, stroke=stroke, stroke_width=2.0 if key == "model" else 1.5))
    heading = text(svg.fitted(name, 240, 13), x.start, 14, font_size=13.0, font_weight="600")
    shapes += [titled(heading, name), *_titles(x, y, "threshold probability", "net benefit")]
    words = "; ".join(
        f"at {t:g}: model {model:.3f}, all {everyone:.3f}"
        for t, model, everyone in zip(benefit["threshold"], lines["model"], lines["all"], strict=True)
    )
    return svg.picture(shapes, x.stop + 10, y.start + _FOOT, f"{title}, {name}", words)


def kept_panel(kept: Sequence[tuple[float, float]], title: str) -> str:
    """Returns the share answered rightly over the share of cases that are answered, the most confident first."""
    low = min(0.5, *(right for _, right in kept))
    x, y = Axis(0, 1, _LEFT, _LEFT + 240), Axis(low, 1, 24 + 190.0, 24.0)
    shapes = svg.axis_left(y, x.start, x.stop, "{:.2f}".format, svg.ticks(low, 1.0, 4))
    shapes += [text(tenths(tick), x(tick), y.start + 15, text_anchor="middle", fill=svg.MUTED) for tick in _SHARES]
    shapes.append(polyline((x(covered), y(right)) for covered, right in kept))
    shapes += _titles(x, y, "share of cases answered", "answered right")
    words = "; ".join(f"{covered:.2f}: {right:.3f}" for covered, right in kept)
    return svg.picture(shapes, x.stop + 10, y.start + _FOOT, title, words)


def _titles(x: Axis, y: Axis, across: str, up: str) -> list[str]:
    middle = text(across, (x.start + x.stop) / 2, y.start + 32, text_anchor="middle")
    return [middle, svg.upright(up, 11, (y.start + y.stop) / 2)]


def _square(x: Axis, y: Axis) -> list[str]:
    """Returns the frame of a ROC curve, with the diagonal that guessing gives."""
    side = x.stop - x.start
    shapes = [element("rect", x=x.start, y=y.stop, width=side, height=side, fill="none", stroke=svg.GRID)]
    shapes += [line(x(0.5), y.stop, x(0.5), y.start), line(x.start, y(0.5), x.stop, y(0.5))]
    shapes.append(line(x(0), y(0), x(1), y(1), stroke=svg.MUTED, stroke_dasharray="3 4"))
    shapes += [text(tenths(tick), x(tick), y.start + 15, text_anchor="middle", fill=svg.MUTED) for tick in _SHARES]
    shapes += [text(tenths(tick), x.start - 5, y(tick) + 4, text_anchor="end", fill=svg.MUTED) for tick in _SHARES]
    return shapes


def _trace(curve: Curve | None, x: Axis, y: Axis, **style: str | float) -> Iterable[str]:
    if curve is None:
        return []
    return [polyline([(x(across), y(up)) for across, up in zip(*curve, strict=True)], **style)]


def _band(curve: Curve, positive: int, x: Axis, y: Axis) -> str:
    ends = [wilson(up * positive, positive) or (0.0, 1.0) for up in curve[1]]
    low = [(x(across), y(end[0])) for across, end in zip(curve[0], ends, strict=True)]
    high = [(x(across), y(end[1])) for across, end in zip(curve[0], ends, strict=True)]
    points = " ".join(f"{svg.shorten(a)},{svg.shorten(b)}" for a, b in (*low, *reversed(high)))
    return element("polygon", points=points, fill=svg.FOCUS_SOFT, opacity=0.55)
