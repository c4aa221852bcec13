"""A privacy sweep for people: a table for the terminal, and one self-contained page.

The charts, tables and templates are those of `medtl_core.report`, whose page of a run this one resembles.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medtl_core.report import numerals, template
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell, plain_table, run_tables
from medtl_core.report.template import markup
from medtl_core.report.terminal import terminal_table
from medtl_core.sweep.chart import accuracy_chart, spent_chart
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
    table = terminal_table(collapse_padding=True)
    for heading in ("method", "sum"):
        table.add_column(heading, no_wrap=True)
    for heading in (*(f"{epsilon:g}" for epsilon in findings.sweep.epsilons), "none"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in [*findings.private(shots), *findings.references(shots)]:
        cells = [_terminal_cell(line.at(epsilon)) for epsilon in (*findings.sweep.epsilons, None)]
        table.add_row(line.method, "-" if line.sum == "none" else line.sum, *cells)
    return table


def render(findings: Findings) -> str:
    """Returns the report of a sweep: whole in itself, nothing is fetched."""
    study, sweep = findings.study, findings.sweep
    shots = [count for count in sweep.shots if findings.private(count) or findings.references(count)]
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
    private = [
        (point.balanced_accuracy, line.method) for line in findings.private(shots) if (point := line.at(epsilon))
    ]
    free = [(line.points[0].balanced_accuracy, line.method) for line in findings.references(shots)]
    clauses = []
    if private:
        best, name = max(private, key=lambda pair: pair[0].mean or 0.0)
        clauses.append(
            f"With epsilon {epsilon:g} promised to every patient, the best of {len(private)} mechanisms on these test "
            f"cases, {name}, reached a balanced accuracy of {best.noted}"
        )
    if free:
        best, name = max(free, key=lambda pair: pair[0].mean or 0.0)
        clauses.append(f"without privacy, {name} reached {best.noted}")
    clauses.append(f"guessing gives {findings.chance:.3f}")
    sentence = "; ".join(clauses)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _section(findings: Findings, shots: int) -> dict[str, Any]:
    """One number of shots: its charts and its tables."""
    private, references = findings.private(shots), findings.references(shots)
    lines, named = [*private, *references], shots_words(shots)
    title = f"Balanced accuracy against epsilon, {named}"
    return {
        "heading": f"{named} at each hospital",
        "id": f"shots-{shots}",
        "accuracy": markup(accuracy_chart(private, references, findings.chance, title) if private else ""),
        "spent": markup(spent_chart(private, f"Epsilon spent against promised, {named}") if private else ""),
        "tables": [*(_figure_table(findings, lines, figure) for figure in _FIGURES), _cost_table(lines)],
        "spent_table": _spent_table(findings, private),
    }


def _figure_table(findings: Findings, lines: list[SweepLine], figure: str) -> PageTable:
    headings = ["Method", *(f"{epsilon:g}" for epsilon in findings.sweep.epsilons), "no privacy"]
    rows = [
        TableRow(
            line.name,
            [_cell(line.at(epsilon), figure) for epsilon in (*findings.sweep.epsilons, None)],
            "reference" if line.sum == "none" else "",
        )
        for line in lines
    ]
    return PageTable(_FIGURES[figure], headings, rows)


def _cell(point: SweepPoint | None, figure: str) -> TableCell:
    if point is None:
        return TableCell("")
    cell = estimate_cell(getattr(point, figure))
    return TableCell(cell.value + MARK, cell.note) if point.at_chance and figure == "balanced_accuracy" else cell


def _cost_table(lines: list[SweepLine]) -> PageTable:
    rows = [(line.name, numerals.size(max(point.bytes_up for point in line.points))) for line in lines]
    return plain_table("Sent by a hospital, at most", ["Method", "Bytes"], rows)


def _spent_table(findings: Findings, private: list[SweepLine]) -> PageTable:
    def spent(point: SweepPoint | None) -> str:
        return numerals.UNDEFINED if point is None or point.spent is None else f"{point.spent:.4g}"

    headings = ["Mechanism", *(f"{epsilon:g}" for epsilon in findings.sweep.epsilons)]
    rows = [(line.name, *(spent(line.at(epsilon)) for epsilon in findings.sweep.epsilons)) for line in private]
    return plain_table("Epsilon spent, by epsilon promised", headings, rows)


def _terminal_cell(point: SweepPoint | None) -> str:
    if point is None:
        return ""
    interval = numerals.spread(point.balanced_accuracy.ends, 2).replace("0.", ".")
    mark = MARK if point.at_chance else " "
    return f"{point.balanced_accuracy.figure}{mark}" + (f"\n[dim]{interval} [/]" if interval else "")
