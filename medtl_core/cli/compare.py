"""`medtl compare`: runs side by side, in the terminal and on one page."""

from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders, the one to compare with first.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A new page; else compare.html in the first run's folder.")
    ] = None,
) -> None:
    """Lay runs side by side: the same figures, paired where the same cases were judged."""
    from medtl_core.report import compare as comparison
    from medtl_core.report.terminal import shown_table
    from medtl_core.store import write_text

    if out is not None:
        console.refuse_written(out)
    found = comparison.compare(runs)
    page = runs[0] / "compare.html" if out is None else out
    write_text(page, comparison.render(found))
    console.show(*map(shown_table, found.tables), found.remark, f"page  {page.absolute()}")


COMMANDS = {"compare": console.command(compare)}
