"""The project's own format: a folder with `manifest.csv`, image files and, if wished, `task.json`.

`manifest.csv` has the columns path, label, patient_id and, optionally, site and split, then any further columns.
Names are never guessed. `task.json` fixes what a hospital cannot know from its own cases: the task's name, all classes
in their agreed order, and the views that keep the label.
"""

import json
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.table import CsvTable, encode, read_csv, require, splits
from medtl_core.data.views import VIEWS
from medtl_core.errors import DataError, did_you_mean
from medtl_core.values import Array, Examples, Task

MANIFEST = "manifest.csv"
TASK = "task.json"

_NEEDED = ("path", "label", "patient_id")
_OPTIONAL = ("site", "split")


def read_manifest(path: Path, task: Task | None = None, *, numbers: bool = False, lenient: bool = False) -> Examples:
    """Returns the cases of a CSV, or of a folder's `manifest.csv`; images stay files, named in the column `path`.

    The classes are those of the agreed task, else of `task.json`, else the labels that stand there, sorted. A lenient
    reader marks the rows it could read in the column `table.USABLE`, and guesses no classes.

    Args:
        path: of the file, or of its folder.
        task: the agreed one.
        numbers: whether the further columns are measurements, as in `read_numbers`, beside the images.
        lenient: see above.

    Raises:
        DataError: a column is missing or misspelt, a cell is empty, a label or split is unknown, a measurement is not
            a number, or the file or `task.json` cannot be read. Image files are looked at by `check_images`, not here.
    """
    table, columns, task = _opened(path, _NEEDED, task, lenient)
    folder = path if path.is_dir() else path.parent
    columns["path"] = np.asarray([str(folder / name) for name in table.filled("path").tolist()], dtype=np.str_)
    free = table.others({*_NEEDED, *_OPTIONAL})
    if numbers:
        return Examples({**columns, "table": _measurements(table, free), **table.marks}, task)
    clash = sorted(({"patient", "image", "table"} | columns.keys()) & free.keys())
    if clash:
        raise DataError(f"{table.name}: the column name {clash[0]!r} is reserved; rename it (patients: 'patient_id')")
    return Examples({**columns, **free, **table.marks}, task)


def read_numbers(path: Path, task: Task | None = None, *, lenient: bool = False) -> Examples:
    """Returns the cases of a CSV of numbers (columns label, patient_id, site?, split?, then one column a measurement).

    Values are taken as they are: scale them alike at every hospital. Empty cells become NaN. See `read_manifest`.

    Raises:
        DataError: as `read_manifest`, or a measurement is not a number, or there is none.
    """
    table, columns, task = _opened(path, _NEEDED[1:], task, lenient)
    columns["table"] = _measurements(table, table.others({*_NEEDED, *_OPTIONAL}))
    return Examples({**columns, **table.marks}, task)


def read_task(folder: Path) -> tuple[Task, tuple[str, ...]] | None:
    """Returns the task and the views `task.json` states (no views stated: none), or None without that file.

    Raises:
        DataError: the file is not JSON of the form {"name": ..., "classes": [...], "views": [...]}.
    """
    path = folder / TASK
    if not path.is_file():
        return None
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(stated, dict) or not {"name", "classes"} <= stated.keys() <= {"name", "classes", "views"}:
        raise DataError(f"{path} must be an object with name, classes and, optionally, views")
    classes, views = stated["classes"], stated.get("views", [])
    if not _words(classes) or len(classes) < 2:
        raise DataError(f"{path}: classes must be a list of at least two distinct words")
    if not isinstance(stated["name"], str) or not (views == [] or _words(views)):
        raise DataError(f"{path}: name must be a word, views a list of words")
    for view in views:
        if view not in VIEWS:
            raise DataError(f"{path}: unknown view {view!r}; {did_you_mean(view, VIEWS)}")
    return Task(stated["name"], tuple(classes)), tuple(views)


def _opened(
    path: Path, needed: Sequence[str], task: Task | None, lenient: bool
) -> tuple[CsvTable, dict[str, Array], Task]:
    """Returns the table, the columns that every set of cases has, and the task: agreed, stated or found."""
    table = read_csv(path / MANIFEST if path.is_dir() else path, lenient=lenient)
    require(table, needed, _OPTIONAL)
    columns: dict[str, Array] = {
        "patient": table.filled("patient_id"),
        "site": np.asarray([unicodedata.normalize("NFC", name) for name in table.filled("site", "site").tolist()]),
        "split": splits(table, "split"),
    }
    stated = read_task(path if path.is_dir() else path.parent)
    columns["label"], task = encode(table, "label", task or (stated[0] if stated else None))
    return table, columns, task


def _measurements(table: CsvTable, names: Collection[str]) -> NDArray[np.float64]:
    """The columns that are measurements, float64 [n, columns]."""
    if not names:
        raise DataError(f"{table.name}: no column of measurements beside {', '.join(table.columns)}")
    return np.stack([table.numbers(name) for name in names], axis=1)


def _words(value: Any) -> bool:
    """Whether it is a list of distinct words."""
    return isinstance(value, list) and all(isinstance(word, str) and value.count(word) == bool(word) for word in value)
