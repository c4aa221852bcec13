"""`medtl report`: a run's report, written anew from its stored results; or a hospital's own page."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.predict import read_prevalence
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
) -> None:
    """Write a run's report anew, or a page that one hospital can print for itself.

    With --prevalence, PPV and NPV are told for it. With --hospital, one page of that hospital's own figures is written
    instead.
    """
    if hospital is not None:
        console.show(f"page  {write_hospital(run, hospital).absolute()}")
        return
    shares = read_prevalence(prevalence or ())
    console.show(*summary_tables(write_report(run, shares)), f"report  {run.absolute() / 'report.html'}")


COMMANDS = {"report": console.command(report)}
