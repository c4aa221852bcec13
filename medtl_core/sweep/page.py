"""A privacy sweep for people: a table for the terminal, and one self-contained page.

The charts, tables and templates are those of `medtl_core.report`, whose page of a run this one resembles.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from medtl_core.report import numerals, template
from medtl_core.report.estimate import Estimate
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell, plain_table, run_tables
from medtl_core.report.template import markup
from medtl_core.report.terminal import NUMBER, WORD, terminal_table
from medtl_core.sweep.chart import accuracy_chart
from medtl_core.sweep.findings import (
    MARK,
    Findings,
    SweepLine,
    SweepPoint,
    intervals,
    numbers,
    remarks,
    sentences,
    shots_words,
    spending,
)
from medtl_core.versions import versions

if TYPE_CHECKING:
    from rich.table import Table

#: Figures and their captions.
_FIGURES: Mapping[str, str] = {
    "balanced_accuracy": "Balanced accuracy",
    "auroc": "AUROC",
    "worst_site": "Worst site: balanced accuracy where it is lowest",
}


def headline(findings: Findings, shots: int) -> str:
    """Returns what stands over the table of one number of shots."""
    cases = numbers(findings.public_cases(shots))
    return f"balanced accuracy by epsilon: {shots_words(shots)} at each hospital, public cases {cases}"


def sweep_table(findings: Findings, shots: int) -> "Table":
    """Returns balanced accuracy by method and epsilon as a table for the terminal, intervals in small print."""
    epsilons = (*findings.sweep.epsilons, None)
    columns = {"method": WORD, "sum": WORD, **{_heading(epsilon, "none"): NUMBER for epsilon in epsilons}}
    rows = [
        [line.method, "-" if line.sum == "none" else line.sum, *(_terminal_cell(line.at(each)) for each in epsilons)]
        for line in findings.of_shots(shots)
    ]
    return terminal_table(columns, rows, collapse_padding=True)


def _heading(epsilon: float | None, none: str) -> str:
    return none if epsilon is None else f"{epsilon:g}"


def render(findings: Findings) -> str:
    """Returns the report of a sweep: whole in itself, nothing is fetched."""
    study, sweep = findings.study, findings.sweep
    shots = [count for count in sweep.shots if findings.of_shots(count)]
    spent, current = spending(findings), versions()
    return template.render(
        "medtl_core.sweep",
        title=f"Accuracy and privacy: {sweep.plan.name}",
        data=study.data.title or sweep.data,
        classes=study.classes,
        repetitions=f"{len(findings.seeds)} seed(s)",
        synthetic=study.data.synthetic,
        lead=lead(findings, shots[-1]),
        findings=findings,
        public_cases=numbers(findings.public_cases(*sweep.shots)),
        delta=numbers(findings.delta),
        sentences=list(sentences(findings)),
        remarks=list(remarks(findings)),
        spending=f"{spent[0].upper()}{spent[1:]}.",
        interval=intervals(findings),
        mark=MARK,
        sections=[_section(findings, count) for count in shots],
        fact_tables=run_tables(sweep.shared_settings, current),
        versions=current,
    )


def lead(findings: Findings, shots: int) -> str:
    """Returns the first sentence of the page: the best mechanism at a usual epsilon, beside no privacy and guessing."""
    epsilons = findings.sweep.epsilons
    epsilon = 4.0 if 4.0 in epsilons else epsilons[-1]
    private = {line.method: point.balanced_accuracy for line in findings.private(shots) if (point := line.at(epsilon))}
    free = {line.method: line.points[0].balanced_accuracy for line in findings.references(shots)}
    words = []
    if private:
        name, reached = _best(private)
        best = f"the best of {len(private)} mechanisms on these test cases, {name}, reached a balanced accuracy of"
        words.append(f"With epsilon {epsilon:g} promised to every patient, {best} {reached.noted}")
    if free:
        name, reached = _best(free)
        words.append(f"without privacy, {name} reached {reached.noted}")
    sentence = "; ".join([*words, f"guessing gives {findings.chance:.3f}"])
    return f"{sentence[0].upper()}{sentence[1:]}."


def _best(reached: Mapping[str, Estimate]) -> tuple[str, Estimate]:
    return max(reached.items(), key=lambda item: item[1].mean or 0.0)


def _section(findings: Findings, shots: int) -> dict[str, Any]:
    """One number of shots: its chart and its tables."""
    private, lines, named = findings.private(shots), findings.of_shots(shots), shots_words(shots)
    promised, title = findings.sweep.epsilons, f"Balanced accuracy against epsilon, {named}"
    chart = accuracy_chart(private, findings.references(shots), findings.chance, title) if private else ""
    tables = [
        _by_epsilon(caption, lines, (*promised, None), partial(_figure, figure=figure))
        for figure, caption in _FIGURES.items()
    ]
    return {
        "heading": f"{named} at each hospital",
        "id": f"shots-{shots}",
        "accuracy": markup(chart),
        "tables": [*tables, _cost_table(lines)],
        "spent_table": _by_epsilon("Epsilon spent, by epsilon promised", private, promised, _spent),
    }


def _by_epsilon(
    caption: str, lines: Sequence[SweepLine], epsilons: Sequence[float | None], cell: Callable[[SweepPoint], TableCell]
) -> PageTable:
    """A table of one row a line and one column an epsilon; empty where no run is finished."""
    rows = []
    for line in lines:
        points = [line.at(epsilon) for epsilon in epsilons]
        cells = [TableCell("") if point is None else cell(point) for point in points]
        rows.append(TableRow(line.name, cells, "reference" if line.sum == "none" else ""))
    return PageTable(caption, ["Method", *(_heading(epsilon, "no privacy") for epsilon in epsilons)], rows)


def _figure(point: SweepPoint, figure: str) -> TableCell:
    cell = estimate_cell(getattr(point, figure))
    return TableCell(cell.value + MARK, cell.note) if point.at_chance and figure == "balanced_accuracy" else cell


def _cost_table(lines: Sequence[SweepLine]) -> PageTable:
    rows = [(line.name, numerals.size(max(point.bytes_up for point in line.points))) for line in lines]
    return plain_table("Sent by a hospital, at most", ["Method", "Bytes"], rows)


def _spent(point: SweepPoint) -> TableCell:
    return TableCell(numerals.UNDEFINED if point.spent is None else f"{point.spent:.4g}")


def _terminal_cell(point: SweepPoint | None) -> str:
    if point is None:
        return ""
    interval = numerals.spread(point.balanced_accuracy.ends, 2).replace("0.", ".")
    mark = MARK if point.at_chance else " "
    return f"{point.balanced_accuracy.figure}{mark}" + (f"\n[dim]{interval} [/]" if interval else "")
