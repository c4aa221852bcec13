"""`medtl audit`: attacks on what one hospital would send."""

from typing import Annotated

import typer

from medtl_core.audit.command import AuditOrder
from medtl_core.audit.command import audit as run_audit
from medtl_core.cli import console
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.plan import name_data
from medtl_core.report.terminal import AUDIT_REMARK, audit_table, audit_verdict, planted_lines, tried_lines


def audit(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of the data.")] = "phantom",
    method: Annotated[str, typer.Option(help="A private method, or a head without privacy.")] = "private-auto",
    epsilon: Annotated[float, typer.Option(help="What the private method promises.")] = 4.0,
    shots: Annotated[int, typer.Option(help="Cases of the hospital under audit.")] = 60,
    heads: Annotated[int, typer.Option(min=16, help="Shadow heads of the membership attack; an even number.")] = 64,
    runs: Annotated[int, typer.Option(min=400, help="Releases of either kind in the two-run audit.")] = 20_000,
    assignments: console.Assignments = None,
    app: console.App = None,
    as_json: console.AsJson = False,
) -> None:
    """Attack what one hospital would send, with and without privacy; a false claim gives exit code 1."""
    order = AuditOrder(data, method, assignments or (), epsilon, shots, heads, runs)
    findings = run_audit(order, name_data(data), find_app(app))
    if as_json:
        console.show_json(findings)
    else:
        planted = planted_lines(findings)
        console.show(audit_verdict(findings), "", audit_table(findings), "", *tried_lines(findings))
        if planted:
            console.show("", *planted, "", AUDIT_REMARK)
    if any(row["held"] is False for row in findings["findings"]):
        raise typer.Exit(1)


COMMANDS = {"audit": console.command(audit)}
