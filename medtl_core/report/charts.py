"""Charts of figures: the forest plot of methods, balanced accuracy by site, and what every round moved and took."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

from medtl_core.report import numerals, svg
from medtl_core.report.estimate import Estimate
from medtl_core.report.pool import MeanExchange, SiteSummary
from medtl_core.report.svg import Axis, element, line, text, titled

#: Panels of the forest plot.
_PANELS: Mapping[str, str] = {"balanced_accuracy": "Balanced accuracy", "auroc": "AUROC", "concordance": "Concordance"}
#: Fill and outline of the bars of up to three methods; they differ in lightness as well as in colour.
_BARS = ((svg.FOCUS, svg.FOCUS), (svg.GRID, svg.THIRD), (svg.FOCUS_SOFT, svg.FOCUS))


def forest_plot(methods: Mapping[str, Mapping[str, Estimate]], references: Collection[str], focus: str = "") -> str:
    """Returns one dot with its interval for every method, one panel for every figure.

    Args:
        methods: name -> figure -> its estimate.
        references: names whose dots are hollow.
        focus: the name on a band of colour, if any.
    """
    left, gap, top, step = svg.names_width(methods), 26.0, 34.0, 27.0
    panels = {figure: heading for figure, heading in _PANELS.items() if all(figure in row for row in methods.values())}
    width = (svg.WIDTH - left - gap * (len(panels) - 1)) / len(panels)
    middles = {name: top + step * (number + 0.5) for number, name in enumerate(methods)}
    bottom = top + step * len(middles)
    shapes = []
    if focus:
        band: dict[str, str | float] = {"width": svg.WIDTH, "height": step, "rx": 4.0}
        shapes.append(element("rect", x=0.0, y=middles[focus] - step / 2, **band, fill=svg.FOCUS_SOFT, opacity=0.45))
    for name, y in middles.items():
        style: dict[str, str | float] = {"text_anchor": "end", "font_weight": "650" if name == focus else "400"}
        fill = svg.MUTED if name in references else svg.INK
        shapes.append(text(name, left - 12, y + 4.5, font_size=13.0, **style, fill=fill))
    for number, (figure, heading) in enumerate(panels.items()):
        start = left + number * (width + gap)
        estimates = {name: figures[figure] for name, figures in methods.items()}
        axis = Axis(*_extent(estimates.values()), start + 6, start + width - 46)
        shapes.append(text(heading, start + 6, 18, font_weight="600"))
        shapes += svg.axis_below(axis, top, bottom, "{:.2f}".format, svg.ticks(axis.low, axis.high, 4))
        for name, estimate in estimates.items():
            weight = "650" if name == focus else "400"
            shapes.append(_dot(name, estimate, axis, middles[name], hollow=name in references))
            shapes.append(
                text(estimate.figure, start + width, middles[name] + 4.5, text_anchor="end", font_weight=weight)
            )
    words = "; ".join(
        f"{name}: " + ", ".join(f"{heading} {figures[figure]}" for figure, heading in panels.items())
        for name, figures in methods.items()
    )
    return svg.picture(shapes, svg.WIDTH, bottom + 26, "Comparison of methods", words)


def site_bars(figures: Mapping[str, Mapping[str, SiteSummary]], figure: str = "balanced_accuracy") -> str:
    """Returns horizontal bars, a group for every site and a bar for each of at most three methods (method -> site)."""
    methods = list(figures)[: len(_BARS)]
    sites = list(dict.fromkeys(site for method in methods for site in figures[method]))
    left, thick, gap, top = svg.names_width(sites), 15.0, 14.0, 30.0
    group = thick * len(methods) + gap
    bottom = top + group * len(sites)
    axis = Axis(0.0, 1.0, left, svg.WIDTH - 50)
    shapes = [*_legend(methods, left), *svg.axis_below(axis, top, bottom, svg.tenths, svg.ticks(0.0, 1.0))]
    words = []
    for place, site in enumerate(sites):
        start = top + place * group + gap / 2
        middle = start + thick * len(methods) / 2 + 4.5
        shapes.append(text(site, left - 10, middle, text_anchor="end", font_size=13.0))
        values = {
            method: getattr(figures[method][site], figure).mean if site in figures[method] else None
            for method in methods
        }
        for number, (method, value) in enumerate(values.items()):
            shapes.append(_bar(f"{site}, {method}", value, axis, start + number * thick, thick - 2, _BARS[number]))
        words.append(f"{site}: " + ", ".join(f"{name} {numerals.figure(value)}" for name, value in values.items()))
    return svg.picture(shapes, svg.WIDTH, bottom + 26, f"{_PANELS[figure]} by site", "; ".join(words))


def round_bars(exchanges: Sequence[MeanExchange]) -> str:
    """Returns three strips of bars over the run's exchanges in order: bytes moved either way, and seconds taken."""
    left, top, height, gap = 64.0, 26.0, 92.0, 42.0
    x = Axis(0, max(len(exchanges), 1), left, svg.WIDTH - 6)
    wide = min(max((x.stop - x.start) / x.high - 2, 1.0), 40.0)
    strips: list[tuple[str, list[float], str, svg.Write]] = [
        ("sent by all hospitals", [item.bytes_up for item in exchanges], svg.FOCUS, numerals.size),
        ("sent to all hospitals", [item.bytes_down for item in exchanges], svg.THIRD, numerals.size),
        ("seconds", [item.seconds for item in exchanges], svg.SECOND, numerals.seconds),
    ]
    shapes: list[str] = []
    for number, (heading, values, colour, write) in enumerate(strips):
        start = top + number * (height + gap)
        y = Axis(0.0, max(values, default=0.0) or 1.0, start + height, start)
        shapes.append(text(heading, left, start - 10, font_weight="600"))
        shapes += svg.axis_left(y, left, x.stop, write, svg.ticks(0.0, y.high, 3))
        for place, (item, value) in enumerate(zip(exchanges, values, strict=True)):
            size = {"x": x(place + 0.5) - wide / 2, "y": y(value), "width": wide, "height": y.start - y(value)}
            bar = element("rect", **size, fill=colour)
            shapes.append(titled(bar, f"{item.phase}, round {item.round}: {write(value)}"))
        shapes.append(line(left, y.start, x.stop, y.start, stroke=svg.MUTED))
    bottom = top + len(strips) * (height + gap) - gap
    phases, room = _phases(exchanges, x, bottom)
    words = "; ".join(
        f"{item.phase} {item.round}: {numerals.size(item.bytes_up)} up, {numerals.size(item.bytes_down)} down, "
        f"{numerals.seconds(item.seconds)}"
        for item in exchanges
    )
    title = "Bytes and seconds of every round"
    return svg.picture([*shapes, *phases], svg.WIDTH, bottom + 34 + room, title, words)


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


def _legend(methods: Sequence[str], left: float) -> list[str]:
    shapes, x = [], left
    for method, (fill, stroke) in zip(methods, _BARS, strict=False):
        shapes.append(element("rect", x=x, y=6.0, width=14.0, height=11.0, fill=fill, stroke=stroke))
        shapes.append(text(method, x + 20, 16))
        x += 44 + svg.text_width(method, 12)
    return shapes


def _bar(name: str, value: float | None, axis: Axis, top: float, thick: float, colours: tuple[str, str]) -> str:
    if value is None:
        return text("not defined: one class only", axis.start + 6, top + thick - 3, fill=svg.MUTED, font_size=11.0)
    end, (fill, stroke) = axis.clip(value), colours
    bar = element("rect", x=axis.start, y=top, width=end - axis.start, height=thick, fill=fill, stroke=stroke)
    words = text(numerals.figure(value), end + 6, top + thick - 2, font_size=11.0, fill=svg.INK)
    return titled(bar, f"{name}: {numerals.figure(value)}") + words


def _phases(exchanges: Sequence[MeanExchange], x: Axis, top: float) -> tuple[list[str], float]:
    """Returns a bracket with its name under every run of exchanges of one phase, and the room that slanted names need.

    A name that is wider than its bracket slants.
    """
    shapes, widest, place = [], 0.0, 0
    for phase, length in [(phase, len(list(same))) for phase, same in groupby(exchanges, lambda item: item.phase)]:
        start, stop = x(place) + 2, x(place + length) - 2
        middle = (start + stop) / 2
        shapes.append(line(start, top + 8, stop, top + 8, stroke=svg.MUTED))
        if svg.text_width(phase) <= stop - start:
            shapes.append(text(phase, middle, top + 24, text_anchor="middle", fill=svg.MUTED))
        else:
            name = phase if len(phase) <= 16 else f"{phase[:15]}…"
            slant = f"rotate(-40 {middle:.1f} {top + 20:.1f})"
            shapes.append(text(name, middle, top + 20, text_anchor="end", fill=svg.MUTED, transform=slant))
            widest = max(widest, svg.text_width(name))
        place += length
    return shapes, 0.65 * widest
