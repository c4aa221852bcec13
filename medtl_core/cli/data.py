"""A look at data before they are used: what there is, under which licence, and every fault."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

    from medtl_core.data.source import Source
    from medtl_core.values import Examples


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


def inspect(source: "Source") -> Inspection:
    """Returns the counts and faults of a source: unreadable images, and patients or images on two sides."""
    from medtl_core.data.images import check_images
    from medtl_core.data.leak import check_leaks

    examples = source.examples
    faults: list[str] = []
    usable = examples
    try:
        usable, skipped = check_images(examples, on_error="skip")
        faults += skipped
    except DataError as error:
        faults.append(str(error))
    else:
        faults += _found(lambda: check_leaks(usable, _sides(usable)))
        faults += _found(lambda: check_leaks(usable, _rows(usable, "site")))
    return Inspection(_counts(examples), tuple(dict.fromkeys(faults)))


def inspection_table(source: "Source", found: Inspection) -> "Table":
    """Returns the counts as a table for the terminal, one row a site and split."""
    from rich import box
    from rich.table import Table

    entry = source.entry
    table = Table(box=box.SIMPLE_HEAD, title=entry.title, title_justify="left")
    table.pad_edge, table.show_edge = False, False
    for heading in ("site", "split"):
        table.add_column(heading)
    for heading in (*source.examples.task.classes, "cases", "patients"):
        table.add_column(heading, justify="right")
    for row in found.counts:
        cells = [str(number) for number in row.classes]
        table.add_row(row.site, row.split, *cells, str(sum(row.classes)), str(row.patients))
    return table


def _counts(examples: "Examples") -> tuple[Count, ...]:
    classes = len(examples.task.classes)
    counts = []
    for site, rows in sorted(_rows(examples, "site").items()):
        for split in np.unique(examples["split"][rows]):
            same = rows[examples["split"][rows] == split]
            labels = np.bincount(examples["label"][same], minlength=classes)
            patients = len(np.unique(examples["patient"][same]))
            counts.append(Count(site, str(split), tuple(int(number) for number in labels), patients))
    return tuple(counts)


def _sides(examples: "Examples") -> dict[str, NDArray[np.int64]]:
    """Returns the rows of training and of test; a validation split is training."""
    test = examples["split"] == "test"
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def _rows(examples: "Examples", column: str) -> dict[str, NDArray[np.int64]]:
    return {str(value): np.flatnonzero(examples[column] == value) for value in np.unique(examples[column])}


def _found(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except DataError as error:
        return [str(error)]
    return []
