"""The tables of the report page; each plot's numbers stand in one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from medtl_core.evaluation.result import Cost, Result
from medtl_core.report import numerals
from medtl_core.report.estimate import Estimate
from medtl_core.report.pool import CalibrationBin, MeanExchange, SiteSummary
from medtl_core.report.promise import shown_settings
from medtl_core.report.summary import MethodSummary, Summary, role

#: Figures shown with their interval in the wide table; `metrics.json` holds the intervals of all.
_WITH_INTERVAL = ("balanced_accuracy", "auroc", "auprc", "concordance", "worst_site")
#: Settings whose values are places on the machine that ran; a page shows their last part only.
_PLACES = ("out", "state", "cache", "data-path", "test-path", "weights")


@dataclass(frozen=True)
class TableCell:
    """One cell: a value, a smaller remark under it, and how dark it is, from 0 to 1."""

    value: str
    note: str = ""
    shade: float = 0.0


@dataclass(frozen=True)
class TableRow:
    """One row; its style is "focus", "reference" or none."""

    name: str
    cells: Sequence[TableCell]
    style: str = ""


@dataclass(frozen=True)
class PageTable:
    """A table with its caption and the headings of its columns, that of the rows' names first."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[TableRow]


def plain_table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> PageTable:
    """Returns a table of values as they are written, the rows' names first."""
    return PageTable(
        caption, headings, [TableRow(f"{name}", [TableCell(f"{value}") for value in values]) for name, *values in rows]
    )


def estimate_cell(estimate: Estimate) -> TableCell:
    """Returns a figure over its interval."""
    return TableCell(estimate.figure, estimate.spread)


def method_tables(summary: Summary) -> list[PageTable]:
    """Returns the table of judged figures and the table of gains and costs."""
    judged, spent, compared = (
        [],
        [],
        [summary.main] if summary.main == "concordance" else ["balanced_accuracy", "auroc"],
    )
    # of three and more classes the mean sensitivity is the balanced accuracy
    doubled = len(summary.classes) > 2 and not summary.methods[summary.focus].labels
    headings = {key: words for key, words in summary.headings.items() if key != "sensitivity" or not doubled}
    for name, method in summary.methods.items():
        style = "focus" if name == summary.focus else "" if role(name) == "federated" else "reference"
        cells = [
            estimate_cell(estimate) if figure in _WITH_INTERVAL else TableCell(estimate.figure)
            for figure, estimate in method.figures.items()
            if figure in headings
        ]
        judged.append(TableRow(name, cells, style))
        spent.append(TableRow(name, [*_gains(method, compared), *_costs(method.cost)], style))
    gains = [f"{_capital(summary.headings[figure])}, against local" for figure in compared]
    costs = ["Sent by a hospital", "Sent to a hospital", "Rounds", "Hospitals' CPU", "Wall time"]
    return [
        PageTable("The same numbers, and the other figures", ["Method", *map(_capital, headings.values())], judged),
        PageTable("What it gained and what it cost", ["Method", *gains, *costs], spent),
    ]


def site_table(figures: Mapping[str, Mapping[str, SiteSummary]]) -> PageTable:
    """Returns how methods (method -> site -> figures) did on each site's test cases."""
    rows, every = [], [summary for sites in figures.values() for summary in sites.values()]
    followed = any(summary.concordance.mean is not None for summary in every)
    shown = {"concordance": "concordance"} if followed else {"balanced_accuracy": "balanced accuracy", "auroc": "AUROC"}
    for site in dict.fromkeys(site for sites in figures.values() for site in sites):
        there = [sites.get(site) for sites in figures.values()]
        cells = [TableCell(f"{max(summary.cases for summary in there if summary):.0f}")]
        for summary in there:
            cells += [estimate_cell(getattr(summary, figure) if summary else Estimate()) for figure in shown]
        rows.append(TableRow(site, cells))
    headings = [f"{method}: {heading}" for method in figures for heading in shown.values()]
    return PageTable("Test cases of each site", ["Site", "Cases", *headings], rows)


def reliability_table(bins: Sequence[CalibrationBin]) -> PageTable:
    """Returns the table beside the reliability diagram."""
    rows = [(numerals.figure(item.confidence), numerals.figure(item.accuracy), f"{item.count:.0f}") for item in bins]
    return plain_table("The same bins", ["Stated confidence", "Answered right", "Cases"], rows)


def phase_table(exchanges: Sequence[MeanExchange]) -> PageTable:
    """Returns sums per phase, phases in the order in which they first appear."""
    headings = ["Phase", "Exchanges", "From hospitals", "To hospitals", "Time", "Failed replies"]
    rows = []
    for phase in dict.fromkeys(item.phase for item in exchanges):
        same = [item for item in exchanges if item.phase == phase]
        sizes = (numerals.size(sum(getattr(item, way) for item in same)) for way in ("bytes_up", "bytes_down"))
        time, failures = sum(item.seconds for item in same), sum(item.failures for item in same)
        rows.append((phase, len(same), *sizes, numerals.seconds(time), f"{failures:g}"))
    return plain_table("Per phase, over all hospitals", headings, rows)


def exchange_table(exchanges: Sequence[MeanExchange]) -> PageTable:
    """Returns the numbers of the chart of rounds, one row an exchange."""
    headings = ["Phase", "Round", "From hospitals", "To hospitals", "Time", "Replies", "Failed"]
    rows = [
        (
            item.phase, item.round, numerals.size(item.bytes_up), numerals.size(item.bytes_down),
            numerals.seconds(item.seconds), f"{item.replies:g}", f"{item.failures:g}",
        )
        for item in exchanges
    ]  # fmt: skip
    return plain_table("Exchanges in order", headings, rows)


def choice_table(results: Sequence[Result], focus: str) -> PageTable | None:
    """Returns what cross-validation said of the candidates of a method that weighs some, means over the seeds."""
    facts = [result.methods[focus].facts for result in results if focus in result.methods]
    if not facts or not all({"chosen", "gains", "losses"} <= each.keys() for each in facts):
        return None
    rows = []
    for name in facts[0]["losses"]:
        loss = sum(each["losses"].get(name, 0.0) for each in facts) / len(facts)
        gains = [each["gains"][name] for each in facts if name in each["gains"]]
        gain, error = (sum(row[key] for row in gains) / len(gains) if gains else None for key in ("gain", "error"))
        taken = sum(each["chosen"] == name for each in facts)
        words = f"at {taken} of {len(facts)} seeds" if len(facts) > 1 else "taken" if taken else ""
        rows.append((name, numerals.figure(loss), numerals.signed(gain), numerals.figure(error), words))
    headings = ["Candidate", "Loss, nats", "Gain over the mean", "Standard error", "Chosen"]
    return plain_table(f"What {focus} chose on held-out training cases", headings, rows)


def failure_table(results: Sequence[Result]) -> PageTable:
    """Returns every kind of failure with how often it happened."""
    counted = Counter(
        (failure.site, f"{failure.code}: {failure.text}", result.seed)
        for result in results
        for failure in result.failures
    )
    rows = [(*what, times) for what, times in counted.items()]
    return plain_table("Failed replies", ["Hospital", "What", "Seed", "Times"], rows)


def fact_tables(result: Result, seed: str) -> list[PageTable]:
    """Returns what a run was made of: data, hospitals (of the seed named), versions, and settings without places."""
    data = {key: getattr(result.data, key) for key in ("name", "title", "licence")}
    facts = {**data, "notes": " ".join(result.data.notes)}
    about = plain_table("Data", ["Fact", "Value"], [(key, value) for key, value in facts.items() if value])
    hospitals = plain_table("Hospitals", ["Hospital", f"Training cases{seed}"], sorted(result.sites.items()))
    shown = {key: shown_place(key, value) for key, value in sorted(shown_settings(result).items())}
    return [
        *([about] if about.rows else []),
        hospitals,
        plain_table("Settings", ["Setting", "Value"], [(key, value or "(default)") for key, value in shown.items()]),
        plain_table("Versions", ["Part", "Version"], result.versions.items()),
    ]


def shown_place(key: str, value: object) -> str:
    """Returns a setting's value in words, of a place on the machine that ran its last part only."""
    return Path(f"{value}").name if key in _PLACES else f"{value}"


def _capital(heading: str) -> str:
    return heading[0].upper() + heading[1:]


def _gains(method: MethodSummary, figures: Sequence[str]) -> list[TableCell]:
    cells = []
    for figure in figures:
        gain = (method.gains or {}).get(figure, Estimate())
        note = f"{numerals.signed(gain.low)} to {numerals.signed(gain.high)}" if gain.ends else ""
        cells.append(TableCell(numerals.signed(gain.mean), note))
    return cells


def _costs(cost: Cost) -> list[TableCell]:
    sizes = (numerals.size(cost.bytes_up), numerals.size(cost.bytes_down))
    times = (numerals.seconds(cost.cpu_seconds), numerals.seconds(cost.wall_seconds))
    return [TableCell(words) for words in (*sizes, f"{cost.rounds:g}", *times)]
