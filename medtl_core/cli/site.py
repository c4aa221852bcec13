"""The hospital's own commands: `medtl ledger show|verify|raise`, and all of `medtl site`."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console, site_check, site_run
from medtl_core.errors import PrivacyError
from medtl_core.privacy.identity import IDENTITY, public_identity
from medtl_core.privacy.ledger_report import DEFAULT_OUTBOUND, PRIVATE_OUTBOUND, balance, ledgers, raise_budget

ledger_app = console.group("The privacy ledger of a hospital: what was spent on its patients.")
site_app = console.group("What concerns one hospital.")
site_app.command("init")(site_run.init)
site_app.command("check")(site_check.check)
site_app.command("run")(site_run.run)
site_app.command("status")(site_check.status)
site_app.command("stop")(site_check.stop)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A hospital's folder, or one above several.")]


@ledger_app.command("show")
def show(folder: Folder) -> None:
    """Show every ledger below a folder: epsilon spent and allowed, and its records."""
    table = console.table_of(
        "site", "ledger", "epsilon spent", "allowed", "delta", "reserved", "released", "last record"
    )
    for place in ledgers(folder):
        account = balance(place)
        (number, name), where = account.witness, str(place.relative_to(folder)) or "."
        spent = (f"{account.spent:.4g}", f"{account.budget:.4g}", f"{account.delta:g}")
        table.add_row(
            account.site, where, *spent, str(account.reserved), str(account.released), f"{number} {name[:12]}"
        )
    console.show(table, width=140, markup=False)


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


@site_app.command("outbound")
def outbound() -> None:
    """List everything a hospital may send under privacy, and what the default method sends without it."""
    table = console.table_of("answer", "named", "what it is", "paid for")
    for row in PRIVATE_OUTBOUND:
        table.add_row(row.task, row.name, row.what, "by the ledger" if row.private else "not about patients")
    for row in DEFAULT_OUTBOUND:
        table.add_row(row.task, row.name, row.what, "not private: only in a run without privacy")
    console.show(table, width=140, markup=False)


@site_app.command("identity")
def identity(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's own folder.")],
) -> None:
    """Print the hospital's public key, which the others write into their [peers]; the private one never leaves DIR."""
    if not (folder / IDENTITY).is_file():
        raise PrivacyError(f"{folder} holds no identity key; spell it as it was, or make it with medtl site init")
    typer.echo(public_identity(folder))


COMMANDS = {"ledger": ledger_app, "site": site_app}
