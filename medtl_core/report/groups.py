"""Groups and sites in a report: forest plots and tables that do not rank what has few cases."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from medtl_core.clinical.ranking import mean_recall
from medtl_core.clinical.record import ClassRecord, SiteTrust
from medtl_core.clinical.significance import holm
from medtl_core.clinical.subgroups import FEWEST, Group
from medtl_core.report import charts, numerals
from medtl_core.report.classes import wilson
from medtl_core.report.estimate import Estimate
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell

#: Cases of a class from which on a group's figure may be laid beside others.
RANKED = 10
#: Largest p-value, after Holm's correction, of what is called a difference.
_MARKED = 0.05
_EMPTY = [TableCell(numerals.UNDEFINED)] * 3


def group_panel(seeds: Sequence[Sequence[Group]], column: str) -> tuple[str, PageTable]:
    """Returns the forest plot of a column's groups, and their table, from the groups of each seed."""
    drawn, few, rows = dict[str, Estimate](), list[str](), []
    for value in [group.value for group in seeds[0]]:
        told = [group for seed in seeds for group in seed if group.value == value]
        if not all(group.cases for group in told):
            rows.append(TableRow(value, [TableCell(f"fewer than {FEWEST}", "or the next smallest"), *_EMPTY]))
            continue
        label = f"{value} ({told[0].cases})"
        accuracy, area = _accuracy(told), area_estimate(told)
        drawn[label] = accuracy if told[0].confusion else area
        if _rarest(told[0]) < RANKED:
            few.append(label)
        rows.append(
            TableRow(
                value,
                [
                    TableCell(f"{told[0].cases}"),
                    TableCell(" / ".join(f"{sum(row)}" for row in told[0].confusion) or numerals.UNDEFINED),
                    estimate_cell(accuracy),
                    estimate_cell(area),
                ],
            )
        )
    headings = ["Group", "Cases", "Of each class", "Balanced accuracy", "AUROC"]
    findings = not any(group.confusion for group in seeds[0])
    plot = charts.forest(drawn, f"{'AUROC' if findings else 'Balanced accuracy'} by {column}", few) if drawn else ""
    return plot, PageTable(f"By {column}", headings, rows)


def trust_table(sites: Mapping[str, SiteTrust]) -> PageTable | None:
    """Returns stated confidence against right answers at each site, with a mark where they differ."""
    rows, doubts = [], {}
    for name, site in sites.items():
        if not site.cases:
            continue
        stated = site.confidence / site.cases
        error = math.sqrt(max(stated * (1 - stated), 1e-12) / site.cases)
        if site.cases >= RANKED:
            doubts[name] = math.erfc(abs(stated - site.right / site.cases) / error / math.sqrt(2))
        rows.append((name, site, stated))
    wrong = {name for name, p in zip(doubts, holm([*doubts.values()]) if doubts else (), strict=True) if p < _MARKED}
    cells = [
        TableRow(
            name,
            [
                TableCell(f"{site.cases:.4g}"),
                TableCell(numerals.figure(stated)),
                estimate_cell(wilson(site.right, site.cases)),
                TableCell("differs" if name in wrong else "no difference seen" if name in doubts else "too few to say"),
            ],
        )
        for name, site, stated in rows
    ]
    headings = ["Site", "Cases", "Stated confidence", "Answered right", "After Holm's correction"]
    return PageTable("Is a stated confidence as good at every site?", headings, cells) if len(cells) > 1 else None


def area_estimate(rows: Sequence[ClassRecord] | Sequence[Group]) -> Estimate:
    """Returns an AUROC: with one seed its interval there, else a t-interval over the seeds."""
    low, high = rows[0].low, rows[0].high
    alone = (low, high) if len(rows) == 1 and low is not None and high is not None else None
    return Estimate.over([row.area for row in rows], alone)


def _accuracy(groups: Sequence[Group]) -> Estimate:
    told = [mean_recall(np.asarray(group.confusion)) for group in groups if group.confusion]
    known = [one for one in told if one]
    return Estimate.over([one[0] for one in known], known[0][1:] if len(known) == 1 else None)


def _rarest(group: Group) -> int:
    """Cases of the rarest class that the group shows; of several findings nobody counts them."""
    return min((sum(row) for row in group.confusion if sum(row)), default=RANKED)
