"""A CSV file as columns of text, with the checks every reader needs: header, empty cells, ids, numbers.

A file that cannot be read as a whole is refused. A row that cannot be read is a case at fault: it goes to `Faults`, and
reading goes on. No message quotes a cell.
"""

import csv
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults, Row
from medtl_core.data.names import missing, one_patient_each, plain_name, plain_names
from medtl_core.errors import DataError
from medtl_core.formats.cells import Cells
from medtl_core.formats.dialect import Dialect, Lines, read_dialect, refuse_other
from medtl_core.formats.numbers import COMMA, POINT, has_thousands, numbers
from medtl_core.values import Array

#: What is said of a cell that should be filled, and the remedy.
EMPTY = ("is empty or NaN", "fill it or drop the row")
_SHOWN = 5
#: What is said of a file whose first line names one column only, as a title does.
ONE_COLUMN = (
    "its first line names one column: separate columns by commas, semicolons, tabs or bars, and delete what stands "
    "above the line with their names"
)
#: Bytes of a file that are taken apart at once.
BLOCK = 1 << 20
#: An id as a spreadsheet shows a long number: several patients may have come to look like one.
_CUT = re.compile(r"\d+[eE]\+\d+|\d[.,]\d+[eE]\+?\d+")
_COMMAS = "write no comma in a number, or separate the columns by semicolons: then it is a decimal mark"
_NO_NUMBERS = (
    "no cell of it does: write a unit into the column's name, describe words in schema.toml, call a text 'note', or "
    "leave it out"
)
#: A letter that no encoding has; signs between letters by which one of MS-DOS, an old Macintosh or another country's
#: Windows is told; and three signs in a row that no language of Windows-1252 writes so.
LOST = re.compile(
    r"\ufffd|(?<=[^\W\d_])[\u201e\u201d\u2122\u0178\u2020\u20ac\u00a1-\u00a7\u00a9\u00ab\u00ac\u00ae\u00af\u00b1-\u00b3\u00b6"
    r"\u00b8\u00b9\u00bb-\u00bf](?=[^\W\d_])|\u00a3(?=[^\W\d_])|\u00c3[\u00a0-\u00bf\u2013-\u203a]|"
    r"[\u00a1-\u00c5\u00c7-\u00cf\u00d1-\u00dd\u00df-\u00e5\u00e7-\u00ef\u00f1-\u00fd\u00ff\u0152\u0153\u0160\u0161\u0178\u017d"
    r"\u017e\u0192\u02c6\u02dc\u2018-\u203a]{3}"
)
#: What İ, ı, Ş, ş, Ğ and ğ of Windows-1254 are in Windows-1252.
_TURKISH = frozenset("ÝýÞþÐð")
#: A larger number is no measurement in a unit that anybody uses; sums of its squares would be taken for a lie.
_LARGEST = 1e13
#: Signs of a cell that is a name or a file's; a longer one is a text in the wrong column.
LONGEST = 500
csv.field_size_limit(1 << 27)  # a report text may be longer than the usual limit; memory grows with the file only


@dataclass(frozen=True)
class CsvTable:
    """Columns of stripped text under the file's name.

    Attributes:
        whole: bool [n], the rows as long as the header; the cells of the others are empty.
        faults: where a row goes that cannot be used.
        dialect: how the file is written.
        old_lines: how many of its lines are Windows-1252.
        folder: of the file.
    """

    name: str
    columns: Mapping[str, Cells]
    whole: NDArray[np.bool_]
    faults: Faults
    dialect: Dialect
    old_lines: int = 0
    folder: Path = Path()

    def __len__(self) -> int:
        return len(self.whole)

    def names(self, column: str, default: str | Sequence[str] = ()) -> Array:
        """Returns a column (str [n]) in the form in which names are compared, or the default where there is none.

        An empty cell is a fault.
        """
        if default and column not in self.columns:
            return np.full(len(self), default)
        return self.filled(column, self.plain(column))

    def plain(self, column: str) -> Array:
        """Returns a column (str [n]) in that form; a cell of which an encoding lost a letter is a fault."""
        values = plain_names(self.texts(column))
        lost = np.asarray([not value.isascii() and bool(LOST.search(value)) for value in values.tolist()], dtype=bool)
        self.fault(column, lost, "holds a letter that was lost", "export the file anew, as CSV UTF-8")
        return values

    def ids(self, column: str) -> Array:
        """Returns whose each row is (str [n]), ids that look alike being one; a number cut short is a fault."""
        values = self.names(column)
        cut = np.asarray([bool(_CUT.fullmatch(value)) for value in values.tolist()], dtype=bool)
        remedy = "a spreadsheet has dropped digits; export the column as text"
        self.fault(column, cut, "holds a number in scientific notation", remedy)
        return one_patient_each(values)

    def filled(self, column: str, values: Array) -> Array:
        """Returns what stands in a column (str [n]); where that is empty or says so, it is a fault."""
        self.fault(column, missing(values), *EMPTY)
        return values

    def texts(self, column: str) -> Array:
        """Returns a column as it is (str [n]); a cell too long for a name is a fault, and empty."""
        return np.asarray(self._texts(column), dtype=np.str_)

    def words(self, column: str, rows: NDArray[np.bool_] | None = None) -> tuple[list[str], NDArray[np.int64]]:
        """Returns the different texts of a column, and each row's (int64 [n]); "" of rows that are not among these."""
        texts = self._texts(column)
        if rows is not None:
            texts = [text if there else "" for text, there in zip(texts, rows.tolist(), strict=True)]
        number = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return [*number], np.fromiter(map(number.__getitem__, texts), np.int64, len(texts))

    def _texts(self, column: str) -> list[str]:
        cells, long = [*self.columns[column]], self.columns[column].lengths() > LONGEST
        self.fault(column, long, f"holds more than {LONGEST} signs", "a name is expected")
        return ["" if len(cell) > LONGEST else cell for cell in cells] if long.any() else cells

    def others(self, known: Collection[str]) -> dict[str, Array]:
        """Returns the columns that have another name than those known, as objects: equal cells share their room."""
        free = {name: dict[str, str]() for name in self.columns if name not in known}
        return {
            name: np.asarray([one.setdefault(cell, cell) for cell in self.columns[name]], dtype=object)
            for name, one in free.items()
        }

    def row_names(self) -> Array:
        """Returns a name of each row (str [n]), where nobody says whose it is."""
        return np.asarray([f"row-{row + 1}" for row in range(len(self))], np.str_)

    def replaced(self, column: str, cells: Iterable[str]) -> "CsvTable":
        """Returns the table with other cells in a column."""
        return replace(self, columns={**self.columns, column: Cells.of(cells)})

    def parsed(self, column: str) -> NDArray[np.float64]:
        """Returns a column of numbers (float64 [n]): NaN where a cell says that it is missing, infinity where none is.

        Where columns are not separated by commas a number may have a decimal comma.
        """
        blocks, comma = self.columns[column].blocks, self.dialect.separator != ","
        return np.concatenate([np.zeros(0), *(numbers(block, comma) for block in blocks)])

    def numbers(self, column: str, gap: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Returns a column of numbers (float64 [n]), NaN where a value is missing: in `gap` (bool [n]), or by its cell.

        A cell that holds no finite number, or one that is too large, is a fault.
        """
        values = self.parsed(column)
        if gap is not None:
            values[gap] = np.nan
        wrong = np.isinf(values)
        large = (np.abs(values) > _LARGEST) & ~wrong
        none = wrong.any() and not np.isfinite(values[~wrong]).any()  # so it is the column that does not fit
        remedy = _NO_NUMBERS if none else "a finite number or an empty cell is expected"
        if (
            wrong.any()
            and self.dialect.separator == ","
            and any(map(COMMA.fullmatch, self.columns[column].with_sign(",")))
        ):
            remedy = _COMMAS
        self.fault(column, wrong, "holds no number", remedy)
        self.fault(column, large, f"holds a number beyond {_LARGEST:g}", "mend it, or give the column in a larger unit")
        values[wrong | large] = np.nan
        if self.has_decimal_commas and any(map(POINT.fullmatch, self.columns[column].with_sign("."))):
            cause = f"{self.name}: numbers have points in column {column!r}, and the file has decimal commas"
            self.faults.whole(cause, "write one decimal mark everywhere, and nothing between thousands")
        elif self.points(column)[1]:
            cause = (
                f"{self.name}: points in column {column!r} seem to stand between thousands, and would be decimal marks"
            )
            remedy = "write nothing between thousands; of a file that is not called manifest.csv, `medtl data draft"
            self.faults.whole(cause, f"{remedy} --points thousands` makes one without")
        return values

    def points(self, column: str) -> tuple[bool, bool]:
        """Returns what `has_thousands` does; of a file whose columns are separated by commas, nothing."""
        cells = self.columns[column]
        marked = self.dialect.separator != "," and any("." in block for block in cells.blocks)
        return has_thousands(cells) if marked else (False, False)

    @cached_property
    def has_decimal_commas(self) -> bool:
        """Whether a number in the file has one."""
        commas = self.dialect.separator != ","
        return commas and any(any(map(COMMA.fullmatch, cells.with_sign(","))) for cells in self.columns.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about how the file is written, in a sentence; none if nothing is."""
        words = [*self.dialect.words, *(["decimal commas"] if self.has_decimal_commas else [])]
        words += [f"{self.old_lines} lines in Windows-1252"] if self.old_lines else []
        blocks = (block for cells in self.columns.values() for block in cells.blocks) if self.old_lines else ()
        turkish = any(_TURKISH & {*block} for block in blocks)
        told = (f"{self.name} has letters such as ý, þ or ð: if it is Turkish, export it anew as CSV UTF-8.",) * turkish
        return (f"{self.name} is read as: {', '.join(words)}.", *told) if words else ()

    def fault(self, column: str, wrong: NDArray[np.bool_], what: str, remedy: str) -> None:
        """Notes the rows of which a column's cell is wrong (bool [n])."""
        self.faults.case(np.flatnonzero(wrong & self.whole), f"{self.name}: column {column!r} {what}", remedy)


def read_csv(path: Path, faults: Faults) -> CsvTable:
    """Returns a CSV file with a header, in any dialect; rows of another length than the header are at fault.

    Raises:
        DataError: the file is missing, without a header, not CSV, or has a doubled column.
    """
    try:
        refuse_other(path)
        dialect = read_dialect(path)
        source = Lines(path, dialect, BLOCK)
        rows = _read(source, dialect.separator, path)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}") from error
    lines, whole = (
        np.concatenate([np.zeros(0, np.int64), *rows.lines]),
        np.concatenate([np.zeros(0, bool), *rows.whole]),
    )
    faults.place = lambda row: Row(f"row {lines[row]}")
    faults.case(np.flatnonzero(~whole), f"{path.name}: the row is longer or shorter than the header", "mend its cells")
    columns = {name: Cells(blocks) for name, blocks in zip(rows.header, rows.blocks, strict=True)}
    if len(again := _headers(columns)):  # files were put one below the other
        faults.case(again, f"{path.name}: the row repeats the header", "delete it")
        whole[again], no_header = False, np.isin(np.arange(len(whole)), again, invert=True).tolist()
        columns = {
            name: Cells.of(cell * one for cell, one in zip(cells, no_header, strict=True))
            for name, cells in columns.items()
        }
    return CsvTable(path.name, columns, whole, faults, dialect, source.old, path.parent)


def _headers(columns: Mapping[str, Cells]) -> NDArray[np.int64]:
    """The rows (int64 [m]) that repeat the header."""
    (first, cells), *others = columns.items()
    if not any(first in block for block in cells.blocks):
        return np.zeros(0, np.int64)
    rows = [row for row, cell in enumerate(cells) if cell == first]
    for name, column in others if rows else ():
        there = [*column]
        rows = [row for row in rows if there[row] == name]
    return np.asarray(rows, np.int64)


@dataclass(frozen=True)
class _Rows:
    """What stands below a header: blocks of each column; for each row its line's number, and whether it is whole."""

    header: list[str]
    blocks: list[list[str]]
    lines: list[NDArray[np.int64]]
    whole: list[NDArray[np.bool_]]

    def add(self, columns: Sequence[Sequence[str]], lines: NDArray[np.int64], whole: NDArray[np.bool_]) -> None:
        """Adds rows, less those that are blank: in which no cell is filled."""
        if not columns[0]:
            return
        if "" in columns[0]:
            filled = [place for place, cells in enumerate(zip(*columns, strict=True)) if any(cells) or not whole[place]]
            columns = [[column[place] for place in filled] for column in columns]
            lines, whole = lines[filled], whole[filled]
        for blocks, cells in zip(self.blocks if len(lines) else (), columns, strict=False):
            blocks.append(Cells.join(cells))
        self.lines.append(lines)
        self.whole.append(whole)


def _read(source: Lines, separator: str, path: Path) -> _Rows:
    """Reads a file block by block: one in which a sign may mean more than it seems, row by row.

    Raises:
        DataError: there is no header, or none that names each column once.
        csv.Error: it is not CSV.
    """
    reader, rows = csv.reader(source, delimiter=separator, strict=True), _Rows([], [], [], [])
    while source.left() or source.more():
        if rows.header and (columns := _columns(source.rest(), separator, len(rows.header))):
            lines = np.arange(len(columns[0])) + source.number + 1
            source.skip(len(lines))
            rows.add(columns, lines, np.ones(len(lines), dtype=bool))
        elif rows.header:
            _read_rows(source, reader, rows)
        elif any(map(str.strip, cells := next(reader))):
            names = [*map(plain_name, cells)]
            rows.header.extend(names if names[-1] else names[:-1])  # every line ends with a separator
            rows.blocks.extend([] for _ in rows.header)
            _check_header(path, rows.header)
    if not rows.header:
        raise DataError(f"{path} holds no rows: a header and at least one case are needed")
    return rows


def _columns(text: str, separator: str, width: int) -> list[list[str]]:
    """The columns of lines in which nothing is quoted and that are all as long as the header; none of others."""
    if '"' in text or len(text) > csv.field_size_limit():
        return []
    text = text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    if any(line.count(separator) != width - 1 for line in text.split("\n")):
        return []
    cells = [*map(str.strip, text.replace("\n", separator).split(separator))]
    return [cells[column::width] for column in range(width)]


def _read_rows(source: Lines, reader: Iterator[list[str]], rows: _Rows) -> None:
    """Reads what is left of a block row by row; a row that ends in the next one brings that along."""
    width, found, lines = len(rows.header), list[list[str]](), list[int]()
    while source.left():
        line = source.number + 1
        cells = [cell.strip() for cell in next(reader)]
        if any(cells):
            found.append(cells[:-1] if len(cells) == width + 1 and not cells[-1] else cells)
            lines.append(line)
    whole = np.asarray([len(cells) == width for cells in found], dtype=bool)
    columns = [*zip(*(cells if len(cells) == width else [""] * width for cells in found), strict=True)]
    rows.add(columns or [()], np.asarray(lines, dtype=np.int64), whole)


def read_header(path: Path) -> list[str]:
    """Returns the names in a CSV file's first line; none of a file that cannot be read."""
    try:
        refuse_other(path)
        dialect = read_dialect(path)
        rows = csv.reader(Lines(path, dialect, BLOCK >> 6), delimiter=dialect.separator)
        return next(([cell.strip() for cell in row] for row in rows if any(map(str.strip, row))), [])
    except (OSError, UnicodeError, csv.Error, DataError):
        return []


def _check_header(path: Path, header: list[str]) -> None:
    often = Counter(header)
    wrong = [str(place) for place, name in enumerate(header, start=1) if not name or often[name] > 1]
    if wrong:
        cause = f"{path}: column names must be filled and distinct; see columns {', '.join(wrong[:_SHOWN])}"
        raise DataError(f"{cause}: name or delete them, and delete what stands above the line with the names")


def count_rows(path: Path) -> int:
    """Returns how many rows a file has below its header; 0 of one that cannot be read."""
    try:
        return len(read_csv(path, Faults()))
    except DataError:
        return 0
