"""Tables for the terminal: what `medtl simulate` and `report`, `select`, `audit` and `sweep` print."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medtl_core.report import numerals
from medtl_core.report.estimate import Estimate
from medtl_core.report.labels import label_tables
from medtl_core.report.summary import MethodSummary, Summary
from medtl_core.report.tables import PageTable, TableCell, plain_table

if TYPE_CHECKING:
    from rich.table import Table

#: What every reader of an audit must know.
AUDIT_REMARK = (
    "A bound below the claim proves nothing by itself: it says what these attacks could not do. "
    "The bugs above were planted on purpose; an attack that finds them would have found them in the gate."
)

#: Columns of words and of numbers that are never broken into lines.
WORD: Mapping[str, Any] = {"no_wrap": True}
NUMBER: Mapping[str, Any] = {"no_wrap": True, "justify": "right"}
#: A column of figures with intervals: at 80 columns these move to a second line, nothing is ever cut off.
_FIGURE: Mapping[str, Any] = {"justify": "right", "min_width": 9}
#: A column of numbers that breaks rather than being cut off.
_FOLDED: Mapping[str, Any] = {"overflow": "fold", "justify": "right"}

#: Figures of a run: heading, and whether the interval stands beside; first all that have one.
_SHOWN = {
    "balanced_accuracy": ("balanced\naccuracy", True), "auroc": ("\nAUROC", True),
    "worst_site": ("worst\nsite", False), "ece": ("\nECE", False),
}  # fmt: skip
_FOLLOWED = {
    "concordance": ("\nconcordance", True), "mean_of_sites": ("mean of\nsites", False),
    "worst_site": ("worst\nsite", False),
}  # fmt: skip
#: Scores of sources that are shares of cases, shown in percent.
_SHARES = ("cv-accuracy", "nearest-mean")


def terminal_table(
    columns: Mapping[str, Mapping[str, Any]], rows: Iterable[Sequence[str]], *, bold: str = "", **options: Any
) -> "Table":
    """Returns a table as all commands print them: a line under the headings and no other.

    Columns are headings with their layout in rich, usually `WORD` or `NUMBER`, cells are in rich's markup; the row
    whose first cell is `bold` stands out, and options are of rich's table.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, **options)
    table.pad_edge, table.show_edge = False, False
    for heading, layout in columns.items():
        table.add_column(heading, **layout)
    for row in rows:
        table.add_row(*row, style="bold" if bold and row[0] == bold else "")
    return table


def summary_tables(summary: Summary) -> list["Table"]:
    """Returns a run as tables: of its methods and, of a multi-label task, of each finding."""
    return [summary_table(summary), *map(shown_table, label_tables(summary))]


def summary_table(summary: Summary) -> "Table":
    """Returns a run as a table: one row a method, small figures are intervals; a private one's promise is its title."""
    failures = f", {summary.failures} failed replies" if summary.failures else ""
    classes = f"{len(summary.classes)} {'findings' if summary.methods[summary.focus].labels else 'classes'}"
    counts = f"{summary.hospitals} hospitals, {summary.test_cases} test cases, {classes}"
    taken = (f"{name} took {method.taken}" for name, method in summary.methods.items() if method.taken)
    sites = ", ".join(f"{site} {figure.figure}" for site, figure in summary.methods[summary.focus].sites.items())
    each = f"{summary.focus} by site: {sites}" if sites else ""
    lines = (
        f"{counts}{failures}",
        _beside(summary),
        each,
        f"ranges: {summary.interval_words}",
        *taken,
        summary.contamination,
    )
    caption = "\n".join(filter(None, lines))
    shown = _FOLLOWED if summary.main == "concordance" else _SHOWN
    wide = {heading: _FIGURE for heading, interval in shown.values() if interval}
    small = [heading for heading, interval in shown.values() if not interval]
    numbers = dict.fromkeys((*small, "vs\nlocal", "sent per\nhospital", "\nrounds"), NUMBER)
    rows = [[name, *_figures(method, summary.main, shown)] for name, method in summary.methods.items()]
    options = {"caption": caption, "caption_justify": "left", "collapse_padding": True, "title_justify": "left"}
    if summary.promise:
        options |= {"title": "\n".join((*summary.promise, "")), "title_style": "none"}
    return terminal_table({"\nmethod": WORD, **wide, **numbers}, rows, bold=summary.focus, **options)


def _beside(summary: Summary) -> str:
    """What the figure over all cases hides: the mean of hospitals, and how many lie below it."""
    method = summary.methods[summary.focus]
    mean, below = method.mean_of_hospitals, len(method.below)
    if mean.mean is None:
        return ""
    words = f"{summary.focus}, mean of hospitals: {mean.figure} ({mean.spread})"
    return f"{words}, below the interval at {below} of {len(method.hospitals)}" if below else words


def shown_table(table: PageTable) -> "Table":
    """Returns a page's table for the terminal, remarks in small print under their values."""
    columns = {heading: _FOLDED if place else WORD for place, heading in enumerate(table.headings)}
    rows = [[row.name, *map(_cell, row.cells)] for row in table.rows]
    return terminal_table(columns, rows, caption=table.caption, caption_justify="left", collapse_padding=True)


def ranking_table(candidates: Sequence[Mapping[str, Any]]) -> "Table":
    """Returns the order of sources as a table."""
    scores = list(candidates[0]["scores"])
    rows = [
        (row["backbone"], row["taps"], *(_score(name, row["scores"][name]) for name in scores)) for row in candidates
    ]
    return shown_table(plain_table("", ["source", "taps", *scores], rows))


def audit_verdict(audit: Mapping[str, Any]) -> str:
    """Returns what an audit comes to, in one line: which claims are false, or that none was contradicted."""
    claims = [row for row in audit["findings"] if row["held"] is not None]
    wrong = [row["test"] for row in claims if not row["held"]]
    weak = [bug for row in claims for bug, seen in row["planted"].items() if seen.endswith("NOT found")]
    if wrong:
        return f"A CLAIM IS FALSE: {len(wrong)} of {len(claims)} do not hold ({'; '.join(wrong)})."
    if not claims:
        return "Nothing is claimed here, so nothing can be false; the figures say what is disclosed."
    too_weak = f" These attacks are too weak to see: {', '.join(weak)}, planted on purpose." if weak else ""
    return f"No claim was contradicted: all {len(claims)} stand.{too_weak}"


def audit_table(audit: Mapping[str, Any]) -> "Table":
    """Returns what is claimed and what was found as a table, one row an attack."""
    columns = {"attack": WORD, "claim": {"overflow": "fold"}, "found": {"overflow": "fold"}, "verdict": WORD}
    words = {True: "stands", False: "[bold]FALSE[/]", None: "no claim"}
    rows = [[row["test"], row["claim"], row["found"], words[row["held"]]] for row in audit["findings"]]
    return terminal_table(columns, rows)


def tried_lines(audit: Mapping[str, Any]) -> list[str]:
    """Returns one line an attack: how it was made, and what follows."""
    return [f"{row['test']}: {row['tried']}; {row['verdict']}" for row in audit["findings"]]


def planted_lines(audit: Mapping[str, Any]) -> list[str]:
    """Returns one line a planted bug, with what the attack found on it."""
    return [
        f"planted in {row['test']}: {bug}: {seen}" for row in audit["findings"] for bug, seen in row["planted"].items()
    ]


def _figures(method: MethodSummary, main: str, shown: Mapping[str, tuple[str, bool]]) -> Sequence[str]:
    gain = (method.gains or {}).get(main, Estimate())
    return [
        *(_with_spread(method.figures[key]) for key, (_, interval) in shown.items() if interval),
        *(method.figures[key].figure for key, (_, interval) in shown.items() if not interval),
        numerals.signed(gain.mean),
        numerals.size(method.cost.bytes_up),
        f"{method.cost.rounds:g}",
    ]


def _cell(cell: TableCell) -> str:
    return cell.value + (f"\n[dim]{_short(cell.note)}[/]" if cell.note else "")


def _with_spread(estimate: Estimate) -> str:
    return estimate.figure + (f" [not bold dim]{_short(estimate.spread)}[/]" if estimate.spread else "")


def _short(interval: str) -> str:
    return interval.replace("0.", ".")


def _score(name: str, value: float) -> str:
    return f"{100 * value:.1f}" if name in _SHARES else f"{value:.2f}"
