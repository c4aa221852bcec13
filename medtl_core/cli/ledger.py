"""`medtl ledger show|verify|raise|plan|statement`: what a hospital's ledger says, for people."""

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.privacy.ledger_report import Balance, LedgerEntry, balance, history, ledgers, raise_budget
from medtl_core.privacy.plan import Plan

ledger_app = console.group("The privacy ledger of a hospital: what was spent on its patients.")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A hospital's folder, or one above several.")]
#: Columns of what is printed, whatever shows it.
_WIDTH = 80


@ledger_app.command("show")
def show(
    folder: Folder,
    as_json: console.AsJson = False,
) -> None:
    """Show what was spent: of one ledger every record in words, of several a line each."""
    places = ledgers(folder)
    if as_json:
        console.show_json([_as_dict(place) for place in places])
    elif len(places) == 1:
        console.show(*account_lines(balance(places[0]), history(places[0])))
    else:
        table = console.table_of("site", "ledger", "spent", "of", "delta", "reserved", "released", "last record")
        for place in places:
            account = balance(place)
            (number, name), where = account.witness, str(place.relative_to(folder)) or "."
            spent = (f"{account.spent:.4g}", f"{account.budget:.4g}", f"{account.delta:g}")
            counts = (f"{account.reserved}", f"{account.released}", f"{number} {name[:12]}")
            table.add_row(account.site, where, *spent, *counts)
        console.show(table, width=_WIDTH, markup=False)


def _as_dict(place: Path) -> dict[str, object]:
    account = balance(place)
    return {**vars(account), "left": left(account), "history": [vars(entry) for entry in history(place)]}


def left(account: Balance) -> float:
    """Returns the epsilon that may still be spent."""
    return max(account.budget - account.spent, 0.0)


def account_lines(account: Balance, entries: tuple[LedgerEntry, ...]) -> Iterator[str]:
    """Yields a ledger as lines of at most 80 characters: the balance, then every record in words."""
    yield from _wrapped(
        f"{account.site}: epsilon {account.spent:.4g} of {account.budget:.4g} spent on every patient, for ever, at "
        f"delta {account.delta:g}; {left(account):.4g} is left"
    )
    number, name = account.witness
    yield f"{number} records{f', the last {name[:12]}' if number else ': nothing was asked privately yet'}"
    yield ""
    asked = ""
    for entry in entries:
        if entry.asked not in ("", asked):
            asked = entry.asked
            yield from _wrapped(f"asked by {asked}:")
        at = f"{entry.at[:10]} {entry.at[11:16]}" if entry.at else "no date kept"
        words = f"{entry.mechanism}: {entry.what}" if entry.mechanism not in entry.what else entry.what
        yield from _wrapped(f"{entry.number:>3}  {at:16}  {words}; {entry.left:.4g} left", 23)


def _wrapped(text: str, indent: int = 0) -> list[str]:
    """Lines of whole words; what no terminal should be told is taken out."""
    harmless = "".join(sign for sign in text if sign.isprintable())
    return textwrap.wrap(harmless, _WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


@ledger_app.command("verify")
def verify(folder: Folder) -> None:
    """Check every record of every ledger below a folder; damage is an error (exit code 1)."""
    for place in ledgers(folder):
        number, name = balance(place).witness
        typer.echo(f"whole: {place.relative_to(folder)}: {number} records, last {name}")


@ledger_app.command("raise")
def raise_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's folder.")],
    epsilon: Annotated[float, typer.Option(help="What may be spent from now on, in all.")],
    reason: Annotated[str, typer.Option(help="Who decided, and why; it is written down.")],
) -> None:
    """Let a hospital spend more. Only a person at the hospital can; a server has no way to ask for it."""
    account = raise_budget(folder, epsilon, reason)
    typer.echo(f"{account.site}: {account.spent:.4g} of {account.budget:.4g} spent")


@ledger_app.command("plan")
def plan(
    folder: Folder,
    words: console.Words = None,
    assignments: console.Assignments = None,
    app: console.App = None,
    as_json: console.AsJson = False,
) -> None:
    """Say what a run would cost each hospital of a folder, and whether it would refuse; nothing is spent.

    The run is a scenario, settings, or both: medtl ledger plan DIR privacy=auto epsilon=1 sites=3 public-cases=40.
    Exit code 1: a hospital would refuse.
    """
    from medtl_core.cli.forecast import forecast

    scenario, pairs = console.scenario_and_settings(words or (), assignments or ())
    plans = run_plans(scenario, pairs, app)
    found = [forecast(place, plans) for place in ledgers(folder)]
    if as_json:
        console.show_json([{**vars(one), "cost": one.cost} for one in found])
    else:
        console.show(*(line for one in plans for line in _promised(one)))
        for one in found:
            kept = f"epsilon {one.spent:.4g} of {one.budget:.4g} spent; the run would add {one.cost:.4g}"
            after = f"and leave {max(one.budget - one.after, 0.0):.4g}" if not one.refused else "but"
            console.show(*_wrapped(f"{one.site}: {kept} in {one.releases} release(s), {after}", 2))
            console.show(*(line for why in one.refused for line in _wrapped(f"  it would be refused: {why}", 4)))
    if any(one.refused for one in found):
        raise typer.Exit(1)


def _promised(one: Plan) -> list[str]:
    terms = one.terms
    how = f"a secure sum that withstands {terms.colluders} colluder(s)" if terms.secure else "each adds the whole noise"
    return _wrapped(
        f"{one.mechanism}: epsilon {terms.epsilon:.4g} at delta {terms.delta:g}, for {terms.hospitals} hospitals of "
        f"{terms.cases} public patients; {how}"
    )


def run_plans(scenario: str | None, pairs: list[str], app: Path | None) -> list[Plan]:
    """Returns the plans of a run's private methods; none = it has no privacy.

    What a plan costs hangs neither on the width of the features nor on the number of classes, which no folder tells.

    Raises:
        MedtlError: the scenario or a setting cannot be used.
    """
    from medtl_core.cli.app_folder import find_app
    from medtl_core.cli.plan import scenario_path
    from medtl_core.config import read_assignments, read_scenario, settings
    from medtl_core.federation.private import PrivateMethod, terms_of
    from medtl_core.federation.registry import chosen_methods

    written = read_scenario(scenario_path(scenario, find_app(app))) if scenario else {}
    typed = read_assignments(pairs)
    chosen = settings({**written, **typed})
    chosen.check_promise(typed)
    if chosen.privacy == "none":
        return []
    terms = terms_of(chosen, width=1, classes=2)
    return [method.plan(terms) for method in chosen_methods(chosen) if isinstance(method, PrivateMethod)]


@ledger_app.command("statement")
def statement(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A hospital's folder.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page there, as HTML to print.")] = None,
) -> None:
    """Say on one page what a hospital has promised and spent, what that rests on and leaves out, to be signed."""
    from medtl_core.cli.app_folder import code_fingerprint
    from medtl_core.report.statement import statement_page, statement_text
    from medtl_core.store import write_text

    if out is None:
        console.show(*statement_text(folder, code_fingerprint(), _wrapped))
    else:
        console.refuse_written(out)
        write_text(out, statement_page(folder, code_fingerprint()))
        typer.echo(f"statement  {out}")


COMMANDS = {"ledger": ledger_app}
