"""The parts of the report page: each function turns results into what one section shows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medtl_core.report import bars, numerals, plots, pool
from medtl_core.report.summary import FIGURES, Estimate, Result, focus, role

#: More panels than this in one ROC grid cannot be read; the table still lists every site.
MOST_PANELS = 24

#: Figures shown with their interval in the wide table; `metrics.json` holds the intervals of all.
_WITH_INTERVAL = ("balanced_accuracy", "auroc", "auprc", "worst_site")


@dataclass(frozen=True)
class Cell:
    """One table cell: a value and a smaller remark under it."""

    value: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One table row."""

    name: str
    cells: Sequence[Cell]
    style: str = ""


@dataclass(frozen=True)
class Table:
    """One table with its caption and the headings of its columns, the names' own first."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Line]


def method_plot(metrics: Mapping[str, Any]) -> str:
    """Returns the comparison of methods in balanced accuracy and AUROC."""
    rows = [
        plots.Row(
            name, [method["balanced_accuracy"], method["auroc"]], name == focus(metrics), role(name) != "federated"
        )
        for name, method in metrics["methods"].items()
    ]
    return plots.comparison(rows, ["Balanced accuracy", "AUROC"])


def method_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Returns the table of judged figures and the table of gains and costs."""
    chosen = focus(metrics)
    judged, spent = [], []
    for name, method in metrics["methods"].items():
        style = "focus" if name == chosen else "" if role(name) == "federated" else "reference"
        judged.append(Line(name, [_cell(method[figure], figure in _WITH_INTERVAL) for figure in FIGURES], style))
        spent.append(Line(name, _spent(method), style))
    headings = [heading[0].upper() + heading[1:] for heading in FIGURES.values()]
    gains = ["Balanced accuracy, against local", "AUROC, against local"]
    costs = ["Sent by a hospital", "Sent to a hospital", "Rounds", "Hospitals' CPU", "Wall time"]
    return [
        Table("The same numbers, and the other figures", ["Method", *headings], judged),
        Table("What it gained and what it cost", ["Method", *gains, *costs], spent),
    ]


def roc_plot(results: Sequence[Result], method: str) -> str:
    """Returns a method's ROC curves, one panel a site, or nothing where no curve was stored."""
    figures = _largest(pool.by_site(results, method))
    overall = pool.roc(results, method)
    panels = [
        plots.RocPanel(site, pool.roc(results, method, site), found.auroc["mean"], found.cases)
        for site, found in figures.items()
    ]
    if overall is None and not any(panel.curve for panel in panels):
        return ""
    return plots.roc_grid(panels or [plots.RocPanel("all sites", overall, None)], overall, f"ROC by site, {method}")


def compared_at_sites(metrics: Mapping[str, Any], results: Sequence[Result]) -> list[str]:
    """Returns up to three methods judged by site: the one looked at, then local, then pooled."""
    names = list(metrics["methods"])
    wanted = [focus(metrics)]
    for kind in ("local", "pooled"):
        wanted += [name for name in names if role(name) == kind][:1]
    return [name for name in dict.fromkeys(wanted) if pool.sites(results, name)]


def site_plot(results: Sequence[Result], methods: Sequence[str]) -> str:
    """Returns the bars by site, or nothing when no method was judged by site."""
    figures = {
        method: {
            site: found.balanced_accuracy["mean"] for site, found in _largest(pool.by_site(results, method)).items()
        }
        for method in methods
    }
    return bars.site_bars(figures) if any(figures.values()) else ""


def site_table(results: Sequence[Result], methods: Sequence[str]) -> Table:
    """Returns the table under `site_plot`."""
    figures = {method: pool.by_site(results, method) for method in methods}
    rows = []
    for site in dict.fromkeys(site for found in figures.values() for site in found):
        there = [figures[method].get(site) for method in methods]
        cells = [Cell(f"{max(found.cases for found in there if found):.0f}")]
        for found in there:
            cells += [_cell(found.balanced_accuracy), _cell(found.auroc)] if found else [Cell(numerals.UNDEFINED)] * 2
        rows.append(Line(site, cells))
    headings = [f"{method}: {figure}" for method in methods for figure in ("balanced accuracy", "AUROC")]
    return Table("Test cases of each site", ["Site", "Cases", *headings], rows)


def reliability_plot(results: Sequence[Result], method: str) -> str:
    """Returns a method's reliability diagram, or nothing where none was stored."""
    bins = pool.reliability(results, method)
    return plots.reliability(bins, f"Reliability, {method}") if bins else ""


def reliability_table(results: Sequence[Result], method: str) -> Table:
    """Returns the table beside the reliability diagram."""
    rows = [
        line(numerals.figure(item.confidence), numerals.figure(item.accuracy), f"{item.count:.0f}")
        for item in pool.reliability(results, method)
    ]
    return Table("The same bins", ["Stated confidence", "Answered right", "Cases"], rows)


def phase_table(exchanges: Sequence[pool.Exchange]) -> Table:
    """Returns sums per phase, phases in the order in which they first appear."""
    rows = []
    for phase in dict.fromkeys(item.phase for item in exchanges):
        same = [item for item in exchanges if item.phase == phase]
        rows.append(
            line(
                phase,
                str(len(same)),
                numerals.size(sum(item.bytes_up for item in same)),
                numerals.size(sum(item.bytes_down for item in same)),
                numerals.seconds(sum(item.seconds for item in same)),
                f"{sum(item.failures for item in same):g}",
            )
        )
    headings = ["Phase", "Exchanges", "From hospitals", "To hospitals", "Time", "Failed replies"]
    return Table("Per phase, over all hospitals", headings, rows)


def exchange_table(exchanges: Sequence[pool.Exchange]) -> Table:
    """Returns the numbers of the plot of rounds, one row an exchange."""
    rows = [
        line(
            item.phase,
            str(item.round),
            numerals.size(item.bytes_up),
            numerals.size(item.bytes_down),
            numerals.seconds(item.seconds),
            f"{item.replies:g}",
            f"{item.failures:g}",
        )
        for item in exchanges
    ]
    headings = ["Phase", "Round", "From hospitals", "To hospitals", "Time", "Replies", "Failed"]
    return Table("Exchanges in order", headings, rows)


def failure_table(results: Sequence[Result]) -> Table:
    """Returns every kind of failure with how often it happened."""
    counted = Counter(
        (str(failure["site"]), f"{failure['code']}: {failure['text']}", str(result["seed"]))
        for result in results
        for failure in result.get("failures", ())
    )
    rows = [line(*place, str(times)) for place, times in counted.items()]
    return Table("Failed replies", ["Hospital", "What", "Seed", "Times"], rows)


def line(name: str, *cells: str) -> Line:
    """Returns a table row of plain texts."""
    return Line(name, [Cell(cell) for cell in cells])


def _largest(figures: Mapping[str, pool.SiteFigures]) -> dict[str, pool.SiteFigures]:
    """Returns the sites with the most cases, as many as can be drawn, in their given order."""
    kept = set(sorted(figures, key=lambda site: -figures[site].cases)[:MOST_PANELS])
    return {site: found for site, found in figures.items() if site in kept}


def _cell(found: Estimate, interval: bool = True) -> Cell:
    return Cell(numerals.figure(found["mean"]), numerals.spread(found) if interval else "")


def _gain(method: Mapping[str, Any], figure: str) -> Cell:
    found = method.get("versus_local", {}).get(figure)
    if not found:
        return Cell(numerals.UNDEFINED)
    low, high = found["low"], found["high"]
    note = "" if low is None or high is None else f"{numerals.signed(low)} to {numerals.signed(high)}"
    return Cell(numerals.signed(found["mean"]), note)


def _spent(method: Mapping[str, Any]) -> list[Cell]:
    rounds = method["rounds"]
    return [
        _gain(method, "balanced_accuracy"),
        _gain(method, "auroc"),
        Cell(numerals.size(method["bytes_up"])),
        Cell(numerals.size(method["bytes_down"])),
        Cell(numerals.UNDEFINED if rounds is None else f"{rounds:g}"),
        Cell(numerals.seconds(method["cpu_seconds"])),
        Cell(numerals.seconds(method["wall_seconds"])),
    ]
