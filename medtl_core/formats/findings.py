"""The diagnoses of a CSV's cases: one class each, or of a multi-label task which findings are there.

Findings have a column each, named as they are, with 1, 0 or an empty cell where nobody knows; or all stand in one
column as "A|B", where those that are not named are not there.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.names import missing, plain_name, plain_names
from medtl_core.errors import DataError
from medtl_core.formats.alike import CODE, codes_for_missing
from medtl_core.formats.needs import encode
from medtl_core.formats.table import CsvTable
from medtl_core.values import MULTI_LABEL, UNKNOWN, Array, Task, any_finding

#: What stands in a finding's own column.
CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}
#: What stands in place of findings where none is there.
NONE = ("no finding",)
#: Between findings in one cell.
_BETWEEN = "|"


def diagnosis_columns(header: Collection[str], task: Task | None, column: str = "label") -> tuple[str, ...]:
    """Returns the columns of a CSV that hold its diagnoses.

    Raises:
        DataError: findings stand in columns of their own and in one column.
    """
    own = [plain_name(name) for name in task.classes] if task and task.kind == MULTI_LABEL else []
    if not own or not {*own} & {*header}:
        return (column,)
    if column in header and column not in own:
        raise DataError(f"findings have columns of their own, and there is a column {column!r}; leave one of them out")
    return tuple(own)


def diagnoses(table: CsvTable, task: Task | None, column: str = "label") -> tuple[dict[str, Array], Task]:
    """Returns the columns of `Examples` that say what each case shows, and the task.

    Raises:
        DataError: see `diagnosis_columns`.
    """
    if task is None or task.kind != MULTI_LABEL:
        label, found = encode(table, column, task)
        for code in codes_for_missing(found.classes) if task is None else ():
            table.faults.whole(f"{table.name}: the class {code!r} {CODE[0]}", CODE[1])
        return {"label": label}, found
    names = diagnosis_columns(table.columns, task, column)
    labels = joined(table, column, task) if names == (column,) else separate(table, names)
    return {"labels": labels, "label": any_finding(labels)}, task


def one_class_each(task: Task | None, where: Path) -> None:
    """Refuses a multi-label task where files have room for one class a case.

    Raises:
        DataError: names the layouts that have room for several findings.
    """
    if task is not None and task.kind == MULTI_LABEL:
        raise DataError(
            f"{where} gives every case one class, and task {task.name!r} is multi-label: list the cases in "
            "manifest.csv, with a column for each finding"
        )


def separate(table: CsvTable, names: Collection[str]) -> NDArray[np.int8]:
    """Returns labels (int8 [n, L]) from a column for each finding; a cell that is no label is a fault."""
    labels = np.full((len(table), len(names)), UNKNOWN, np.int8)
    for place, name in enumerate(names):
        cells = table.texts(name)
        known = np.isin(cells, list(CELLS))
        table.fault(name, ~known & ~missing(cells), "holds no label", "1, 0 or an empty cell is expected")
        labels[known, place] = [CELLS[cell] for cell in cells[known].tolist()]
    return labels


def joined(table: CsvTable, column: str, task: Task) -> NDArray[np.int8]:
    """Returns labels (int8 [n, L]) from cells that name every finding there is; "No Finding" is none of them.

    A cell that is empty, or names what is no finding of the task, is a fault.
    """
    cells = table.filled(column, plain_names(table.texts(column)))
    place = {name: number for number, name in enumerate(task.classes)}
    labels, wrong = np.zeros((len(table), len(place)), np.int8), missing(cells)
    for row, cell in enumerate(cells.tolist()):
        words = [word.strip() for word in cell.split(_BETWEEN)]
        there = [place[word] for word in words if word in place]
        labels[row, there] = 1
        wrong[row] |= len(there) < len(words) and (len(words) > 1 or cell.lower() not in NONE)
    unknown = f"names what is no finding of task {task.name!r}"
    table.fault(column, wrong & ~missing(cells), unknown, 'findings of task.json with "|" between, or No Finding')
    return labels
