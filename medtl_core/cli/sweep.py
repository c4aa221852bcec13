"""`medtl sweep privacy`: many runs as one experiment, one table and one report."""

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.plan import RunOrder, make_plan
from medtl_core.cli.simulate import simulate
from medtl_core.errors import ConfigError
from medtl_core.sweep.findings import Findings, summary_lines
from medtl_core.sweep.page import headline, sweep_table
from medtl_core.sweep.request import MECHANISMS, USUAL, check_assignments, read_sweep
from medtl_core.sweep.run import carry_out

sweep_app = console.group("Many runs as one experiment that goes on where it stopped.")


@sweep_app.callback()
def _sweep() -> None:
    """Many runs as one experiment that goes on where it stopped."""


@sweep_app.command("privacy")
def privacy(
    words: console.Words = None,
    data: console.Data = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. --set sites=10.")
    ] = None,
    epsilons: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Promised; runs without privacy are always there.")
    ] = "0.5,1,2,4,8,none",
    mechanisms: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Private methods; if left out, seven usual ones.")
    ] = None,
    shots: Annotated[str, typer.Option(metavar="NUMBERS", help="Cases a hospital; if left out, as set.")] = "",
    seeds: Annotated[int, typer.Option(help="Repetitions with other training cases and other noise.")] = 3,
    minutes: Annotated[float, typer.Option(help="No run starts later; 0 = only tables of what is done.")] = 600.0,
    workers: console.Workers = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder; what is done in it stays.")] = None,
    app: console.App = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")] = False,
    quiet: console.Quiet = False,
) -> None:
    """Measure accuracy against epsilon: mechanisms x epsilon x shots x seeds, with intervals, as CSV, table and page.

    The same command goes on where it stopped. It says in words where a mechanism is no better than guessing.
    """
    scenario, pairs = console.scenario_and_settings(words or (), assignments or ())
    if not minutes >= 0:  # nor NaN
        raise ConfigError(f"minutes={minutes} must not be negative; 0 = only the tables of what is done")
    check_assignments(pairs, shots)
    plan = make_plan(RunOrder(scenario, pairs, data, seeds, workers, None, out), find_app(app), USUAL)
    if out is None and not any(pair.startswith("out=") for pair in pairs):
        plan = replace(plan, out=Path.cwd() / "runs" / f"sweep-privacy-{plan.name}")
    sweep = read_sweep(plan, epsilons, MECHANISMS if mechanisms is None else mechanisms, shots)
    log = console.console_of(stderr=True)

    def tell(text: str) -> None:
        if not quiet:
            console.say(log, text)

    with redirect_stdout(sys.stderr):
        findings = carry_out(sweep, simulate, minutes, tell)
    if as_json:
        console.say_json(findings.as_dict())
    else:
        _show(findings, sweep.plan.out)
    if findings.broken:
        raise typer.Exit(1)


def _show(findings: Findings, out: Path) -> None:
    screen = console.console_of()
    for count in findings.sweep.shots:
        console.say(screen, headline(findings, count))
        screen.print(sweep_table(findings, count))
    for line in summary_lines(findings):
        console.say(screen, line)
    for name, file in (("report", "report.html"), ("rows", "sweep.csv")):
        console.say(screen, f"{name:<8}{out / file}")


COMMANDS = {"sweep": sweep_app}
