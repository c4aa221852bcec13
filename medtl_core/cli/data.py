"""`medtl data check`, a look at data before they are used: what there is, under which licence, and every fault."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.plan import name_data
from medtl_core.cli.trainer import sides
from medtl_core.config import settings
from medtl_core.data.images import check_images
from medtl_core.data.leak import check_leaks
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError
from medtl_core.values import Examples

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Count:
    """Cases and patients of one site and split, by class in the task's order."""

    site: str
    split: str
    classes: tuple[int, ...]
    patients: int


@dataclass(frozen=True)
class Inspection:
    """What a look found.

    Attributes:
        counts: by site and split, over all cases, unusable ones included.
        faults: in words; empty when the data can be used as they are.
    """

    counts: tuple[Count, ...]
    faults: tuple[str, ...]


def inspect(source: Source) -> Inspection:
    """Returns the counts and faults of a source: unreadable images, and patients or images on two sides."""
    examples = source.examples
    faults: list[str] = []
    usable = examples
    try:
        usable, skipped = check_images(examples, on_error="skip")
        faults += skipped
    except DataError as error:
        faults.append(str(error))
    else:
        faults += _fault_of(lambda: check_leaks(usable, sides(usable)))
        faults += _fault_of(lambda: check_leaks(usable, _rows(usable, "site")))
    return Inspection(_counts(examples), tuple(dict.fromkeys(faults)))


def inspection_table(source: Source, inspection: Inspection) -> "Table":
    """Returns the counts as a table for the terminal, one row a site and split."""
    numbers = (*source.examples.task.classes, "cases", "patients")
    table = console.table_of("site", "split", title=source.entry.title, right=numbers)
    for row in inspection.counts:
        cells = [str(number) for number in row.classes]
        table.add_row(row.site, row.split, *cells, str(sum(row.classes)), str(row.patients))
    return table


def _counts(examples: Examples) -> tuple[Count, ...]:
    classes = len(examples.task.classes)
    counts = []
    for site, rows in sorted(_rows(examples, "site").items()):
        for split in np.unique(examples["split"][rows]):
            same = rows[examples["split"][rows] == split]
            labels = np.bincount(examples["label"][same], minlength=classes)
            patients = len(np.unique(examples["patient"][same]))
            counts.append(Count(site, str(split), tuple(int(number) for number in labels), patients))
    return tuple(counts)


def _rows(examples: Examples, column: str) -> dict[str, NDArray[np.int64]]:
    return {str(value): np.flatnonzero(examples[column] == value) for value in np.unique(examples[column])}


def _fault_of(checked: Callable[[], None]) -> list[str]:
    try:
        checked()
    except DataError as error:
        return [str(error)]
    return []


data_app = console.group("Look at data before they are used.")


@data_app.callback()
def _data() -> None:
    """Look at data before they are used."""


@data_app.command("check")
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
) -> None:
    """Count the cases and name every fault.

    Counts by site, split and class; unreadable images, and patients or images on two sides, are faults (exit code 1).
    """
    source = open_source(settings(name_data(folder)))
    inspection = inspect(source)
    screen = console.console_of()
    screen.print(inspection_table(source, inspection))
    console.say(screen, f"licence: {source.entry.licence}")
    for note in source.notes:
        console.say(screen, f"note: {note}")
    for fault in inspection.faults:
        console.say(screen, f"fault: {fault}")
    console.say(screen, f"{len(inspection.faults)} fault(s)" if inspection.faults else "no fault found")
    if inspection.faults:
        raise typer.Exit(1)


COMMANDS = {"data": data_app}
