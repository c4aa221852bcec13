"""A CSV file as columns of text, with the checks every reader needs: header, empty cells, labels, splits.

A file that cannot be read is always refused. A row that cannot be read refuses the file too, or where the reader is
lenient is left out, by what stands in that row alone: then the log names it and nobody else is told.
"""

import csv
import difflib
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.values import Array, Task

SPLITS = ("train", "val", "test")

_EMPTY = ("", "nan", "na", "n/a", "null", "?")
_SHOWN = 5
#: Classes named where a label is none of them.
_CLASSES = 12
_LOG = logging.getLogger("medtl")
#: Column of the rows that were read whole, where others are left out.
USABLE = "usable"


@dataclass(frozen=True)
class CsvTable:
    """Columns of stripped text, str [n], under the file's name.

    Messages name lines (int64 [n], where each row begins as an editor numbers them) and columns, never a cell. `usable`
    (bool [n]) are the rows without a fault as far as columns were read; None = a fault refuses the file.
    """

    name: str
    columns: Mapping[str, Array]
    lines: NDArray[np.int64]
    usable: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def filled(self, column: str, default: str | Sequence[str] = ()) -> Array:
        """Returns a column (str [n]) in which every cell is filled, or the default where there is no such column.

        Raises:
            DataError: a cell is empty or says that the value is missing; the first lines are named.
        """
        if default and column not in self.columns:
            return np.full(len(self), default)
        values = self.columns[column]
        empty = np.isin(np.char.lower(values), _EMPTY)
        self.refuse(column, empty, "is empty or NaN", "fill it or drop the row")
        return values

    def others(self, known: Collection[str]) -> dict[str, Array]:
        """Returns the columns that have another name than those known."""
        return {name: values for name, values in self.columns.items() if name not in known}

    @property
    def marks(self) -> dict[str, Array]:
        """The column `USABLE`, once all others were read; none where a fault refuses the file."""
        return {} if self.usable is None else {USABLE: self.usable}

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Returns a column of numbers (float64 [n]); a cell that says its value is missing becomes NaN.

        Raises:
            DataError: a cell is not a finite number; of one too large for float32 only a lenient reader minds.
        """
        values = self.columns[column]
        empty = np.isin(np.char.lower(values), _EMPTY)
        largest = float(np.finfo(np.float64 if self.usable is None else np.float32).max)
        cells = zip(values.tolist(), empty.tolist(), strict=True)
        wrong = np.asarray([not (gap or _is_number(value, largest)) for value, gap in cells], dtype=bool)
        self.refuse(column, wrong, "holds no number", "a finite number or an empty cell is expected")
        return np.asarray(np.where(empty | wrong, "nan", values), dtype=np.float64)

    def refuse(self, column: str, wrong: NDArray[np.bool_], fault: str, remedy: str) -> None:
        """Refuses a column of which some cells are wrong (bool [n]), or leaves out their rows.

        Raises:
            DataError: names the file, the column and the first lines.
        """
        lines = self.lines[np.flatnonzero(wrong)].tolist()
        if lines:
            shown = ", ".join(map(str, lines[:_SHOWN])) + (f" and {len(lines) - _SHOWN} more" if lines[_SHOWN:] else "")
            place = f"line{'s' if len(lines) > 1 else ''} {shown}"
            text = f"{self.name}: column {column!r} {fault} in {place} (as an editor counts); {remedy}"
            if self.usable is None:
                raise DataError(text)
            _LOG.warning("%s; left out", text)
            self.usable[np.flatnonzero(wrong)] = False


def read_csv(path: Path, *, lenient: bool = False) -> CsvTable:
    """Returns a comma-separated UTF-8 file with a header; a lenient reader leaves out what is wrong with single rows.

    Raises:
        DataError: the file is missing, empty, not CSV, has a doubled column or a row of another length.
    """
    rows: list[tuple[int, list[str]]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader, last = csv.reader(handle, strict=True), 0
            for cells in reader:
                line, last = last + 1, reader.line_num
                if any(cell.strip() for cell in cells):
                    rows.append((line, cells))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable UTF-8 CSV file: {error}") from error
    if len(rows) < (1 if lenient else 2):
        raise DataError(f"{path} holds no rows: a header and at least one case are needed")
    header = [cell.strip() for cell in rows[0][1]]
    _check_header(path, header)
    whole = []
    for line, cells in rows[1:]:
        if len(cells) == len(header):
            whole.append((line, cells))
            continue
        text = f"{path}: the row on line {line} has {len(cells)} cells, the header has {len(header)}"
        if not lenient:
            raise DataError(text)
        _LOG.warning("%s; left out", text)
    columns = {
        name: np.char.strip(np.asarray([cells[place] for _, cells in whole], dtype=np.str_))
        for place, name in enumerate(header)
    }
    lines = np.asarray([line for line, _ in whole], dtype=np.int64)
    return CsvTable(path.name, columns, lines, np.ones(len(lines), dtype=bool) if lenient else None)


def require(table: CsvTable, needed: Sequence[str], optional: Sequence[str] = ()) -> None:
    """Refuses a table that lacks a needed column, or that seems to misspell an optional one.

    Names are never guessed: a column that looks like `site` but is not called so would silently make one hospital.

    Raises:
        DataError: names what is expected, what is there, and the nearest name.
    """
    present = list(table.columns)
    missing = [name for name in needed if name not in present]
    if missing:
        free = [name for name in present if name not in needed]
        # Without one known name, the first line may be no header but a patient's row: it is not quoted.
        known = len(missing) < len(needed) or any(name in present for name in optional)
        seen = f"found {', '.join(present)}" if known else "its first line names none of these"
        raise DataError(
            f"{table.name}: column {missing[0]!r} is missing; expected {', '.join([*needed, *optional])}; "
            f"{seen}; {_nearest(missing[0], free)}"
        )
    for name in optional:
        close = difflib.get_close_matches(name, [column.lower() for column in present], n=1, cutoff=0.8)
        if name not in present and close:
            actual = next(column for column in present if column.lower() == close[0])
            raise DataError(f"{table.name}: column {actual!r} looks like {name!r}; rename it to {name!r}, or otherwise")


def encode(
    table: CsvTable, column: str, task: Task | None, labels: Mapping[str, str] | None = None
) -> tuple[NDArray[np.int64], Task]:
    """Returns the label column as class numbers (int64 [n]) and the task; without a task the found labels, sorted.

    `labels` says which class a file's value stands for, where they differ.

    Raises:
        DataError: a label is empty or not a class of the task, or a lenient reader knows no classes.
    """
    if task is None and table.usable is not None:  # the labels of all rows would say what every single one means
        raise DataError(f"{table.name}: the classes are not stated; list them in task.json beside it")
    values = table.filled(column)
    if labels:
        values = np.asarray([labels.get(value, value) for value in values.tolist()])
    if task is None:
        task = Task(column, tuple(sorted(set(values.tolist()))))
    expected = ", ".join(task.classes[:_CLASSES]) + (" ..." if task.classes[_CLASSES:] else "")
    unknown = ~np.isin(values, task.classes)
    table.refuse(column, unknown, f"holds no class of task {task.name!r}", f"expected one of {expected}")
    number = {name: index for index, name in enumerate(task.classes)}
    return np.asarray([number.get(value, 0) for value in values.tolist()], dtype=np.int64), task


def splits(table: CsvTable, column: str) -> Array:
    """Returns the split column (str [n]); every case is "train" if there is no such column.

    Raises:
        DataError: a cell is not train, val or test.
    """
    values = table.filled(column, "train")
    if column not in table.columns:
        return values
    table.refuse(column, ~np.isin(values, SPLITS), "holds no split", f"expected one of {', '.join(SPLITS)}")
    return values


def _is_number(text: str, largest: float) -> bool:
    try:
        return abs(float(text)) <= largest
    except ValueError:
        return False


def _check_header(path: Path, header: list[str]) -> None:
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise DataError(f"{path}: its first line is one column; separate columns by commas")
    wrong = [str(place) for place, name in enumerate(header, start=1) if not name or header.count(name) > 1]
    if wrong:
        raise DataError(f"{path}: column names must be filled and distinct; see columns {', '.join(wrong[:_SHOWN])}")


def _nearest(name: str, present: list[str]) -> str:
    """Also finds `patient` for `patient_id`, which differ by more than difflib's usual cut-off allows."""
    low = {column.lower(): column for column in present}
    close = difflib.get_close_matches(name, list(low), n=1, cutoff=0.55)
    if not close:
        return f"rename the right column to {name!r}"
    return f"did you mean {low[close[0]]!r}? Rename it to {name!r}"
