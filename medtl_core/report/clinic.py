"""What a clinic asks of a method, from `clinical.json`: tables and panels of ranks, thresholds, groups and trust."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from medtl_core.clinical.ranking import Cell
from medtl_core.clinical.record import LEVELS, ClassRecord, Clinical, MethodRecord
from medtl_core.evaluation.formulas import Curve, Float, mean_curve
from medtl_core.report import curves, numerals
from medtl_core.report.classes import wilson
from medtl_core.report.curves import RocPanel
from medtl_core.report.estimate import Estimate
from medtl_core.report.examples import Gallery
from medtl_core.report.groups import area_estimate, group_panel, trust_table
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell, plain_table

#: How common a class may be, where nobody says.
PREVALENCES = (0.01, 0.05, 0.2, 0.5)


@dataclass(frozen=True)
class Context:
    """What a report says beside the results.

    Attributes:
        clinical: the records of the seeds, in their order; empty where a seed has none.
        begun: date of the run.
        prevalence: how common classes are where the reader is.
        gallery: test cases in pictures; None = nobody asked for any.
    """

    clinical: Sequence[Clinical] = ()
    begun: str = ""
    prevalence: Mapping[str, float] = field(default_factory=dict)
    gallery: Gallery | None = None


@dataclass(frozen=True)
class Clinic:
    """One method's records over the seeds.

    Attributes:
        name: of the method.
        seeds: its record of each seed.
    """

    name: str
    seeds: Sequence[MethodRecord]

    @classmethod
    def of(cls, records: Sequence[Clinical], name: str) -> "Clinic":
        """Returns the method's records; none where some seed lacks one."""
        found = [record.methods[name] for record in records if name in record.methods]
        return cls(name, found if len(found) == len(records) else [])

    @property
    def classes(self) -> tuple[str, ...]:
        """Judged classes."""
        return tuple(self.seeds[0].classes) if self.seeds else ()

    def rows(self, name: str) -> list[ClassRecord]:
        """Returns a class's record of each seed."""
        return [seed.classes[name] for seed in self.seeds]

    # ---- ranks ---------------------------------------------------------------------------------------------------

    def area(self, name: str) -> Estimate:
        """Returns a class's AUROC: with one seed DeLong's interval, else a t-interval over the seeds."""
        return area_estimate(self.rows(name))

    def ranking_table(self) -> PageTable | None:
        """Returns AUROC and average precision of each class."""
        rows = []
        for name in self.classes:
            each = self.rows(name)
            cases, others = (fmean(getattr(row, side) for row in each) for side in ("positive", "negative"))
            share = cases / (cases + others) if cases + others else None
            precision = Estimate.over([row.precision for row in each])
            cells = [TableCell(f"{cases:.4g}"), TableCell(f"{others:.4g}"), estimate_cell(self.area(name))]
            cells += [TableCell(precision.figure), TableCell(numerals.figure(share))]
            rows.append(TableRow(name, cells))
        headings = ["Class", "Cases", "Others", "AUROC", "AUPRC", "AUPRC by guessing"]
        return PageTable("How well each class is ranked before the others", headings, rows) if rows else None

    def roc(self) -> str:
        """Returns one large ROC panel a class."""
        panels = []
        for name in self.classes:
            each = self.rows(name)
            drawn = [_curve(row) for row in each if len(row.curve[0]) > 1]
            curve = drawn[0] if len(drawn) == 1 else mean_curve([(np.asarray(a), np.asarray(b)) for a, b in drawn])
            words = f"{each[0].positive} cases, {each[0].negative} others"
            panels.append(RocPanel(name, curve, self.area(name), words, each[0].positive))
        return "".join(curves.roc_panel(panel, f"ROC, {self.name}", large=True) for panel in panels)

    # ---- thresholds ----------------------------------------------------------------------------------------------

    def operating_table(self, prevalence: Mapping[str, float]) -> PageTable | None:
        """Returns thresholds that were set on held-out folds, and what came out on the test cases."""
        rows = []
        for name in self.classes:
            points = [row.operating for row in self.rows(name) if row.operating]
            if not points or len(points) < len(self.seeds):
                continue
            test = [point.test for point in points]
            found = _shares([(cell.found, cell.found + cell.missed) for cell in test])
            spared = _shares([(cell.spared, cell.spared + cell.false) for cell in test])
            chance = fmean(1.0 / (1.0 + math.exp(-max(min(point.floor, 700.0), -700.0))) for point in points)
            share = prevalence.get(name)
            here = _share(test) if share is None else share
            told = [cell.predictive(here) for cell in test]
            cells = [
                TableCell(f"{chance:.3f}"),
                TableCell(
                    numerals.figure(_mean(point.folds.sensitivity for point in points)), _counts(points[0].folds)
                ),
                estimate_cell(found),
                estimate_cell(spared),
                *(TableCell(numerals.figure(_mean(value[side] for value in told))) for side in (0, 1)),
                TableCell(numerals.figure(here)),
            ]
            rows.append(TableRow(name, cells))
        target = next((row.operating.target for row in self.rows(rows[0].name) if row.operating), 0) if rows else 0
        headings = ["Class", "Answered from probability", "Sensitivity on folds", "Sensitivity", "Specificity", "PPV"]
        caption = f"Thresholds set for a sensitivity of {target:g} on training cases, judged on the test cases"
        return PageTable(caption, [*headings, "NPV", "at a prevalence of"], rows) if rows else None

    def level_table(self) -> PageTable | None:
        """Returns sensitivity at given specificities and back, as read off the test cases."""
        rows = []
        for name in self.classes:
            each, cells = self.rows(name), []
            for side, figure in (("at_specificity", "sensitivity"), ("at_sensitivity", "specificity")):
                for level in LEVELS:
                    told = [getattr(row, side).get(f"{level:g}") for row in each]
                    cells.append(TableCell(numerals.figure(_mean(cell and getattr(cell, figure) for cell in told))))
            rows.append(TableRow(name, cells))
        headings = [f"Sensitivity at specificity {level:g}" for level in LEVELS]
        headings += [f"Specificity at sensitivity {level:g}" for level in LEVELS]
        caption = "Read off these very test cases: it describes the curve, and no threshold was kept for it"
        return PageTable(caption, ["Class", *headings], rows) if rows else None

    def benefit(self) -> str:
        """Returns a decision curve for each class."""
        panels = []
        for name in self.classes:
            told = [row.benefit for row in self.rows(name) if row.benefit]
            if not told or len(told) < len(self.seeds):
                continue
            mean = {
                key: [fmean(values) for values in zip(*(one[key] for one in told), strict=True)]
                for key in ("threshold", "model", "everyone")
            }
            panels.append(curves.benefit_panel(name, mean, f"Net benefit, {self.name}"))
        return "".join(panels)

    def kept(self) -> str:
        """Returns what abstaining on the least confident cases buys; of several seeds the first one's."""
        kept = self.seeds[0].kept if self.seeds else ()
        return curves.kept_panel(kept, f"Right answers by coverage, {self.name}") if kept else ""

    # ---- groups and sites ----------------------------------------------------------------------------------------

    @property
    def _columns(self) -> tuple[str, ...]:
        return tuple(self.seeds[0].groups) if self.seeds else ()

    def groups(self) -> list[tuple[str, str, PageTable]]:
        """Returns for each column its name, the forest plot of its groups, and their table."""
        return [(name, *group_panel([seed.groups[name] for seed in self.seeds], name)) for name in self._columns]

    def trust_table(self) -> PageTable | None:
        """Returns stated confidence against right answers at each site; of several seeds the first one's."""
        return trust_table(self.seeds[0].sites if self.seeds else {})


def predictive_table(table: Float, classes: Sequence[str], prevalence: Mapping[str, float]) -> PageTable:
    """Returns PPV and NPV of the likeliest class by how common the class is, from cases by class and answer [C, C]."""
    rows = []
    for number, name in enumerate(classes):
        hits, cases, answered = table[number, number], table[number].sum(), table[:, number].sum()
        cell = Cell(hits, cases - hits, answered - hits, table.sum() - cases - answered + hits)
        asked = (prevalence[name],) if name in prevalence else () if prevalence else PREVALENCES
        told = [(share, *cell.predictive(share)) for share in asked]
        if told:
            rows.append((name, *(f"{numerals.figure(ppv)} / {numerals.figure(npv)}" for _, ppv, npv in told)))
    shown = ["as stated"] if prevalence else [f"{share:.0%}" for share in PREVALENCES]
    stated = ", ".join(f"{name} {share:g}" for name, share in prevalence.items())
    caption = f"PPV / NPV of the answer by how common the class is{f': {stated}' if stated else ''}"
    return plain_table(caption, ["Class", *shown], rows)


def _shares(counts: Sequence[tuple[float, float]]) -> Estimate:
    if len(counts) == 1:
        return wilson(*counts[0])
    return Estimate.over([right / cases if cases else None for right, cases in counts])


def _share(cells: Sequence[Cell]) -> float:
    return fmean((cell.found + cell.missed) / (cell.found + cell.missed + cell.false + cell.spared) for cell in cells)


def _counts(cell: Cell) -> str:
    return f"{cell.found:g} of {cell.found + cell.missed:g}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _curve(row: ClassRecord) -> Curve:
    return list(row.curve[0]), list(row.curve[1])
