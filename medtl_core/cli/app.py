"""The command line: `medtl simulate`, `select`, `adapt`, `audit`, `report`; the others are in `cli_...` modules.

Results go to standard output, everything else to standard error. Heavy libraries are imported inside the commands.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from medtl_core import __version__
from medtl_core.cli import lists as cli_lists
from medtl_core.cli.console import carry_out, console_of, say, scenario_and_settings
from medtl_core.cli.site import ledger_app, site_app
from medtl_core.cli.sweep import sweep_app
from medtl_core.errors import MedtlError

app = typer.Typer(
    name="medtl",
    help="Federated few-shot transfer learning for hospitals that may not share a case.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
app.add_typer(cli_lists.data_app, name="data")
app.add_typer(ledger_app, name="ledger")
app.add_typer(site_app, name="site")
app.add_typer(sweep_app, name="sweep")


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
    from medtl_core.cli.checkout import find_app
    from medtl_core.cli.plan import Order, make_plan

    scenario, pairs = scenario_and_settings(words or (), assignments or ())
    order = Order(scenario, pairs, data, seeds, workers, wire or None, out)
    plan = make_plan(order, find_app(app_dir))
    metrics = carry_out(plan, quiet)
    if as_json:
        from medtl_core.atomic import to_json

        sys.stdout.write(to_json(metrics))
        return
    from medtl_core.report.folder import read_results
    from medtl_core.report.summary import summarise
    from medtl_core.report.terminal import summary_table

    console = console_of()
    console.print(summary_table(summarise(read_results(plan.out), plan.name)))
    say(console, f"report      {plan.out / 'report.html'}")
    say(console, f"run folder  {plan.out}")


app.command()(cli_lists.backbones)
app.command()(cli_lists.methods)


@app.command()
def select(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of the target's data.")],
    backbones: Annotated[
        str, typer.Option(metavar="NAMES", help="Separated by commas; NAME@4+7 names the taps of one.")
    ] = "lite0,torchvision:squeezenet1_1,torchvision:mobilenet_v2",
    taps: Annotated[str, typer.Option(help="Layers of each backbone: rich (at least four) or all.")] = "rich",
    weights: Annotated[str, typer.Option(metavar="DIR", help="Folder with a folder of weights a backbone.")] = "",
    shots: Annotated[int | None, typer.Option(help="Labelled training cases of each hospital; 0 = all.")] = None,
    sites: Annotated[int | None, typer.Option(help="Hospitals.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the first repetition.")] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions with other draws of the training cases.")] = 1,
    measure: Annotated[bool, typer.Option("--measure", help="Judge every candidate on test cases, too.")] = False,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")] = None,
    workers: Annotated[int | None, typer.Option(help="Hospitals that work at the same time.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder; what is done in it stays.")] = None,
    app_dir: Annotated[Path | None, typer.Option("--app", metavar="DIR", help="The medtl checkout to run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the ranking as JSON and nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Order backbones and their layers by how well they suit the hospitals' task, from sums only."""
    from medtl_core.atomic import to_json
    from medtl_core.cli.checkout import find_app
    from medtl_core.cli.selecting import Selection, read_sources
    from medtl_core.cli.selecting import select as chosen
    from medtl_core.report.terminal import agreement_table, ranking_table

    given = {"shots": shots, "sites": sites, "seed": seed}
    words = [*(assignments or ()), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    order = Selection(data, read_sources(backbones, taps), words, weights, measure, seeds, workers, out)
    found = chosen(order, find_app(app_dir), lambda plan: carry_out(plan, quiet))
    if as_json:
        sys.stdout.write(to_json(found))
        return
    console = console_of()
    console.print(ranking_table(found))
    if measure:
        console.print(agreement_table(found))
    say(console, f"run folder  {found['out']}")


@app.command()
def pretrain(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of ONE PUBLIC set, or its catalog name.")],
    out: Annotated[Path, typer.Option(metavar="NAME.safetensors", help="New file; it is then called own:NAME.")],
    backbone: Annotated[str, typer.Option(help="Where it starts.")] = "lite0",
    epochs: Annotated[int, typer.Option(help="Passes over the training cases.")] = 5,
    after: Annotated[str, typer.Option(metavar="TAP", help="Train only what is deeper than this tap.")] = "all",
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the starting weights.")] = "",
    image_size: Annotated[int, typer.Option(help="Pixels a side; 0 = the backbone's own.")] = 0,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="Of AdamW, at its highest.")] = 3e-4,
    seed: Annotated[int, typer.Option(help="Of the first values, the order and the augmentation.")] = 0,
    public: Annotated[bool, typer.Option("--public", help="Declare that anyone may have these cases.")] = False,
) -> None:
    """Fine-tune a backbone on one public set and register it as a source, own:NAME.

    Never on entrusted patients: what the network learns from its cases leaves with its weights.
    """
    from medtl_core.cli.pretraining import open_public
    from medtl_core.cli.pretraining import pretrain as made
    from medtl_core.cli.trainer import Lesson

    lesson = Lesson(backbone, weights, epochs, after, image_size, batch_size, learning_rate, seed=seed)
    source = open_public(data, declared=public)
    log = console_of(stderr=True)
    say(log, "WARNING: for public cases only. What the network learns from them leaves with its weights.")
    say(log, f"cases: {source.entry.title}; licence, to be kept for what is made from them: {source.entry.licence}")

    def told(epoch: int, loss: float, accuracy: float | None) -> None:
        shown = "none held out" if accuracy is None else f"held-out balanced accuracy {100 * accuracy:.1f}"
        say(log, f"epoch {epoch} of {epochs}: loss {loss:.3f}, {shown}")

    manifest = made(source, lesson, out, progress=told)
    console = console_of()
    say(console, f"weights   {out.absolute()}")
    say(console, f"sha256    {manifest['sha256']}")
    say(console, f"backbone  {manifest['name']}")


@app.command()
def adapt(
    head: Annotated[
        Path, typer.Argument(metavar="HEAD", help="A saved metric (best) or head, in a run's heads folder.")
    ],
    data: Annotated[str, typer.Option(metavar="DIR", help="The new hospital's labelled cases.")],
    shots: Annotated[int, typer.Option(help="Labelled cases of each class to learn from, at most.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the draw of these cases.")] = 0,
    weights: Annotated[str, typer.Option(metavar="PATH", help="File or folder with the backbone's weights.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="New file; HEAD-DIR here if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Give a new hospital its own head in seconds, on its own machine, even with classes nobody has seen."""
    from medtl_core.cli.adapting import Order, told
    from medtl_core.cli.adapting import adapt as adapted

    found = adapted(Order(head, data, shots, seed, out, weights))
    if as_json:
        from medtl_core.atomic import to_json

        sys.stdout.write(to_json(found.as_dict()))
        return
    console = console_of()
    for line in told(found):
        say(console, line)


@app.command()
def audit(
    data: Annotated[str, typer.Option(metavar="DIR", help="Folder or file of the data.")] = "phantom",
    method: Annotated[str, typer.Option(help="A private method, or a head without privacy.")] = "private-auto",
    epsilon: Annotated[float, typer.Option(help="What the private method promises.")] = 4.0,
    shots: Annotated[int, typer.Option(help="Cases of the hospital under audit.")] = 60,
    heads: Annotated[int, typer.Option(help="Shadow heads of the membership attack; an even number.")] = 64,
    runs: Annotated[int, typer.Option(help="Releases of either kind in the two-run audit.")] = 20_000,
    assignments: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")] = False,
) -> None:
    """Attack what one hospital would send, with and without privacy; a false claim gives exit code 1."""
    from medtl_core.atomic import to_json
    from medtl_core.audit.command import AuditOrder
    from medtl_core.audit.command import audit as audited
    from medtl_core.cli.plan import name_data
    from medtl_core.report.terminal import AUDIT_REMARK, audit_table, planted_lines

    order = AuditOrder(data, method, assignments or (), epsilon, shots, heads, runs)
    found = audited(order, name_data(data))
    if as_json:
        sys.stdout.write(to_json(found))
    else:
        console = console_of()
        console.print(audit_table(found))
        for line in [*planted_lines(found), AUDIT_REMARK]:
            say(console, line)
    if any(row["held"] is False for row in found["findings"]):
        raise typer.Exit(1)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `medtl simulate` printed it.")],
) -> None:
    """Write a run's report anew from its stored results."""
    from medtl_core.report.folder import write_report
    from medtl_core.report.terminal import summary_table

    summary = write_report(run)
    console = console_of()
    console.print(summary_table(summary))
    say(console, f"report  {run.absolute() / 'report.html'}")


if __name__ == "__main__":
    main()
