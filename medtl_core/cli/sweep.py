"""`medtl sweep privacy`: many runs as one experiment, one table and one report."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medtl_core.cli.console import console_of, say, scenario_and_settings

if TYPE_CHECKING:
    from medtl_core.sweep.cells import Sweep
    from medtl_core.sweep.findings import Findings

sweep_app = typer.Typer(
    help="Many runs as one experiment that goes on where it stopped.", no_args_is_help=True, rich_markup_mode=None
)


@sweep_app.command("privacy")
def privacy(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO] [KEY=VALUE]...", help="A scenario's name or TOML file; further settings."),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of the data.")] = None,
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
    workers: Annotated[int | None, typer.Option(help="Hospitals that work at the same time.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder; what is done in it stays.")] = None,
    app_dir: Annotated[Path | None, typer.Option("--app", metavar="DIR", help="The medtl checkout to run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Measure accuracy against epsilon: mechanisms x epsilon x shots x seeds, with intervals, as CSV, table and page.

    The same command goes on where it stopped. It says in words where a mechanism is no better than guessing.
    """
    from medtl_core.atomic import to_json
    from medtl_core.cli.checkout import find_app
    from medtl_core.cli.plan import Order, make_plan
    from medtl_core.errors import ConfigError
    from medtl_core.sweep.request import MECHANISMS, check_assignments, read_sweep

    scenario, pairs = scenario_and_settings(words or (), assignments or ())
    if not minutes >= 0:  # nor NaN
        raise ConfigError(f"minutes={minutes} must not be negative; 0 = only the tables of what is done")
    check_assignments(pairs, shots)
    plan = make_plan(Order(scenario, pairs, data, seeds, workers, None, out), find_app(app_dir))
    if out is None and not any(pair.startswith("out=") for pair in pairs):
        plan = replace(plan, out=Path.cwd() / "runs" / f"sweep-privacy-{plan.name}")
    sweep = read_sweep(plan, epsilons, MECHANISMS if mechanisms is None else mechanisms, shots)
    findings = _carry_out(sweep, minutes, quiet)
    if as_json:
        sys.stdout.write(to_json(findings.as_dict()))
    else:
        _show(findings, sweep.plan.out)
    if findings.broken:
        raise typer.Exit(1)


def _carry_out(sweep: "Sweep", minutes: float, quiet: bool) -> "Findings":
    """Runs the sweep's cells with the checkout's experiment, a line each on standard error."""
    from contextlib import redirect_stdout

    from medtl_core.cli.checkout import load_experiment
    from medtl_core.sweep.run import carry_out

    log = console_of(stderr=True)

    def tell(text: str) -> None:
        if not quiet:
            say(log, text)

    with redirect_stdout(sys.stderr):
        simulate = load_experiment(sweep.plan.app)
        return carry_out(sweep, lambda plan: simulate(plan, lambda event: None), minutes, tell)


def _show(findings: "Findings", out: Path) -> None:
    from medtl_core.sweep.findings import summary_lines
    from medtl_core.sweep.page import headline, sweep_table

    console = console_of()
    for count in findings.sweep.shots:
        say(console, headline(findings, count))
        console.print(sweep_table(findings, count))
    for line in summary_lines(findings):
        say(console, line)
    for name, file in (("report", "report.html"), ("rows", "sweep.csv")):
        say(console, f"{name:<8}{out / file}")
