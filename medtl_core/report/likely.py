"""Sets of likely classes at each hospital: how often they hold the right one, and how many classes they name."""

from collections.abc import Mapping, Sequence

from medtl_core.clinical.record import Clinical, Coverage
from medtl_core.report.classes import FEW, wilson
from medtl_core.report.tables import PageTable, TableCell, TableRow, estimate_cell


def likely_table(records: Sequence[Clinical], method: str, only: str = "") -> PageTable | None:
    """Returns coverage and mean size of a head's sets of likely classes, over all cases and by hospital.

    Args:
        records: of the seeds, of which the first one is told.
        method: whose head it is.
        only: the one hospital whose own is told; "" = each one's.

    Returns:
        None where the head promises nothing, or the run is older than the figures.
    """
    first = records[0].methods.get(method) if records else None
    if first is None or not any(row.cases for row in first.likely.values()):
        return None
    sites: Mapping[str, Coverage] = {name: row for name, row in sorted(first.likely.items()) if row.cases}
    level, *_ = (row.level for row in sites.values())
    columns = zip(*((row.cases, row.held, row.named) for row in sites.values()), strict=True)
    rows = [_row("all cases", Coverage(level, *map(sum, columns)), "focus")]
    rows += [_row(name, row) for name, row in sites.items() if len(sites) > 1 and only in ("", name)]
    caption = f"Sets of likely classes at {level:.0%}: coverage and mean size"
    return PageTable(caption, ["Hospital", "Cases", "Right class in the set", "Classes in a set"], rows)


def _row(name: str, told: Coverage, style: str = "") -> TableRow:
    few = TableCell(f"{told.held:.0f} of {told.cases:.0f}", "too few for an interval")
    shown = estimate_cell(wilson(told.held, told.cases)) if told.cases >= FEW else few
    return TableRow(name, [TableCell(f"{told.cases:.0f}"), shown, TableCell(f"{told.named / told.cases:.2f}")], style)
