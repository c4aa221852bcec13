"""Notes as cases: a manifest with the text of each in its column `note`, or the name of its file in `note_path`.

Images may stand beside them, as in any manifest. Notes of the known sets, which are published, are not searched for
identities.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.joined import LEFT_OUT, with_columns
from medtl_core.formats.known import listed
from medtl_core.formats.layouts import needed
from medtl_core.formats.manifest import Manifest
from medtl_core.formats.single import read_each
from medtl_core.formats.table import read_csv, read_header, require
from medtl_core.notes.identity import REMEDY, permitted_in, refusals
from medtl_core.notes.text import fault_of, grouped, note_keys, read_note
from medtl_core.values import Array, Examples, Task

#: The columns of a manifest that hold a note, or name its file.
NOTE, FILE = "note", "note_path"


class Notes(Reader):
    """A manifest with notes, or a set of the catalog.

    Attributes:
        entry: the set; None = a manifest.
    """

    name = "notes"

    def __init__(self, entry: Entry | None = None) -> None:
        self.entry = entry

    def matches(self, path: Path) -> bool:
        """See `Reader`: notes beside images must be asked for, by a backbone that reads them."""
        file = path / MANIFEST if path.is_dir() else path
        header = {*read_header(file)} if file.suffix.lower() == ".csv" else set()
        return bool({NOTE, FILE} & header) and "path" not in header

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`."""
        if self.entry:
            return _known(self.entry, path, faults)
        file = path / MANIFEST if path.is_dir() else path
        header = read_header(file)
        if len({NOTE, FILE} & {*header}) != 1:
            raise DataError(f"{file}: notes need a column {NOTE!r}, or {FILE!r} that names their files, and not both")
        images = "path" in header
        examples, facts = Manifest(self.name, images=images, numbers=False).read(path, task, faults)
        columns = dict(examples.columns)
        if FILE in columns:
            names, folder = columns.pop(FILE), file.parent.resolve()

            def note_of(row: int) -> str:
                place = (folder / names[row]).resolve()
                if names[row] and not place.is_relative_to(folder):
                    raise DataError(f"the column {FILE!r} names a file outside the manifest's folder")
                return "" if images and not names[row] else read_note(place)

            found = read_each(len(examples), note_of, faults, "a text file of one note is expected")
            columns[NOTE] = np.asarray([found.get(row, "") for row in range(len(examples))], object)
        permitted = permitted_in(file.parent)
        for row in faults.usable(len(examples)).tolist():
            for cause in refusals(columns[NOTE][row], permitted):
                faults.case(row, cause, REMEDY)
        told = [note.replace("image", "note") if note == NO_PATIENTS and not images else note for note in facts.notes]
        columns = _with_notes(columns, faults, gaps=images)
        return replace(examples, columns=columns), replace(facts, notes=tuple(told))


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
    columns = _with_notes(dict(examples.columns), faults)
    told = (entry.note, *(line.replace("image", "note") for line in left))
    return replace(examples, columns=columns), Facts(entry, told, has_patients=bool(layout.patient))


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


READERS, known = (Notes(),), Notes
