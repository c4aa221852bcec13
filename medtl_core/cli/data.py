"""`medtl data check`, a look at data before they are used: what there is, under which licence, and every fault."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.config import settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import check_images
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.errors import ConfigError, DataError
from medtl_core.values import Examples, site_name

if TYPE_CHECKING:
    from rich.table import Table


def faults_of(source: Source, faults: Faults) -> list[str]:
    """Returns in words what is wrong with data: cases that cannot be used, leaks between sides, sites' names."""
    examples = source.examples
    faults.place = lambda row: str(examples["path"][row])
    check_images(examples, range(len(examples)) if "path" in examples.columns else (), faults)
    words = [str(fault) for fault in faults.causes]
    test = examples["split"] == "test"
    sides = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    for parts in (sides, _rows(examples, "site")):
        try:
            check_leaks(examples, parts)
        except DataError as error:
            words.append(str(error))
    for site in np.unique(examples["site"]).tolist():
        try:
            site_name(site)
        except ConfigError as error:
            words.append(str(error))
    return list(dict.fromkeys(words))


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
    found = Faults()
    source = open_source(settings(name_data(folder)), found)
    faults = faults_of(source, found)
    notes = [*(f"note: {note}" for note in source.notes), *(f"fault: {fault}" for fault in faults)]
    verdict = f"{len(faults)} fault(s)" if faults else "no fault found"
    console.show(counts_table(source), f"licence: {source.entry.licence}", *notes, verdict, markup=False)
    if faults:
        raise typer.Exit(1)


COMMANDS = {"data": data_app}
