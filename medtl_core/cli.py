"""The command line: `medtl simulate`, `medtl data check`, `medtl backbones`, `medtl report`.

Results go to standard output, everything else to standard error. Heavy libraries are imported inside the commands.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medtl_core import __version__
from medtl_core.errors import MedtlError

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="medtl",
    help="Federated few-shot transfer learning for hospitals that may not share a case.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
data_app = typer.Typer(
    help="Look at data before they are used.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")


def main() -> None:
    """Runs the command line; an error a user can mend is one line on standard error and exit code 1."""
    try:
        app()
    except MedtlError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise SystemExit(1) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medtl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Federated few-shot transfer learning for hospitals that may not share a case."""


@app.command()
def simulate(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO] [KEY=VALUE]...", help="A scenario's name or TOML file; further settings."),
    ] = None,
    data: Annotated[str | None, typer.Option(metavar="DIR", help="Folder or file of the data.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. --set shots=90 sites=10 seeds=10."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions with other draws of the training cases.")] = None,
    workers: Annotated[int | None, typer.Option(help="Hospitals that work at the same time.")] = None,
    wire: Annotated[bool, typer.Option("--wire", help="Serialise every message as a network would.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; new or empty.")] = None,
    app_dir: Annotated[Path | None, typer.Option("--app", metavar="DIR", help="The medtl checkout to run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics as JSON and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Simulate hospitals that train together, on this machine.

    Without a scenario and without data: five hospitals with synthetic chest radiographs (scenario "quickstart").
    """
    from medtl_core.checkout import find_app
    from medtl_core.planning import Order, make_plan

    bare = [word for word in words or () if "=" not in word]
    if len(bare) > 1:
        raise typer.BadParameter(f"one scenario at a time: {' '.join(bare)}", param_hint="SCENARIO")
    pairs = [*(assignments or ()), *(word for word in words or () if "=" in word)]
    order = Order(bare[0] if bare else None, pairs, data, seeds, workers, wire or None, out)
    plan = make_plan(order, find_app(app_dir))
    metrics = _simulate(plan, quiet)
    if as_json:
        from medtl_core.atomic import to_json

        sys.stdout.write(to_json(metrics))
        return
    from medtl_core.report.summary import summary_table

    console = _console()
    console.print(summary_table(metrics))
    _say(console, f"report      {plan.out / 'report.html'}")
    _say(console, f"run folder  {plan.out}")


def _simulate(plan: Any, quiet: bool) -> Mapping[str, Any]:
    """Runs the checkout's experiment; whatever it writes to standard output goes to standard error."""
    from contextlib import redirect_stdout

    from medtl_core.atomic import read_json
    from medtl_core.checkout import load_experiment
    from medtl_core.progress import shown

    console = _console(stderr=True)
    if not quiet:
        _say(console, f"{plan.name}: {plan.seeds} seed(s), {plan.workers} worker(s), results in {plan.out}")
    with redirect_stdout(sys.stderr), shown(console, quiet) as progress:
        found = load_experiment(plan.app)(plan, progress)
    metrics: Mapping[str, Any] = found if isinstance(found, Mapping) else read_json(plan.out / "metrics.json")
    return metrics


@data_app.command("check")
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
) -> None:
    """Count the cases and name every fault.

    Counts by site, split and class; unreadable images, and patients or images on two sides, are faults (exit code 1).
    """
    from medtl_core.config import settings
    from medtl_core.data.source import open_source
    from medtl_core.inspection import inspect, inspection_table
    from medtl_core.planning import name_data

    source = open_source(settings(name_data(folder)))
    found = inspect(source)
    console = _console()
    console.print(inspection_table(source, found))
    _say(console, f"licence: {source.entry.licence}")
    for note in source.notes:
        _say(console, f"note: {note}")
    for fault in found.faults:
        _say(console, f"fault: {fault}")
    _say(console, f"{len(found.faults)} fault(s)" if found.faults else "no fault found")
    if found.faults:
        raise typer.Exit(1)


@app.command()
def backbones() -> None:
    """List pretrained backbones and where weights are present.

    "rich" and "plain" are the layers that the setting `features` reads. Own weights: backbone=file:PATH, timm:ARCH.
    """
    from rich import box
    from rich.table import Table

    from medtl_core.backbones.zoo import table

    shown = Table(box=box.SIMPLE_HEAD)
    shown.pad_edge, shown.show_edge = False, False
    shown.add_column("backbone", no_wrap=True)
    for heading in ("pixels", "rich", "plain", "weights"):
        shown.add_column(heading)
    for row in table():
        here = "here" if row["available"] else "not here"
        shown.add_row(row["name"], str(row["size"]), " ".join(row["rich"]), " ".join(row["plain"]), here)
    _console().print(shown)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `medtl simulate` printed it.")],
) -> None:
    """Write a run's report anew from its stored results."""
    from medtl_core.report.folder import write_report
    from medtl_core.report.summary import summary_table

    metrics = write_report(run)
    console = _console()
    console.print(summary_table(metrics))
    _say(console, f"report  {run.absolute() / 'report.html'}")


def _console(stderr: bool = False) -> "Console":
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    # A pipe has no width; 100 columns keep every row on one line.
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=100)


def _say(console: "Console", words: str) -> None:
    """Prints a line as it is: no markup, and no break inside a path."""
    console.print(words, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
