"""`medtl simulate`: hospitals that train together, on this machine; and the experiment that other commands run too."""

import shutil
import sys
import textwrap
from collections import Counter
from contextlib import redirect_stdout
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from medtl_core.cli import ahead, console
from medtl_core.cli.app_folder import find_app
from medtl_core.cli.fitting import outlook
from medtl_core.cli.plan import RunOrder, make_plan, read_words
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.flower.run import Progress, RunPlan, run_seeds
from medtl_core.methods.effect import RULES, SIMULATED, check_effect
from medtl_core.run_folder import create_run
from medtl_core.store import read_json

if TYPE_CHECKING:
    from medtl_core.report.summary import Summary


def simulate(plan: RunPlan, progress: Progress = lambda event: None) -> "Summary":
    """Runs the plan and returns its summary; the run folder holds results, heads, metrics and the report.

    Raises:
        MedtlError: anything a user can mend; the run folder then says FAILED and holds no half-written file.
    """
    with create_run(plan.out) as run:
        ahead.read_later("httpx")
        ahead.read_ahead(plan)
        from medtl_core.report.folder import read_context
        from medtl_core.report.page import render
        from medtl_core.report.summary import summarise

        shape = {
            "begun": f"{date.today()}",
            "seeds": plan.seeds,
            "workers": plan.workers,
            "settings": plan.settings.public(),
        }
        run.begin({"name": plan.name, **shape})
        results = run_seeds(plan, run, progress)
        summary = summarise(results, plan.name, plan.out)
        run.finish(summary.as_dict(), render(summary, results, read_context(plan.out, results)))
    return summary


def simulate_shown(plan: RunPlan, quiet: bool) -> "Summary":
    """Runs the plan and shows how it goes; whatever the apps write to standard output goes to standard error."""
    log = console.console_of(stderr=True, quiet=quiet)
    shape = f"{len(plan.methods)} method(s), {plan.seeds} seed(s), {plan.workers} worker(s)"
    console.say(log, f"{plan.name}: {shape}, results in {plan.out}")
    for line in outlook(plan.settings):
        console.say(log, line)
    new = not plan.out.exists()
    try:
        with redirect_stdout(sys.stderr), console.progress_shown(log, quiet) as progress:
            return simulate(plan, progress)
    except (ConfigError, DataError, WeightsError):
        _forget(plan.out, new)
        raise


def _forget(folder: Path, new: bool) -> None:
    """Takes away a run's folder, or what is in one that was there, where nothing was asked of any hospital yet."""
    events = folder / "events.jsonl"
    if events.is_file() and not events.stat().st_size:
        shutil.rmtree(folder)
        if not new:
            folder.mkdir()


def simulate_command(
    words: console.Words = None,
    data: console.Data = None,
    assignments: console.Assignments = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions with other draws of the training cases.")] = None,
    workers: console.Workers = None,
    wire: Annotated[bool, typer.Option("--wire", help="Serialise every message as a network would.")] = False,
    out: console.Out = None,
    app: console.App = None,
    as_json: console.AsJson = False,
    quiet: console.Quiet = False,
) -> None:
    """Simulate hospitals that train together, on this machine.

    Without a scenario and without data: five hospitals with synthetic chest radiographs (scenario "quickstart").
    """
    scenario, pairs = console.scenario_and_settings(words or (), assignments or ())
    plan = make_plan(RunOrder(scenario, pairs, data, seeds, workers, wire or None, out), find_app(app))
    check_effect(read_words(pairs), plan.settings, RULES + SIMULATED)
    summary = simulate_shown(plan, quiet)
    if as_json:
        console.show_json(summary.as_dict())
    else:
        from medtl_core.report.terminal import summary_tables

        places = (f"report      {plan.out / 'report.html'}", f"run folder  {plan.out}")
        console.show(*summary_tables(summary), *places)
    tell_failures(plan)


def tell_failures(plan: RunPlan) -> None:
    """Names every hospital that failed to answer; where one gave nothing at all, the exit code is 1."""
    lost = set[str]()
    for path in sorted(plan.out.glob("seed-*/result.json")):
        result = read_json(path)
        for text in dict.fromkeys(f"{row['site']}: {row['code']}: {row['text']}" for row in result["failures"]):
            console.say(console.console_of(stderr=True), f"failed: {text}")
        failed = Counter(row["site"] for row in result["failures"])
        asked = sum(trip["phase"] != "join" for trip in result["phases"])  # who failed as often gave nothing
        lost |= {site for site, often in failed.items() if site not in result["sites"] or 0 < asked <= often}
    if lost:
        raise typer.Exit(1)


class _Simulate(console.Command):
    """The command's help ends with what `methods=...` can name."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes one name of every family of methods."""
        from medtl_core.federation.registry import method_names

        del ctx
        names = ", ".join(method_names())
        with formatter.section("Methods (a number is rounds or size; more: medtl methods)"):
            for line in textwrap.wrap(names, formatter.width - 4, break_on_hyphens=False):
                formatter.write(f"  {line}\n")


COMMANDS = {"simulate": console.command(simulate_command, _Simulate)}
