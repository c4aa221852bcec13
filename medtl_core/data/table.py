"""A CSV file as columns of text, with the checks every reader needs: header, empty cells, labels, splits."""

import csv
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError, did_you_mean
from medtl_core.values import Array, Task

SPLITS = ("train", "val", "test")

_EMPTY = ("", "nan", "na", "n/a", "null", "?")
_SHOWN = 5


@dataclass(frozen=True)
class Table:
    """Columns of stripped text (str [n]) under the file's name, which error messages carry."""

    name: str
    columns: Mapping[str, Array]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def filled(self, column: str) -> Array:
        """Returns a column (str [n]) in which every cell is filled.

        Raises:
            DataError: a cell is empty or says that the value is missing; the first rows are named.
        """
        values = self.columns[column]
        empty = np.isin(np.char.lower(values), _EMPTY)
        if empty.any():
            raise DataError(f"{self.name}: column {column!r} is empty or NaN in {rows(empty)}; fill it or drop the row")
        return values

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Returns a column of numbers (float64 [n]); a cell that says its value is missing becomes NaN.

        Raises:
            DataError: a cell is not a finite number.
        """
        values = self.columns[column]
        empty = np.isin(np.char.lower(values), _EMPTY)
        wrong = np.asarray([not (gap or _is_number(value)) for value, gap in zip(values, empty, strict=True)])
        if wrong.any():
            raise DataError(f"{self.name}: {column!r} is {str(values[wrong][0])!r}, not a number, in {rows(wrong)}")
        return np.asarray(np.where(empty, "nan", values), dtype=np.float64)


def rows(mask: NDArray[np.bool_]) -> str:
    """Returns the marked data rows as a spreadsheet numbers them.

    Example:
        >>> rows(np.array([True, False, True]))
        'rows 2, 4 (row 1 is the header)'
    """
    marked = np.flatnonzero(mask) + 2
    shown = ", ".join(str(row) for row in marked[:_SHOWN])
    more = f" and {len(marked) - _SHOWN} more" if len(marked) > _SHOWN else ""
    return f"row{'s' if len(marked) > 1 else ''} {shown}{more} (row 1 is the header)"


def read_csv(path: Path) -> Table:
    """Returns a comma-separated UTF-8 file with a header.

    Raises:
        DataError: the file is missing, empty, not CSV, has a doubled column or a row of another length.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            lines = [line for line in csv.reader(handle, strict=True) if any(cell.strip() for cell in line)]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable UTF-8 CSV file: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path} holds no rows: a header and at least one case are needed")
    header = [cell.strip() for cell in lines[0]]
    _check_header(path, header)
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise DataError(f"{path}: row {number} has {len(line)} cells, the header has {len(header)}")
    cells = zip(*lines[1:], strict=True)
    return Table(
        path.name, {name: np.char.strip(np.asarray(column)) for name, column in zip(header, cells, strict=True)}
    )


def require(table: Table, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Refuses a table that lacks a needed column, or that seems to misspell an optional one.

    Names are never guessed: a column that looks like `site` but is not called so would silently make one hospital.

    Raises:
        DataError: names what is expected, what was found, and the nearest name.
    """
    found = list(table.columns)
    missing = [name for name in needed if name not in found]
    if missing:
        free = [name for name in found if name not in needed]
        raise DataError(
            f"{table.name}: column {missing[0]!r} is missing; expected {', '.join([*needed, *optional])}; "
            f"found {', '.join(found)}; {_nearest(missing[0], free)}"
        )
    for name in optional:
        close = difflib.get_close_matches(name, [column.lower() for column in found], n=1, cutoff=0.8)
        if name not in found and close:
            actual = next(column for column in found if column.lower() == close[0])
            raise DataError(f"{table.name}: column {actual!r} looks like {name!r}; rename it to {name!r}, or otherwise")


def encode(
    table: Table, column: str, task: Task | None, labels: Mapping[str, str] | None = None
) -> tuple[NDArray[np.int64], Task]:
    """Returns the label column as class numbers (int64 [n]) and the task; without a task the found labels, sorted.

    Args:
        table: the cases.
        column: holds the labels.
        task: the agreed classes, or None.
        labels: file value -> class, where they differ.

    Raises:
        DataError: a label is empty or not a class of the task.
    """
    values = table.filled(column)
    if labels:
        values = np.asarray([labels.get(value, value) for value in values.tolist()])
    if task is None:
        task = Task(column, tuple(sorted(set(values.tolist()))))
    unknown = ~np.isin(values, task.classes)
    if unknown.any():
        value = str(values[unknown][0])
        raise DataError(
            f"{table.name}: label {value!r} is not a class of task {task.name!r}, in {rows(unknown)}; "
            f"{did_you_mean(value, task.classes)}"
        )
    number = {name: index for index, name in enumerate(task.classes)}
    return np.asarray([number[value] for value in values.tolist()], dtype=np.int64), task


def splits(table: Table, column: str) -> Array:
    """Returns the split column (str [n]); every case is "train" if there is no such column.

    Raises:
        DataError: a cell is not train, val or test.
    """
    if column not in table.columns:
        return np.full(len(table), "train")
    values = table.filled(column)
    wrong = ~np.isin(values, SPLITS)
    if wrong.any():
        raise DataError(
            f"{table.name}: split {str(values[wrong][0])!r} in {rows(wrong)} is none of {', '.join(SPLITS)}"
        )
    return values


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{path}: the header has one column, {header[0]!r}; separate columns by commas")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled or "" in header:
        raise DataError(f"{path}: column names must be filled and distinct; see {doubled[0] if doubled else ''!r}")


def _nearest(name: str, found: list[str]) -> str:
    """Also finds `patient` for `patient_id`, which differ by more than difflib's usual cut-off allows."""
    low = {column.lower(): column for column in found}
    close = difflib.get_close_matches(name, list(low), n=1, cutoff=0.55)
    if not close:
        return f"rename the right column to {name!r}"
    return f"did you mean {low[close[0]]!r}? Rename it to {name!r}"
