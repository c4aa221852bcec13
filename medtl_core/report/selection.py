"""Sources in order, for the terminal: what `medtl select` prints."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

#: Scores that are shares of cases, shown in percent.
_SHARES = ("cv-accuracy", "nearest-mean")


def ranking_table(found: Mapping[str, Any]) -> "Table":
    """Returns the ranking as a table for the terminal; shares and measured balanced accuracy in percent."""
    rows = found["candidates"]
    scores = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    measured = ["test\nacc."] if any(row["measured"] for row in rows) else []
    table = _table("source", "taps", *map(_heading, scores), *measured)
    for row in rows:
        cells = [_number(row["scores"].get(name), name in _SHARES) for name in scores]
        cells += [_number(row["measured"].get("balanced_accuracy"), True) for _ in measured]
        table.add_row(row["backbone"], row["taps"], *cells)
    return table


def agreement_table(found: Mapping[str, Any]) -> "Table":
    """Returns how every score's order agrees with the measured result as a table for the terminal."""
    table = _table("score", "candidates", "Spearman", "Kendall", "regret (points)")
    for row in found["agreement"]:
        numbers = [_number(row[key]) for key in ("spearman", "kendall")]
        table.add_row(row["score"], str(row["candidates"]), *numbers, _number(row["regret"], True))
    return table


def _heading(score: str) -> str:
    """A score's name in words that stand one above the other."""
    return score.replace("accuracy", "acc.").replace("-", "\n")


def _number(value: float | None, share: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if share else f"{value:.2f}"


def _table(*headings: str) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.pad_edge, table.show_edge = False, False
    for heading in headings:
        name = heading in ("source", "taps", "score")
        table.add_column(heading, justify="left" if name else "right", no_wrap=heading == "source", overflow="fold")
    return table
