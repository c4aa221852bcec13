"""Notes as cases: a manifest with the text of each in its column `note`, or the name of its file in `note_path`.

Images and measurements may stand beside them, as in any manifest. Notes of the known sets, which are published, are not
searched for identities.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.data.readers import Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.joined import LEFT_OUT, with_columns
from medtl_core.formats.known import listed
from medtl_core.formats.layouts import needed
from medtl_core.formats.manifest import Manifest
from medtl_core.formats.needs import require
from medtl_core.formats.single import read_each
from medtl_core.formats.table import read_csv, read_header
from medtl_core.notes.identity import REMEDY, permitted_in, refusals
from medtl_core.notes.text import fault_of, grouped, named_note, note_keys
from medtl_core.values import Array, Examples, Task

#: The columns of a manifest that hold a note, or name its file.
NOTE, FILE = "note", "note_path"


class Notes(Reader):
    """A manifest with notes, or a set of the catalog.

    Attributes:
        numbers: whether the further columns of a manifest are measurements; else they are kept as text.
        entry: the set; None = a manifest.
    """

    def __init__(self, name: str, *, numbers: bool = False, entry: Entry | None = None) -> None:
        self.name, self.numbers, self.entry = name, numbers, entry

    def matches(self, path: Path) -> bool:
        """See `Reader`: notes beside images must be asked for, by a backbone that reads them."""
        file = path / MANIFEST if path.is_dir() else path
        header = {*read_header(file)} if file.suffix.lower() == ".csv" else set()
        return not self.numbers and bool({NOTE, FILE} & header) and "path" not in header

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`."""
        if self.entry:
            return _known(self.entry, path, faults)
        file = path / MANIFEST if path.is_dir() else path
        header = read_header(file)
        if len({NOTE, FILE} & {*header}) != 1:
            raise DataError(f"{file}: notes need a column {NOTE!r}, or {FILE!r} that names their files, and not both")
        gaps = self.numbers or "path" in header
        kind = Manifest(self.name, images="path" in header, numbers=self.numbers)
        examples, facts = kind.read(path, task, faults)
        columns = dict(examples.columns)
        if (names := columns.pop(FILE, None)) is not None:
            text = "a text file of one note is expected"
            found = read_each(len(names), lambda row: named_note(names[row], file.parent, gaps=gaps), faults, text)
            columns[NOTE] = np.asarray([found.get(row, "") for row in range(len(names))], object)
        permitted = permitted_in(file.parent)
        for row in faults.usable(len(examples)).tolist():
            for cause in refusals(columns[NOTE][row], permitted):
                faults.case(row, cause, REMEDY)
        return replace(examples, columns=_with_notes(columns, faults, gaps=gaps)), facts


def _known(entry: Entry, path: Path, faults: Faults) -> tuple[Examples, Facts]:
    """The notes of a set of the catalog: those of other classes are left out, and no other column is kept."""
    layout, folder = entry.layout, path if path.is_dir() else path.parent
    table = read_csv(needed(entry, folder, entry.files[0]), Faults())
    require(table, layout.columns)
    other = layout.labels.get("*", "")
    label = [layout.labels.get(said, said and other) for said in table.columns[layout.label]]
    missing = ("" if note else "without text" for note in table.columns[layout.image])
    why = [gap if said or other else "of other classes" for said, gap in zip(label, missing, strict=True)]
    cells = {layout.label: label, NOTE: table.columns[layout.image], LEFT_OUT: why}
    own = {name: table.columns[name] for name in layout.columns if name != layout.image}
    examples, left = listed(entry, folder, with_columns(replace(table, columns=own), cells), faults)
    told = (entry.note, *(line.replace("image", "note") for line in left))
    facts = Facts(entry, told, has_patients=bool(layout.patient))
    return replace(examples, columns=_with_notes(dict(examples.columns), faults)), facts


def _with_notes(columns: dict[str, Array], faults: Faults, *, gaps: bool = False) -> dict[str, Array]:
    """The columns with a name of what each note says; one that can be no case is a fault.

    With `gaps` a case may have no note but another modality.
    """
    notes = columns[NOTE]
    for row in faults.usable(len(notes)).tolist():
        if (notes[row] or not gaps) and (cause := fault_of(notes[row])):
            faults.case(row, cause, "a text with words is expected")
    keys = np.where(notes == "", "", note_keys(notes.tolist()))
    return {**columns, "note_key": keys, "note_group": grouped(columns["patient"], keys)}


def known(entry: Entry) -> Reader:
    """Returns the reader of a set of the catalog."""
    return Notes("notes", entry=entry)


READERS = (Notes("notes"), Notes("notes+table", numbers=True))
