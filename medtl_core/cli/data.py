"""`medtl data check`, a look at data before they are used: what there is, under which licence, and every fault."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.config import settings
from medtl_core.data.images import check_images
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, DataError
from medtl_core.values import Examples, site_name

if TYPE_CHECKING:
    from rich.table import Table


def faults_of(examples: Examples) -> list[str]:
    """Returns in words what makes cases unusable: unreadable images, patients or images on two sides, sites' names."""
    try:
        usable, faults = check_images(examples)
    except DataError as error:
        return [str(error)]
    test = usable["split"] == "test"
    sides = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    for parts in (sides, _rows(usable, "site")):
        try:
            check_leaks(usable, parts)
        except DataError as error:
            faults = (*faults, str(error))
    for site in np.unique(examples["site"]).tolist():
        try:
            site_name(site)
        except ConfigError as error:
            faults = (*faults, str(error))
    return list(dict.fromkeys(faults))


def counts_table(source: Source) -> "Table":
    """Returns the cases and patients of every site and split as a table, over all cases, unusable ones included."""
    examples, classes = source.examples, source.examples.task.classes
    table = console.table_of("site", "split", title=source.entry.title, right=(*classes, "cases", "patients"))
    for site, rows in sorted(_rows(examples, "site").items()):
        for split, here in _rows(examples.take(rows), "split").items():
            part = examples.take(rows[here])
            numbers = [*np.bincount(part["label"], minlength=len(classes)), len(part), len(np.unique(part["patient"]))]
            table.add_row(site, split, *map(str, numbers))
    return table


def _rows(examples: Examples, column: str) -> dict[str, NDArray[np.int64]]:
    return {str(value): np.flatnonzero(examples[column] == value) for value in np.unique(examples[column])}


data_app = console.group("Look at data before they are used.")


@data_app.command("check")
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
) -> None:
    """Count the cases and name every fault.

    Counts by site, split and class; unreadable images, patients or images on two sides, and names
    that no hospital can have are faults (exit code 1).
    """
    source = open_source(settings(name_data(folder)))
    faults = faults_of(source.examples)
    notes = [*(f"note: {note}" for note in source.notes), *(f"fault: {fault}" for fault in faults)]
    verdict = f"{len(faults)} fault(s)" if faults else "no fault found"
    console.show(counts_table(source), f"licence: {source.entry.licence}", *notes, verdict)
    if faults:
        raise typer.Exit(1)


COMMANDS = {"data": data_app}
