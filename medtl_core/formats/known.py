"""The known sets: files in the layout that the catalog states."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import Entry, Field, recognise
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names
from medtl_core.data.readers import Facts, Reader
from medtl_core.errors import DataError
from medtl_core.formats.arrays import MedMnist, read_arrays
from medtl_core.formats.manifest import image_files
from medtl_core.formats.table import CsvTable, encode, read_csv, require, splits
from medtl_core.values import Array, Examples, Task


class KnownSet(Reader):
    """A set of the catalog, recognised by its own files.

    Attributes:
        entry: the set that is meant; None = the one that is there.
    """

    name = "known"

    def __init__(self, entry: Entry | None = None) -> None:
        self.entry = entry

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        return recognise(path) is not None

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the task is the catalog's."""
        entry = self.entry or recognise(path)
        if entry is None:
            raise DataError(f"{path} is none of the known sets")
        layout, notes = entry.layout, (entry.note,) if entry.note else ()
        folder = path if path.is_dir() else path.parent
        if layout.kind == "medmnist":
            examples, _ = MedMnist().read(_largest(entry, path), entry.task, faults)
            return examples, Facts(entry, notes, has_patients=False)
        if layout.kind == "arrays":
            return read_arrays(folder / entry.files[0], entry.task, faults), Facts(entry, notes)
        examples = _listed(entry, folder, read_csv(folder / entry.files[0], faults))
        columns = [name for field in layout.fields for name in _columns(field)]
        return examples, Facts(entry, notes, bool(layout.patient), tuple(columns))


def _listed(entry: Entry, folder: Path, table: CsvTable) -> Examples:
    """The cases of a CSV that names image files or holds numbers."""
    layout = entry.layout
    names = [field.name for field in layout.fields]
    require(table, [*layout.columns, *names])
    label, task = encode(table, layout.label, entry.task, layout.labels)
    columns: dict[str, Array] = {
        "label": label,
        "patient": table.names(layout.patient, [f"row-{number + 1}" for number in range(len(table))]),
        "site": hospital_names(table.names(layout.site, entry.name)),
        "split": splits(table, layout.split),
    }
    if layout.kind == "table":
        columns["table"] = np.concatenate([_measured(table, field) for field in layout.fields], axis=1)
    else:
        columns["path"] = image_files(table, layout.image, folder, layout.pattern)
    return Examples({**columns, **table.others({*layout.columns, *names, *columns})}, task)


def _largest(entry: Entry, path: Path) -> Path:
    if path.is_file():
        return path
    for name in reversed(entry.files):
        if (path / name).is_file():
            return path / name
    raise DataError(f"{path} holds none of {', '.join(entry.files)}")


def _columns(field: Field) -> list[str]:
    return [f"{field.name}={level:g}" for level in field.levels] or [field.name]


def _measured(table: CsvTable, field: Field) -> NDArray[np.float64]:
    """Returns a field's columns, float64 [n, 1 or number of levels]; NaN where it was not measured."""
    values = table.numbers(field.name)
    if field.zero_missing:
        values = np.where(values == 0, np.nan, values)
    if not field.levels:
        return ((values - field.centre) / field.scale)[:, None]
    shown = (values[:, None] == np.asarray(field.levels)).astype(np.float64)
    return np.where(np.isnan(values)[:, None], np.nan, shown)


READERS = (KnownSet(),)
