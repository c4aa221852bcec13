"""A privacy sweep for people: one table, in the terminal and on a self-contained page, and there one chart.

Table, chart and template are those of `medtl_core.report`.
"""

import math

from medtl_core.report import template
from medtl_core.report.charts import forest_plot
from medtl_core.report.summary import MethodSummary
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell
from medtl_core.sweep.findings import Findings
from medtl_core.versions import versions

#: What the intervals are.
RANGES = "95% t-interval over seeds, patient bootstrap where there is one seed"


def sweep_table(findings: Findings) -> PageTable:
    """Returns balanced accuracy over its interval by method and epsilon, with a mark where it is at chance."""
    epsilons = (*findings.sweep.epsilons, math.inf)
    rows = [
        TableRow(name, [_cell(line.get(epsilon), findings.chance) for epsilon in epsilons])
        for name, line in findings.lines.items()
    ]
    caption = f"Balanced accuracy by epsilon; * = at chance: the range is not above {findings.chance:.3f}"
    return PageTable(caption, ["Method", *(f"{epsilon:g}" for epsilon in findings.sweep.epsilons), "none"], rows)


def render(findings: Findings) -> str:
    """Returns the report of a sweep: whole in itself, nothing is fetched."""
    study = findings.results[0]
    figures = {
        name if math.isinf(epsilon) else f"{name}, epsilon {epsilon:g}": method.figures
        for name, line in findings.lines.items()
        for epsilon, method in line.items()
    }
    return template.render(
        "medtl_core.sweep",
        title=f"Accuracy and privacy: {findings.sweep.plan.name}",
        data=study.data.title or findings.sweep.data,
        classes=study.classes,
        repetitions=f"{len(findings.values('seed'))} seed(s)",
        synthetic=study.data.synthetic,
        lead=f"Balanced accuracy with epsilon promised to every patient; guessing gives {findings.chance:.3f}.",
        findings=findings,
        study=study,
        ranges=RANGES,
        chart=template.markup(
            forest_plot(figures, [name for name, line in findings.lines.items() if math.inf in line])
        ),
        table=sweep_table(findings),
        versions=versions(),
    )


def _cell(method: MethodSummary | None, chance: float) -> TableCell:
    """A method's balanced accuracy; it is at chance where its interval holds chance or lies below it."""
    if method is None:
        return TableCell("")
    estimate = method.figures["balanced_accuracy"]
    cell = estimate_cell(estimate)
    at_chance = estimate.low is not None and estimate.low <= chance
    return TableCell(f"{cell.value}*", cell.note) if at_chance else cell
