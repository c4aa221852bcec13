"""`medtl report`: a run's report, written anew from its stored results."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.report.folder import write_report
from medtl_core.report.terminal import summary_tables


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, as `medtl simulate` printed it.")],
) -> None:
    """Write a run's report anew from its stored results."""
    console.show(*summary_tables(write_report(run)), f"report  {run.absolute() / 'report.html'}")


COMMANDS = {"report": console.command(report)}
