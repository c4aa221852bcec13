"""An audit for the terminal: what was tried, what is claimed, what was found."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

#: What every reader of an audit must know.
REMARK = (
    "A bound below the claim proves nothing by itself: it says what these attacks could not do. "
    "The bugs above were planted on purpose; an attack that finds them would have found them in the gate."
)


def audit_table(found: Mapping[str, Any]) -> "Table":
    """Returns the findings as a table, one row an attack."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_lines=False)
    table.pad_edge, table.show_edge = False, False
    for heading in ("attack", "what was tried", "claim", "found", "verdict"):
        table.add_column(heading, overflow="fold", ratio=2 if heading in ("what was tried", "found") else 1)
    for row in found["findings"]:
        table.add_row(row["test"], row["tried"], row["claim"] or "none", row["found"], row["verdict"])
    return table


def planted_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns one line a planted bug, with what the attack found on it."""
    return [
        f"planted in {row['test']}: {bug}: {seen}" for row in found["findings"] for bug, seen in row["planted"].items()
    ]
