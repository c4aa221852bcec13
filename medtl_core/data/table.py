"""A CSV file as columns of text, with the checks every reader needs: header, empty cells, labels, splits.

A file that cannot be read as a whole is refused. A row that cannot be read is a case at fault: it goes to `Faults`, and
reading goes on. No message quotes a cell.
"""

import csv
import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults
from medtl_core.errors import DataError
from medtl_core.values import Array, Task

SPLITS = ("train", "val", "test")

_EMPTY = ("", "nan", "na", "n/a", "null", "?")
_SHOWN = 5
#: Classes named where a label is none of them.
_CLASSES = 12
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class CsvTable:
    """Columns of stripped text, str [n], under the file's name.

    Attributes:
        whole: bool [n], the rows as long as the header; the cells of the others are empty.
        faults: where a row goes that cannot be used.
    """

    name: str
    columns: Mapping[str, Array]
    whole: NDArray[np.bool_]
    faults: Faults

    def __len__(self) -> int:
        return len(self.whole)

    def filled(self, column: str, default: str | Sequence[str] = ()) -> Array:
        """Returns a column (str [n]), or the default where there is no such column; an empty cell is a fault."""
        if default and column not in self.columns:
            return np.full(len(self), default)
        values = self.columns[column]
        self.fault(column, missing(values), "is empty or NaN", "fill it or drop the row")
        return values

    def others(self, known: Collection[str]) -> dict[str, Array]:
        """Returns the columns that have another name than those known."""
        return {name: values for name, values in self.columns.items() if name not in known}

    def numbers(self, column: str) -> NDArray[np.float64]:
        """Returns a column of numbers (float64 [n]), NaN where a cell says that its value is missing.

        A cell that holds no finite number, or one too large for float32, is a fault.
        """
        values = self.columns[column]
        empty = missing(values)
        cells = zip(values.tolist(), empty.tolist(), strict=True)
        wrong = np.asarray([not (gap or _is_number(value)) for value, gap in cells], dtype=bool)
        self.fault(column, wrong, "holds no number", "a finite number or an empty cell is expected")
        return np.asarray(np.where(empty | wrong, "nan", values), dtype=np.float64)

    def fault(self, column: str, wrong: NDArray[np.bool_], what: str, remedy: str) -> None:
        """Notes the rows of which a column's cell is wrong (bool [n])."""
        self.faults.case(np.flatnonzero(wrong & self.whole), f"{self.name}: column {column!r} {what}", remedy)


def read_csv(path: Path, faults: Faults) -> CsvTable:
    """Returns a comma-separated UTF-8 file with a header; rows of another length than it are at fault.

    Raises:
        DataError: the file is missing, without a header, not CSV, or has a doubled column.
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
    if not rows:
        raise DataError(f"{path} holds no rows: a header and at least one case are needed")
    header = [cell.strip() for cell in rows.pop(0)[1]]
    _check_header(path, header)
    faults.place = lambda row: f"row {rows[row][0]}"
    whole = np.asarray([len(cells) == len(header) for _, cells in rows], dtype=bool)
    faults.case(np.flatnonzero(~whole), f"{path.name}: the row is longer or shorter than the header", "mend its commas")
    columns = {
        name: np.char.strip(
            np.asarray([cells[place] if fits else "" for (_, cells), fits in zip(rows, whole, strict=True)], np.str_)
        )
        for place, name in enumerate(header)
    }
    return CsvTable(path.name, columns, whole, faults)


def read_header(path: Path) -> list[str]:
    """Returns the names in a CSV file's first line; none of a file that cannot be read."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return [cell.strip() for cell in next(csv.reader(lines), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


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

    A label that is empty or no class of the task is a fault. `labels` says which class a file's value stands for,
    where they differ.
    """
    values = table.filled(column)
    if labels:
        values = np.asarray([labels.get(value, value) for value in values.tolist()])
    task = task or Task(column, tuple(sorted({*values[~missing(values)].tolist()})))
    expected = ", ".join(task.classes[:_CLASSES]) + (" ..." if task.classes[_CLASSES:] else "")
    unknown = ~np.isin(values, task.classes) & ~missing(values)
    table.fault(column, unknown, f"holds no class of task {task.name!r}", f"expected one of {expected}")
    number = {name: index for index, name in enumerate(task.classes)}
    return np.asarray([number.get(value, 0) for value in values.tolist()], dtype=np.int64), task


def splits(table: CsvTable, column: str) -> Array:
    """Returns the split column (str [n]): "train" where there is no such column; a cell that is no split is a fault."""
    values = table.filled(column, "train")
    if column in table.columns:
        wrong = ~np.isin(values, SPLITS) & ~missing(values)
        table.fault(column, wrong, "holds no split", f"expected one of {', '.join(SPLITS)}")
    return values


def missing(values: Array) -> NDArray[np.bool_]:
    """Returns which cells (str [n]) are empty or say that the value is missing."""
    return np.isin(np.char.lower(values), _EMPTY)


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= _LARGEST
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
