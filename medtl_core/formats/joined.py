"""Tables joined and cut before their cases are read: a public set says in several files what a case is.

Rows keep their places in their own file, by which a fault is named.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, compress
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import Layout
from medtl_core.data.faults import Faults
from medtl_core.data.images import is_there
from medtl_core.formats.cells import Cells
from medtl_core.formats.dialect import Dialect
from medtl_core.formats.table import CsvTable
from medtl_core.values import Array

#: Column in which a set says, in words, why it leaves a row out.
LEFT_OUT = "left out"
#: Column in which a set says, in words, what is wrong with the image of a row.
FAULT = "at fault"


def with_columns(table: CsvTable, columns: Mapping[str, Iterable[str]]) -> CsvTable:
    """Returns the table with these columns added, or in place of its own."""
    return replace(table, columns={**table.columns, **{name: Cells.of(cells) for name, cells in columns.items()}})


def kept(table: CsvTable, rows: NDArray[np.bool_], faults: Faults) -> CsvTable:
    """Returns the rows (bool [n]) of a table, whose faults then go to `faults`; they are still named by their file."""
    left, place = np.flatnonzero(rows), table.faults.place
    faults.place = lambda row: place(int(left[row]))
    columns = {name: compress(cells, rows.tolist()) for name, cells in table.columns.items()}
    whole = table.whole[left]
    faults.case(np.flatnonzero(~whole), f"{table.name}: the row is longer or shorter than the header", "mend its cells")
    return with_columns(replace(table, whole=whole, faults=faults), columns)


def stacked(tables: Sequence[CsvTable]) -> CsvTable:
    """Returns the rows of all tables below each other, with the columns of the first."""
    ends = list(accumulate(len(table) for table in tables))

    def place(row: int) -> str:
        number = next(number for number, end in enumerate(ends) if row < end)
        start = ends[number] - len(tables[number])
        return f"{tables[number].name} {tables[number].faults.place(row - start)}"

    faults = Faults()
    faults.place = place
    columns = {name: [cell for table in tables for cell in table.columns[name]] for name in tables[0].columns}
    name, whole = " and ".join(table.name for table in tables), np.concatenate([table.whole for table in tables])
    return with_columns(replace(tables[0], name=name, columns={}, whole=whole, faults=faults), columns)


def listing(name: str, columns: dict[str, list[str]]) -> CsvTable:
    """Returns a table of what no file lists, such as a folder's files; each is named by the first column."""
    faults, first = Faults(), next(iter(columns.values()))
    faults.place = lambda row: first[row]
    return with_columns(CsvTable(name, {}, np.ones(len(first), dtype=bool), faults, Dialect("utf-8", ",")), columns)


def looked_up(cells: Iterable[str], table: CsvTable, key: str, column: str) -> list[str]:
    """Returns what another table says of every cell, "" where it says nothing."""
    known = dict(zip(table.columns[key], table.columns[column], strict=True))
    return [known.get(cell, "") for cell in cells]


def unclear(cells: Iterable[str], table: CsvTable, key: str, *, needed: bool = True) -> list[str]:
    """Returns in words why another table cannot be asked of a cell: it stands there twice or, if needed, not at all."""
    counts = Counter(table.columns[key])
    words = {0: f"names what is not in {table.name}" if needed else "", 1: ""}
    return [words.get(counts[cell], f"names what stands several times in {table.name}") for cell in cells]


def places(table: CsvTable, column: str, folder: Path, pattern: str) -> list[str]:
    """Returns the file of every image below a folder, by a pattern as in `Layout`; what is not there is not looked for.

    Args:
        table: of the images.
        column: names an image in each row.
        folder: of the set.
        pattern: * stands for any folder, and | separates places.
    """
    first, *more = pattern.split("|")
    if not more and "*" not in first:
        return [cell and first.format(cell) for cell in table.columns[column]]
    files = [file for each in (first, *more) for file in sorted(folder.glob(each.format("*")))]
    known = {file.name: str(file.relative_to(folder)) for file in reversed(files)}
    last = PurePosixPath(first).name
    return [cell and known.get(last.format(cell), first.format(cell)) for cell in table.columns[column]]


def left_out(table: CsvTable, name: Mapping[str, str], folder: Path, layout: Layout) -> list[tuple[Array, str]]:
    """Returns which rows (bool [n]) a public set's layout leaves out, and in words why.

    Args:
        table: whose images are named by their files.
        name: what each of patient, split and image is called there.
        folder: of the set.
        layout: of the set.
    """
    reasons: list[tuple[Array, str]] = []
    if layout.view:
        shown = np.isin(_cells(table, layout.view), layout.shown)
        reasons.append((~shown, f"of other views than {', '.join(layout.shown)}"))
    said = _cells(table, LEFT_OUT)
    reasons += [(said == why, why) for why in np.unique(said).tolist() if why]
    patient, split = (_cells(table, name[what]) for what in ("patient", "split"))
    if layout.partial:
        there = np.asarray([is_there(folder / file) for file in table.columns[name["image"]]], dtype=bool)
        reasons.append((there.any() & ~np.isin(patient, patient[there]), "of patients of whom no image is there"))
    if layout.apart:
        test = split == "test"
        reasons.append((~test & np.isin(patient, patient[test]), "to train on, of somebody in the official test,"))
    return reasons


def _cells(table: CsvTable, column: str) -> Array:
    """A column as it is (str [n]), empty where there is none."""
    return np.asarray([*table.columns.get(column, [""] * len(table))], np.str_)
