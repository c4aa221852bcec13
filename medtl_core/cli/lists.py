"""Commands that only look: `medtl data check`, `medtl backbones`, `medtl methods`."""

from typing import Annotated

import typer

from medtl_core.cli.console import console_of, say

data_app = typer.Typer(
    help="Look at data before they are used.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@data_app.command("check")
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
) -> None:
    """Count the cases and name every fault.

    Counts by site, split and class; unreadable images, and patients or images on two sides, are faults (exit code 1).
    """
    from medtl_core.cli.inspection import inspect, inspection_table
    from medtl_core.cli.plan import name_data
    from medtl_core.config import settings
    from medtl_core.data.source import open_source

    source = open_source(settings(name_data(folder)))
    found = inspect(source)
    console = console_of()
    console.print(inspection_table(source, found))
    say(console, f"licence: {source.entry.licence}")
    for note in source.notes:
        say(console, f"note: {note}")
    for fault in found.faults:
        say(console, f"fault: {fault}")
    say(console, f"{len(found.faults)} fault(s)" if found.faults else "no fault found")
    if found.faults:
        raise typer.Exit(1)


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
    console_of().print(shown)


def methods() -> None:
    """List the methods that `methods=...` can name.

    A number in a name is its rounds or size; "judged" says whose labelled cases a method needs (the setting `test`).
    """
    from rich import box
    from rich.table import Table

    from medtl_core.federation.registry import all_methods

    shown = Table(box=box.SIMPLE_HEAD)
    shown.pad_edge, shown.show_edge = False, False
    shown.add_column("name", no_wrap=True)
    shown.add_column("judged", no_wrap=True)
    shown.add_column("what it is")
    for kind in sorted(all_methods(), key=lambda kind: (kind.__module__, kind.example)):
        shown.add_row(", ".join(kind.names()), kind.test, kind.summary)
    console_of().print(shown)
