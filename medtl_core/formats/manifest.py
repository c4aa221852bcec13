"""The project's own format: a CSV file, or a folder with `manifest.csv`, with images or with measurements.

A manifest of images has the columns path and label and, optionally, patient_id, site and split, then any further
columns. A table has the same but for path, and its further columns, less those of notes, are measurements. Names are
never guessed.
"""

import os
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults, Row
from medtl_core.data.images import is_file_name, is_there
from medtl_core.data.names import hospital_names, missing
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.doubts import doubts
from medtl_core.formats.findings import diagnoses, diagnosis_columns
from medtl_core.formats.needs import require, splits
from medtl_core.formats.table import CsvTable, read_csv, read_header
from medtl_core.values import Array, Examples, Task

_NEEDED = ("path", "label")
_OPTIONAL = ("patient_id", "site", "split")
#: A note, or the name of its file: never a measurement; see `notes.reader`.
_NOTES = ("note", "note_path")
#: What else people call the column `path`: then it is no table that lacks it.
_PATHS = ("path", "filepath", "file", "filename", "image", "imagepath", "imagefile", "imageid", "img", "picture")

#: What people, and programs that write tables, call a column that numbers the rows.
_ROW_NUMBER = re.compile(
    r"(unnamed: \d+)?|index|row|case|record|sample|no|nr|number|.*nummer|mrn|pid"
    r"|(.*[ _.-]|row|case|record|study|sample|subject|encounter)(id|nr|no|number)|id"
)


class Manifest(Reader):
    """A CSV of cases.

    Attributes:
        images: whether the column `path` names an image of each case.
        numbers: whether the further columns are measurements; else they are kept as text.
    """

    def __init__(self, name: str, *, images: bool, numbers: bool) -> None:
        self.name, self.images, self.numbers = name, images, numbers

    def matches(self, path: Path) -> bool:
        """See `Reader`: measurements beside images must be asked for."""
        file = _file(path)
        if not file.is_file() or file.suffix.lower() not in (".csv", ".tsv"):
            return False
        names = [re.sub("[^a-z]", "", name.lower()) for name in read_header(file)]
        images = any(name in _PATHS for name in names) or {*names} <= {"label", "patientid", "site", "split"}
        return self.images != self.numbers and self.images == images

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`."""
        table = read_csv(_file(path), faults)
        told = diagnosis_columns(table.columns, task)
        require(table, (*_NEEDED[:1], *told) if self.images else told, _OPTIONAL)
        stated = "patient_id" in table.columns
        columns: dict[str, Array] = {
            "site": hospital_names(table.names("site", "site")),
            "split": splits(table, "split"),
        }
        if stated:
            columns["patient"] = table.ids("patient_id")
        known, names = {*_NEEDED, *told, *_OPTIONAL, "modality", *_NOTES}, list[str]()
        if self.numbers:
            columns |= table.others({*table.columns} - {"modality", *_NOTES})
            names = sorted({*table.columns} - known)  # hospitals may have them in any order
            columns["table"] = _measurements(table, names)
        # of a table a class is one of a row that can be used; an image that is not there has a class all the same
        diagnosed, task = diagnoses(table, task)
        columns |= diagnosed
        if self.images:
            gaps = self.numbers or bool({*_NOTES} & {*table.columns})  # another modality is there
            columns["path"] = image_files(table, "path", _file(path).parent, gaps=gaps)
        if not stated:
            columns["patient"] = columns["path"] if self.images else table.row_names()
        nobodys = NO_PATIENTS if self.images else NO_PATIENTS.replace("image", "row")
        notes = table.notes if stated else (*table.notes, nobodys)
        if not self.numbers:
            columns |= _free(table, {*_NEEDED, *told, *_OPTIONAL})
            return Examples(columns, task), Facts(notes=notes, has_patients=stated)
        odd = doubts(table, names, columns["table"], None if "labels" in columns else columns["label"])
        return Examples(columns, task), Facts(notes=(*notes, *odd), has_patients=stated, columns=tuple(names))


def _free(table: CsvTable, known: Collection[str]) -> dict[str, Array]:
    """The columns that nobody reads.

    Raises:
        DataError: one has a name of the project's own.
    """
    free = table.others(known)
    clash = sorted({"patient", "image", "table", "labels", "label", "path", "site", "split"} & free.keys())
    if clash:
        remedy = "is reserved; rename it (patients: 'patient_id')"
        raise DataError(*(f"{table.name}: the column name {name!r} {remedy}" for name in clash))
    return free


def image_files(table: CsvTable, column: str, folder: Path, pattern: str = "{}", *, gaps: bool = False) -> Array:
    """Returns the files (str [n]) that a column names by a pattern; one that is not there is a fault.

    With `gaps` an empty cell is a case without an image, "".
    """
    names = table.texts(column) if gaps else table.filled(column, table.texts(column))
    files = [_file_of(folder, pattern.format(name)) if name or not gaps else "" for name in names.tolist()]
    gone = np.asarray([not is_there(file) for file in files], dtype=bool) & ~missing(names)
    line = table.faults.place
    table.faults.place = lambda row: Row(f"{line(row)} ({names[row]})") if is_file_name(names[row]) else line(row)
    table.fault(column, gone, "names no file that is there", "name it from the CSV file's folder, with / between")
    table.faults.place = line
    return np.asarray(files, dtype=np.str_)


def _file_of(folder: Path, name: str) -> str:
    """The path of a file; where there is none of that name, of one whose letters are written in another form."""
    path = os.path.normpath(folder / name)
    if name.isascii() or is_there(path):
        return path
    others = (unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return next((other for form in others if is_there(other := os.path.normpath(folder / form))), path)


def _file(path: Path) -> Path:
    return path / MANIFEST if path.is_dir() else path


def _measurements(table: CsvTable, names: Collection[str]) -> NDArray[np.float64]:
    """The columns that are measurements, float64 [n, columns]."""
    if not names:
        raise DataError(f"{table.name}: no column of measurements beside {', '.join(table.columns)}")
    values = np.empty((len(table), len(names)))
    for place, name in enumerate(names):
        values[:, place] = table.numbers(name)
    numbered = [name for place, name in enumerate(names) if _numbers_rows(name, values[:, place])]
    if numbered:
        remedy = "call it 'patient_id' if it says whose a row is, else leave it out"
        raise DataError(
            *(f"{table.name}: column {name!r} numbers the rows and measures nothing: {remedy}" for name in numbered)
        )
    return values


def _numbers_rows(name: str, values: NDArray[np.float64]) -> bool:
    """Whether a column tells rows apart by its name, and by whole numbers of which none occurs twice."""
    whole = len(values) > 1 and bool(np.all(values == np.round(values)))
    return whole and len(np.unique(values)) == len(values) and bool(_ROW_NUMBER.fullmatch(name.strip().lower()))


READERS = (
    Manifest("table", images=False, numbers=True),
    Manifest("images", images=True, numbers=False),
    Manifest("images+table", images=True, numbers=True),
)
