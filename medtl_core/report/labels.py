"""The findings of a multi-label task, each by itself: estimates, table and ROC curves."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import Result
from medtl_core.report import curves, pool
from medtl_core.report.estimate import Estimate
from medtl_core.report.summary import FIGURES, MethodSummary, Summary, role
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell

#: Figures shown of each finding.
_SHOWN = ("balanced_accuracy", "auroc", "auprc", "sensitivity", "specificity")


def label_tables(summary: Summary) -> list[PageTable]:
    """Returns the table of findings of the method a report looks at closely; none of another task."""
    method = summary.methods[summary.focus]
    if not method.labels:
        return []
    others = {
        name: other
        for name, other in summary.methods.items()
        if role(name) != "federated" and other.labels and name != summary.focus
    }
    rows = [TableRow(label, [*_cells(method, label), *_beside(others, label)]) for label in method.labels]
    headings = [FIGURES[figure][0].upper() + FIGURES[figure][1:] for figure in _SHOWN]
    caption = f"Each finding by itself, {summary.focus}"
    return [PageTable(caption, ["Finding", *headings, *(f"AUROC, {name}" for name in others)], rows)]


def label_curves(results: Sequence[Result], method: str, labels: Mapping[str, Mapping[str, Estimate]]) -> str:
    """Returns one small ROC panel for every finding; empty where no curve was drawn."""
    drawn = {label: curve for label in labels if (curve := pool.roc(results, method, label))}
    judged = [result.methods[method].judgement.by_label for result in results if method in result.methods]
    panels = {
        label: pool.SiteSummary(
            labels[label]["balanced_accuracy"], labels[label]["auroc"], fmean(_known(each[label]) for each in judged)
        )
        for label in drawn
    }
    return curves.roc_grid(panels, drawn, None, f"ROC by finding, {method}") if drawn else ""


def _known(label: Judgement) -> int:
    return sum(row.n for row in label.by_site.values())


def _cells(method: MethodSummary, label: str) -> list[TableCell]:
    return [estimate_cell(method.labels[label][figure]) for figure in _SHOWN]


def _beside(others: Mapping[str, MethodSummary], label: str) -> list[TableCell]:
    return [estimate_cell(other.labels[label]["auroc"]) for other in others.values()]
