"""`medtl sweep privacy`: many runs as one experiment, one table and one report."""

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.plan import RunOrder, make_plan
from medtl_core.cli.simulate import simulate
from medtl_core.errors import not_negative
from medtl_core.report.terminal import shown_table
from medtl_core.sweep.page import RANGES, sweep_table
from medtl_core.sweep.request import MECHANISMS, USUAL, check_assignments, read_sweep
from medtl_core.sweep.run import carry_out

sweep_app = console.group("Many runs as one experiment that goes on where it stopped.")


@sweep_app.command("privacy")
def privacy(
    words: console.Words = None,
    data: console.Data = None,
    assignments: console.Assignments = None,
    epsilons: Annotated[
        str, typer.Option(metavar="NUMBERS", help="Promised; runs without privacy are always there.")
    ] = "0.5,1,2,4,8,none",
    mechanisms: Annotated[str, typer.Option(metavar="NAMES", help="Private methods.")] = MECHANISMS,
    shots: Annotated[str, typer.Option(metavar="NUMBERS", help="Cases a hospital; if left out, as set.")] = "",
    seeds: Annotated[int, typer.Option(help="Repetitions with other training cases and other noise.")] = 3,
    minutes: Annotated[float, typer.Option(help="No run starts later; 0 = only tables of what is done.")] = 600.0,
    workers: console.Workers = None,
    out: console.Resumable = None,
    app: console.App = None,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Measure accuracy against epsilon: mechanisms x epsilon x shots x seeds, with intervals, as CSV, table and page.

    The same command goes on where it stopped. It marks where a mechanism is no better than guessing.
    """
    scenario, pairs = console.scenario_and_settings(words or (), assignments or ())
    not_negative(minutes=minutes)
    check_assignments(pairs, shots)
    plan = make_plan(RunOrder(scenario, pairs, data, seeds, workers, None, out), find_app(app), USUAL)
    if out is None and not any(pair.startswith("out=") for pair in pairs):
        plan = replace(plan, out=Path.cwd() / "runs" / f"sweep-privacy-{plan.name}")
    sweep = read_sweep(plan, epsilons, mechanisms, shots)
    log = console.console_of(stderr=True, quiet=quiet)
    with redirect_stdout(sys.stderr):
        findings = carry_out(sweep, simulate, minutes, partial(console.say, log))
    if as_json:
        console.show_json(findings.as_dict())
    else:
        places = [f"{name:<8}{plan.out / file}" for name, file in (("report", "report.html"), ("rows", "sweep.csv"))]
        console.show(shown_table(sweep_table(findings)), f"ranges: {RANGES}", *findings.remarks, *places)
    if findings.broken:
        raise typer.Exit(1)


COMMANDS = {"sweep": sweep_app}
