"""Charts of curves: ROC by site, and reliability."""

from collections.abc import Mapping, Sequence

from medtl_core.evaluation.formulas import Curve
from medtl_core.report import numerals, svg
from medtl_core.report.pool import CalibrationBin, SiteSummary
from medtl_core.report.svg import Axis, element, line, polyline, tenths, text, titled


def roc_grid(
    sites: Mapping[str, SiteSummary], curves: Mapping[str, Curve | None], overall: Curve | None, title: str
) -> str:
    """Returns one small ROC panel for every site, each before the curve of all sites in grey.

    Where there is no site, one panel shows the curve of all of them. The title is for readers who do not see the chart.
    """
    drawn: Mapping[str, SiteSummary | None] = sites or {"all sites": None}
    columns = min(len(drawn), 4)
    gap, head, foot, left = 32.0, 24.0, 34.0, 30.0
    side = min((svg.WIDTH - left - 10 - gap * (columns - 1)) / columns, 250.0)
    height = head + side + foot
    shapes: list[str] = []
    for number, (site, summary) in enumerate(drawn.items()):
        row, column = divmod(number, columns)
        start, top = left + column * (side + gap), row * height + head
        x, y = Axis(0, 1, start, start + side), Axis(0, 1, top + side, top)
        shapes += _square(x, y, labelled=column == 0)
        shapes += _trace(overall, x, y, stroke=svg.THIRD, stroke_width=1.5, opacity=0.7)
        shapes += _trace(curves[site] if summary else overall, x, y)
        shapes += _roc_words(x, y, site, summary)
    words = "; ".join(f"{name}: AUROC {_auroc(summary)}" for name, summary in drawn.items())
    width = left + columns * side + (columns - 1) * gap + 10
    return svg.picture(shapes, width, -(-len(drawn) // columns) * height, title, words)


def reliability_diagram(bins: Sequence[CalibrationBin], title: str) -> str:
    """Returns the reliability diagram: accuracy over stated confidence, with the number of cases underneath."""
    side, left, top, strip = 260.0, 44.0, 12.0, 44.0
    x, y = Axis(0, 1, left, left + side), Axis(0, 1, top + side, top)
    below, shares = top + side + 8, svg.ticks(0.0, 1.0)
    end = below + strip
    shapes = svg.axis_left(y, left, left + side, tenths, shares)
    shapes += [line(x(tick), top, x(tick), top + side) for tick in shares]
    shapes.append(line(x(0), y(0), x(1), y(1), stroke=svg.MUTED, stroke_dasharray="4 4"))
    shapes.append(polyline((x(item.confidence), y(item.accuracy)) for item in bins))
    height = Axis(0, max((item.count for item in bins), default=1.0), 0, strip)
    for item in bins:
        place, tall = x(item.confidence), height(item.count)
        dot = element("circle", cx=place, cy=y(item.accuracy), r=4.0, fill=svg.FOCUS, stroke=svg.PAPER)
        bar = element("rect", x=place - 6, y=below + strip - tall, width=12.0, height=tall, fill=svg.FOCUS_SOFT)
        words = f"confidence {item.confidence:.2f}, right {item.accuracy:.2f}, {item.count:.0f} cases"
        shapes.append(titled(dot + bar, words))
    shapes.append(line(left, end, left + side, end, stroke=svg.MUTED))
    shapes += [text(tenths(tick), x(tick), end + 15, text_anchor="middle", fill=svg.MUTED) for tick in shares]
    shapes.append(text("stated confidence", left + side / 2, end + 33, text_anchor="middle"))
    shapes.append(svg.upright("share answered right", 12, top + side / 2))
    shapes.append(svg.upright("cases", 12, below + strip / 2, svg.MUTED))
    words = "; ".join(f"{item.confidence:.2f}: {item.accuracy:.2f} ({item.count:.0f} cases)" for item in bins)
    return svg.picture(shapes, left + side + 14, end + 40, title, words)


def _square(x: Axis, y: Axis, *, labelled: bool) -> list[str]:
    """Returns the frame of a ROC curve, with the diagonal that guessing gives."""
    ends, side = (0.0, 0.5, 1.0), x.stop - x.start
    shapes = [element("rect", x=x.start, y=y.stop, width=side, height=side, fill="none", stroke=svg.GRID)]
    shapes += [line(x(0.5), y.stop, x(0.5), y.start), line(x.start, y(0.5), x.stop, y(0.5))]
    shapes.append(line(x(0), y(0), x(1), y(1), stroke=svg.MUTED, stroke_dasharray="3 4"))
    shapes += [text(tenths(tick), x(tick), y.start + 15, text_anchor="middle", fill=svg.MUTED) for tick in ends]
    if labelled:
        shapes += [text(tenths(tick), x.start - 5, y(tick) + 4, text_anchor="end", fill=svg.MUTED) for tick in ends]
    return shapes


def _trace(curve: Curve | None, x: Axis, y: Axis, **style: str | float) -> list[str]:
    if curve is None:
        return []
    return [polyline([(x(across), y(up)) for across, up in zip(*curve, strict=True)], **style)]


def _roc_words(x: Axis, y: Axis, site: str, summary: SiteSummary | None) -> list[str]:
    """Returns a panel's heading, its AUROC and the number of its test cases."""
    defined = summary is not None and summary.auroc.mean is not None
    words = f"AUROC {_auroc(summary)}" if defined else "AUROC not defined"
    style: dict[str, str | float] = {"font_size": 13.0, "font_weight": "600"}
    shapes = [text(site, x.start, y.stop - 8, **style)]
    shapes.append(text(words, x.stop - 8, y.start - 26, text_anchor="end", **style))
    if summary is not None:
        shapes.append(
            text(f"{summary.cases:.0f} test cases", x.stop - 8, y.start - 9, text_anchor="end", fill=svg.MUTED)
        )
    return shapes


def _auroc(summary: SiteSummary | None) -> str:
    return numerals.figure(None if summary is None else summary.auroc.mean)
