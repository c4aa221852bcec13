"""New cases of several kinds: a manifest as a hospital's own, without labels, of which a row may lack some of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medtl_core.config import Settings, kind_of
from medtl_core.data.faults import Faults
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.features.encoders import encoder_of
from medtl_core.formats.manifest import image_files
from medtl_core.formats.measurements import lacking_column
from medtl_core.formats.needs import TABLES, refuse_whole
from medtl_core.formats.table import CsvTable, read_csv
from medtl_core.predict.cases import NewCases, unlabelled
from medtl_core.values import Array

#: Columns of which a manifest has one for each kind of case that is no table's.
_NAMED = {"image": ("path",), "text": ("note", "note_path")}
_BESIDE = tuple(name for names in _NAMED.values() for name in names)


def joint_cases(place: Path, settings: Settings, columns: Sequence[str], *, lacking: bool) -> NewCases:
    """Returns the rows of a manifest as cases; columns may stand in any order, and others may stand beside them.

    An empty cell, or a row of a table without a value, is a case that lacks the image, the note or the table.

    Args:
        place: a CSV file, or a folder with `manifest.csv`.
        settings: whose `backbone` says which kinds the head reads.
        columns: of the table, in the head's order; kinds of columns are told by their names.
        lacking: whether a kind may be missing with all its columns, for the head answers without it.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    file = place / MANIFEST if place.is_dir() else place
    if file.suffix.lower() not in TABLES or not file.is_file():
        raise DataError(f"{place}: the head reads {settings.backbone}; name a CSV file with a case a row")
    faults = Faults()
    table = read_csv(file, faults)
    read = dict[str, Array]()
    for backbone in settings.backbone.split("+"):
        kind = kind_of(backbone)
        if kind not in (*_NAMED, "table"):
            raise DataError(f"{file}: cases of {backbone} beside others cannot be answered from a manifest")
        asked = columns if kind == "table" else _NAMED[kind][:1]
        there = [name for name in _NAMED.get(kind, asked) if name in table.columns]
        for name in asked if not there or kind == "table" else ():
            _check(table, name, asked, (*columns, *_BESIDE), lacking=lacking)
        if kind == "table":
            read["table"] = _measured(table, columns)
        elif kind == "image":
            nothing = np.full(len(table), "", np.str_)
            read["path"] = image_files(table, "path", file.parent, gaps=True) if there else nothing
        else:
            read["note"] = _notes(table, backbone, there[:1])
    if not lacking:
        empty = [np.isnan(one).all(axis=1) if one.ndim == 2 else one == "" for one in read.values()]
        cause = f"{table.name}: the row has none of the kinds that the head reads"
        faults.case(np.flatnonzero(np.all(empty, axis=0) & table.whole), cause, "fill it, or leave it out")
    refuse_whole(table)
    rows, named = faults.usable(len(table)), faults.place
    wrong = {name: f"{fault.cause}; {fault.remedy}" for fault in faults.causes for name in fault.places}
    left = tuple(f"column {name!r}" for name in table.columns if name not in (*columns, *_BESIDE))
    names, examples = tuple(named(int(row)) for row in rows), {name: one[rows] for name, one in read.items()}
    return NewCases(names, unlabelled(examples), tuple(wrong.items()), left)


def _check(table: CsvTable, name: str, columns: Sequence[str], every: Sequence[str], *, lacking: bool) -> None:
    """Refuses a table without a column, unless all of its kind are missing and may be."""
    same = {other for other in columns if _kind(other) == _kind(name)}
    if name not in table.columns and not (lacking and not same & {*table.columns}):
        raise lacking_column(table.name, name, table, every)


def _kind(name: str) -> str:
    """The kind of a table's column; see `formats.columns`."""
    return name.partition(":")[0] if ":" in name else ""


def _measured(table: CsvTable, columns: Sequence[str]) -> Array:
    """The values of columns, float64 [n, k], NaN where a cell or the column is missing."""
    none = np.full(len(table), np.nan)
    return np.stack([table.numbers(name) if name in table.columns else none for name in columns], axis=1)


def _notes(table: CsvTable, backbone: str, there: Sequence[str]) -> Array:
    """The notes, object [n], "" where a case has none; one that can be no case is a fault."""
    notes = np.full(len(table), "", object)
    for column in there:
        told = encoder_of(backbone).opened([table], ())
        for row, ((_, note, fault), cell) in enumerate(zip(told, table.columns[column], strict=True)):
            notes[row] = note
            if cell and fault and table.whole[row]:
                table.faults.case(row, fault, "a text with words is expected")
    return notes
