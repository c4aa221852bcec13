"""`medtl report`: a run's report, written anew from its stored results; or a hospital's own page."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.predict import read_prevalence
from medtl_core.errors import ConfigError
from medtl_core.report.folder import write_hospital, write_report
from medtl_core.report.terminal import summary_tables


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `medtl simulate` printed it.")],
    prevalence: Annotated[
        list[str] | None, typer.Option(metavar="CLASS=SHARE,...", help="How common classes are where you work.")
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(metavar="NAME", help="Write this hospital's own page, without the others' names.")
    ] = None,
    maps: Annotated[
        int | None, typer.Option(metavar="N", help="Show N test cases at most, with maps of their answers.")
    ] = None,
) -> None:
    """Write a run's report anew, or a page that one hospital can print for itself.

    With --prevalence, PPV and NPV are told for it. With --hospital, one page of that hospital's own figures is written
    instead. With --maps, a simulation's report shows missed and found test cases; without, it holds no picture.
    """
    if hospital is not None and maps is not None:
        raise ConfigError("--maps shows cases of all hospitals; leave --hospital or --maps out")
    if hospital is not None:
        console.show(f"page  {write_hospital(run, hospital).absolute()}")
        return
    shares = read_prevalence(prevalence or ())
    gallery = None
    if maps is not None:
        from medtl_core.cli.report_examples import gallery_of

        gallery = gallery_of(run, maps)
    summary = write_report(run, shares, gallery)
    console.show(*summary_tables(summary), f"report  {run.absolute() / 'report.html'}")
    if gallery and not gallery.synthetic:
        shown = f"the report holds pictures of {len(gallery.cases)} cases; do not pass it on unless you may"
        console.say(console.console_of(stderr=True), shown)


COMMANDS = {"report": console.command(report)}
