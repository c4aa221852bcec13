"""Notes as cases: a manifest with the text of each in its column `note`, or the name of its file in `note_path`.

Images and measurements may stand beside them, as in any manifest. Notes of the known sets, which are published, are not
searched for identities.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.joined import kept
from medtl_core.formats.layouts import needed
from medtl_core.formats.manifest import Manifest
from medtl_core.formats.table import encode, read_csv, read_header, require, splits
from medtl_core.notes.identity import permitted_in, refusals, remedy
from medtl_core.notes.text import fault_of, grouped, note_file, note_keys, read_note
from medtl_core.values import Array, Examples, Task

#: The columns of a manifest that hold a note, or name its file.
NOTE, FILE = "note", "note_path"


class Notes(Reader):
    """A manifest with notes.

    Attributes:
        numbers: whether the further columns are measurements; else they are kept as text.
    """

    def __init__(self, name: str, *, numbers: bool) -> None:
        self.name, self.numbers = name, numbers

    def matches(self, path: Path) -> bool:
        """See `Reader`: notes beside images must be asked for, by a backbone that reads them."""
        file = path / MANIFEST if path.is_dir() else path
        header = {*read_header(file)} if file.suffix.lower() == ".csv" else set()
        return not self.numbers and bool({NOTE, FILE} & header) and "path" not in header

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`."""
        file = path / MANIFEST if path.is_dir() else path
        header = read_header(file)
        if len({NOTE, FILE} & {*header}) != 1:
            raise DataError(f"{file}: notes need a column {NOTE!r}, or {FILE!r} that names their files, and not both")
        images = "path" in header
        gaps = images or self.numbers
        examples, facts = Manifest(self.name, images=images, numbers=self.numbers).read(path, task, faults)
        columns = dict(examples.columns)
        if FILE in columns:
            columns[NOTE] = _from_files(columns.pop(FILE).tolist(), file.parent, faults, gaps=gaps)
        notes, permitted = columns[NOTE], permitted_in(file.parent)
        for row in np.setdiff1d(np.arange(len(notes)), faults.rows).tolist():
            for cause in refusals(notes[row], permitted):
                faults.case(row, cause, remedy())
        told = [note.replace("image", "note") if note == NO_PATIENTS and not images else note for note in facts.notes]
        columns = _with_notes(columns, notes, faults, gaps=gaps)
        return replace(examples, columns=columns), replace(facts, notes=tuple(told))


class KnownNotes(Reader):
    """Notes of a set of the catalog.

    Attributes:
        entry: the set.
    """

    name = "notes"

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def matches(self, path: Path) -> bool:
        """See `Reader`; whoever knows the set has looked."""
        return True

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the task is the catalog's, and rows without a note or of other classes are left out."""
        entry, layout = self.entry, self.entry.layout
        folder = path if path.is_dir() else path.parent
        whole = read_csv(needed(entry, folder, entry.files[0]), Faults())
        require(whole, layout.columns)
        label, notes = (np.asarray([*whole.columns[name]], object) for name in (layout.label, layout.image))
        strange = ~np.isin(label, [*layout.labels]) & ("*" not in layout.labels)
        reasons = {"of other classes": strange, "without text": notes == ""}
        left, told = np.zeros(len(whole), bool), [entry.note]
        for why, rows in reasons.items():
            told += [f"{int((rows & ~left).sum())} notes {why} are left out."] if (rows & ~left).any() else []
            left |= rows
        table = kept(whole, ~left, faults)
        other = layout.labels.get("*", "")
        classes = [word and layout.labels.get(word, other or word) for word in label[~left].tolist()]
        table = table.replaced(layout.label, classes)
        patient, site = (table.names(name) if name else table.row_names() for name in (layout.patient, layout.site))
        columns: dict[str, Array] = {
            "label": encode(table, layout.label, entry.task)[0],
            "patient": patient,
            "site": site if layout.site else np.full(len(table), entry.name),
            "split": splits(table, layout.split or "split"),
        }
        columns = _with_notes(columns, notes[~left], faults)
        return Examples(columns, entry.task), Facts(entry, tuple(told), has_patients=bool(layout.patient))


def _from_files(names: Sequence[str], folder: Path, faults: Faults, *, gaps: bool) -> NDArray[np.object_]:
    """The texts of files; one that cannot be read is a fault, and empty. With `gaps` one may not be named."""
    notes: list[str] = []
    for row, name in enumerate(names):
        try:
            notes.append("" if gaps and not name else read_note(note_file(name, folder)))
        except DataError as error:
            faults.case(row, str(error), "a text file of one note is expected")
            notes.append("")
    return np.asarray(notes, object)


def _with_notes(columns: dict[str, Array], notes: Array, faults: Faults, *, gaps: bool = False) -> dict[str, Array]:
    """The columns with notes, object [n], and a name of what each says; one that can be no case is a fault.

    With `gaps` a case may have no note but another modality.
    """
    known = {*faults.rows.tolist()}
    for row, note in enumerate(notes.tolist()):
        if row not in known and (note or not gaps) and (cause := fault_of(note)):
            faults.case(row, cause, "a text with words is expected")
    keys = np.where(notes == "", "", note_keys(notes.tolist()))
    return {**columns, NOTE: notes, "note_key": keys, "note_group": grouped(columns["patient"], keys)}


READERS, known = (Notes("notes", numbers=False), Notes("notes+table", numbers=True)), KnownNotes
