"""Which class is missed: each class's own figures from the counts of answers, over all cases and at each hospital.

Where several seeds judged the same test cases, counts are their means, and an interval takes the cases of one seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.clinical.ranking import wilson as wilson_ends
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.result import Result
from medtl_core.report import numerals
from medtl_core.report.estimate import Estimate
from medtl_core.report.tables import PageTable, TableCell, TableRow

Float = NDArray[np.float64]

#: Fewer cases of a class at a hospital are told as a number, without a share.
FEW = 10


@dataclass(frozen=True)
class ClassFigures:
    """How one class fared against all others.

    Attributes:
        name: of the class.
        cases: of it.
        found, spared: sensitivity and specificity with their Wilson intervals.
        ppv, npv: share of rightly answered cases among those answered with the class, and with another; they hold for
            classes as common as in the test cases. None = nothing was answered so.
        f1: harmonic mean of sensitivity and `ppv`.
        mcc: Matthews correlation of class and answer.
        taken_for: the class that its missed cases are answered with most often, and how many; "" = none is missed.
    """

    name: str
    cases: float
    found: Estimate
    spared: Estimate
    ppv: float | None
    npv: float | None
    f1: float | None
    mcc: float | None
    taken_for: str


def wilson(right: float, cases: float) -> Estimate:
    """Returns a share with Wilson's 95 % interval; nothing of no case.

    Example:
        >>> wilson(8, 10).spread
        '0.490–0.943'
    """
    ends = wilson_ends(right, cases)
    return Estimate(right / cases, *ends) if ends else Estimate()


def class_figures(table: Float, classes: Sequence[str]) -> list[ClassFigures]:
    """Returns each class's figures from cases by class and answer, [C, C]."""
    total, rows = table.sum(), []
    for number, name in enumerate(classes):
        hits, cases, answered = table[number, number], table[number].sum(), table[:, number].sum()
        false, missed = answered - hits, cases - hits
        calm = total - cases - false
        spread = math.sqrt(answered * (total - answered) * cases * (total - cases))
        others = np.where(np.arange(len(classes)) == number, -1.0, table[number])
        most = int(others.argmax())
        rows.append(
            ClassFigures(
                name,
                float(cases),
                wilson(hits, cases),
                wilson(calm, total - cases),
                _share(hits, answered),
                _share(calm, total - answered),
                _share(2 * hits, cases + answered),
                float((hits * calm - false * missed) / spread) if spread else None,
                f"{classes[most]} ({others[most]:.4g})" if others[most] > 0 else "",
            )
        )
    return rows


def confusion_of(results: Sequence[Result], method: str, site: str = "") -> Float | None:
    """Returns a method's cases by class and answer, the mean over the seeds that counted them; None = none did."""
    found: list[Judgement] = [result.methods[method].judgement for result in results if method in result.methods]
    if site:
        rows = [each.by_site[site].confusion for each in found if site in each.by_site]
    else:
        rows = [each.confusion for each in found]
    told = [np.asarray(row, np.float64) for row in rows if row]
    return np.mean(told, axis=0) if told else None


def class_tables(results: Sequence[Result], method: str, classes: Sequence[str]) -> list[PageTable]:
    """Returns the tables of classes: figures, answers, and the share found at each hospital; none of other tasks."""
    table = confusion_of(results, method)
    if table is None or len(table) != len(classes):
        return []
    sites = sorted({site for result in results for site in result.methods[method].judgement.by_site})
    by_site = {site: confusion_of(results, method, site) for site in sites}
    tables, told = tables_of(table, classes), {site: counts for site, counts in by_site.items() if counts is not None}
    return [*tables, _site_table(told, classes)] if len(told) > 1 else tables


def tables_of(table: Float, classes: Sequence[str]) -> list[PageTable]:
    """Returns the tables of classes and of answers from cases by class and answer [C, C]."""
    figures = sorted(class_figures(table, classes), key=lambda row: row.found.mean if row.found.mean is not None else 2)
    return [_figures_table(figures), _answers_table(table, classes)]


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def _figures_table(figures: Sequence[ClassFigures]) -> PageTable:
    headings = ["Class", "Cases", "Found (sensitivity)", "Others spared (specificity)", "PPV", "NPV", "F1", "MCC"]
    rows = [
        TableRow(
            row.name,
            [
                TableCell(f"{row.cases:.4g}"),
                TableCell(row.found.figure, row.found.spread),
                TableCell(row.spared.figure, row.spared.spread),
                *(TableCell(numerals.figure(value)) for value in (row.ppv, row.npv, row.f1, row.mcc)),
                TableCell(row.taken_for or numerals.figure(None)),
            ],
        )
        for row in figures
    ]
    return PageTable("Each class, the one missed most often first", [*headings, "Most often taken for (cases)"], rows)


def _answers_table(table: Float, classes: Sequence[str]) -> PageTable:
    rows = [
        TableRow(name, [TableCell(f"{count:.4g}", shade=float(count / max(row.sum(), 1.0))) for count in row])
        for name, row in zip(classes, table, strict=True)
    ]
    return PageTable("Cases by class (rows) and answer (columns); darker: more of the row", ["Class", *classes], rows)


def _site_table(sites: Mapping[str, Float], classes: Sequence[str]) -> PageTable:
    rows = []
    for site, table in sites.items():
        cells = [_found_at(table[number, number], table[number].sum()) for number in range(len(classes))]
        rows.append(TableRow(site, cells))
    return PageTable("Share of each class found at each hospital", ["Hospital", *classes], rows)


def _found_at(hits: float, cases: float) -> TableCell:
    if not cases:
        return TableCell(numerals.figure(None), "no case")
    if cases < FEW:
        return TableCell(f"{hits:.3g} of {cases:.3g}", "too few for a share")
    found = wilson(hits, cases)
    return TableCell(found.figure, found.spread)
