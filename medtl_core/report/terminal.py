"""Tables for the terminal: what `medtl simulate` and `report`, `select` and `audit` print."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medtl_core.report import numerals
from medtl_core.report.estimate import Estimate
from medtl_core.report.summary import MethodSummary, Summary

if TYPE_CHECKING:
    from rich.table import Table

#: What every reader of an audit must know.
AUDIT_REMARK = (
    "A bound below the claim proves nothing by itself: it says what these attacks could not do. "
    "The bugs above were planted on purpose; an attack that finds them would have found them in the gate."
)

#: Scores of sources that are shares of cases, shown in percent.
_SHARES = ("cv-accuracy", "nearest-mean")


def terminal_table(**options: Any) -> "Table":
    """Returns an empty table as all commands print them: a line under the headings and no other."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, **options)
    table.pad_edge, table.show_edge = False, False
    return table


def summary_table(summary: Summary) -> "Table":
    """Returns a run as a table: one row a method, small figures are intervals."""
    failures = f", {summary.failures} failed replies" if summary.failures else ""
    counts = f"{summary.hospitals} hospitals, {summary.test_cases} test cases, {len(summary.classes)} classes"
    caption = f"{counts}{failures}\nranges: {summary.interval_words}"
    table = terminal_table(caption=caption, caption_justify="left", collapse_padding=True)
    table.add_column("\nmethod", no_wrap=True)
    # At 80 columns the intervals move to a second line; nothing is ever cut off.
    table.add_column("balanced\naccuracy", justify="right", min_width=9)
    table.add_column("\nAUROC", justify="right", min_width=9)
    for heading in ("worst\nsite", "\nECE", "vs\nlocal", "sent per\nhospital", "\nrounds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, method in summary.methods.items():
        table.add_row(name, *_figures(method), style="bold" if name == summary.focus else "")
    return table


def ranking_table(ranking: Mapping[str, Any]) -> "Table":
    """Returns the order of sources as a table; shares and measured balanced accuracy in percent."""
    rows = ranking["candidates"]
    scores = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    measured = ["test\nacc."] if any(row["measured"] for row in rows) else []
    # A score's name in words that stand one above the other.
    headings = [score.replace("accuracy", "acc.").replace("-", "\n") for score in scores]
    table = _sources_table("source", "taps", *headings, *measured)
    for row in rows:
        cells = [_number(row["scores"].get(name), name in _SHARES) for name in scores]
        cells += [_number(row["measured"].get("balanced_accuracy"), True) for _ in measured]
        table.add_row(row["backbone"], row["taps"], *cells)
    return table


def agreement_table(ranking: Mapping[str, Any]) -> "Table":
    """Returns how every score's order agrees with the measured result as a table."""
    table = _sources_table("score", "candidates", "Spearman", "Kendall", "regret (points)")
    for row in ranking["agreement"]:
        numbers = [_number(row[key]) for key in ("spearman", "kendall")]
        table.add_row(row["score"], str(row["candidates"]), *numbers, _number(row["regret"], True))
    return table


def audit_table(audit: Mapping[str, Any]) -> "Table":
    """Returns what was tried, what is claimed and what was found as a table, one row an attack."""
    table = terminal_table(padding=(0, 1, 0, 0))
    for heading in ("attack", "what was tried", "claim", "found", "verdict"):
        table.add_column(heading, overflow="fold", ratio=2 if heading in ("what was tried", "found") else 1)
    for row in audit["findings"]:
        table.add_row(row["test"], row["tried"], row["claim"] or "none", row["found"], row["verdict"])
    return table


def planted_lines(audit: Mapping[str, Any]) -> list[str]:
    """Returns one line a planted bug, with what the attack found on it."""
    return [
        f"planted in {row['test']}: {bug}: {seen}" for row in audit["findings"] for bug, seen in row["planted"].items()
    ]


def _figures(method: MethodSummary) -> Sequence[str]:
    figures, gain = method.figures, (method.gains or {}).get("balanced_accuracy", Estimate())
    return [
        _with_spread(figures["balanced_accuracy"]),
        _with_spread(figures["auroc"]),
        figures["worst_site"].figure,
        figures["ece"].figure,
        numerals.signed(gain.mean),
        numerals.size(method.bytes_up),
        f"{method.rounds:g}",
    ]


def _with_spread(estimate: Estimate) -> str:
    interval = estimate.spread.replace("0.", ".")
    return estimate.figure + (f" [not bold dim]{interval}[/]" if interval else "")


def _number(value: float | None, share: bool = False) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f}" if share else f"{value:.2f}"


def _sources_table(*headings: str) -> "Table":
    table = terminal_table(padding=(0, 1, 0, 0))
    for heading in headings:
        name = heading in ("source", "taps", "score")
        table.add_column(heading, justify="left" if name else "right", no_wrap=heading == "source", overflow="fold")
    return table
