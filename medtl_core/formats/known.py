"""The known sets: files in the layout that the catalog states."""

from dataclasses import replace
from pathlib import Path

from medtl_core.data.catalog import Entry, recognise
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names
from medtl_core.data.readers import Facts, Reader
from medtl_core.errors import DataError
from medtl_core.formats.arrays import MedMnist, read_arrays
from medtl_core.formats.manifest import image_files
from medtl_core.formats.records import read_records
from medtl_core.formats.schema_file import shipped
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
        if layout.kind == "records":
            examples, facts = read_records(shipped(entry.name), folder / entry.files[0], entry.task, faults)
            return examples, replace(facts, entry=entry, notes=(*notes, *facts.notes))
        table = read_csv(folder / entry.files[0], faults)
        return _listed(entry, folder, table), Facts(entry, (*notes, *table.notes), bool(layout.patient))


def _listed(entry: Entry, folder: Path, table: CsvTable) -> Examples:
    """The cases of a CSV that names image files."""
    layout = entry.layout
    require(table, layout.columns)
    label, task = encode(table, layout.label, entry.task, layout.labels)
    columns: dict[str, Array] = {
        "label": label,
        "patient": table.names(layout.patient) if layout.patient else table.row_names(),
        "site": hospital_names(table.names(layout.site, entry.name)),
        "split": splits(table, layout.split),
        "path": image_files(table, layout.image, folder, layout.pattern),
    }
    return Examples({**columns, **table.others({*layout.columns, *columns})}, task)


def _largest(entry: Entry, path: Path) -> Path:
    if path.is_file():
        return path
    for name in reversed(entry.files):
        if (path / name).is_file():
            return path / name
    raise DataError(f"{path} holds none of {', '.join(entry.files)}")


READERS = (KnownSet(),)
