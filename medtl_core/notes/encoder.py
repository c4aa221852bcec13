"""Notes as features: hashed words, or a frozen sentence encoder over passages.

`text:words` needs no weights: see `notes.text`; `text:minilm` and `text:NAME` are encoders of `notes.transformer`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.errors import DataError, WeightsError
from medtl_core.features.encoders import CaseEncoder, Encoding
from medtl_core.formats.needs import require
from medtl_core.formats.single import read_new
from medtl_core.formats.table import CsvTable, read_csv
from medtl_core.notes.identity import permitted_in, refusals
from medtl_core.notes.text import HashedWords, fault_of, named_note, read_note
from medtl_core.notes.transformer import Transformer, find
from medtl_core.values import Array, Examples


class NoteEncoder(CaseEncoder):
    """Features of the column `note`."""

    column: ClassVar[str] = "note"

    def encoding(self, settings: Settings, columns: Sequence[str]) -> Encoding:
        """See `CaseEncoder`."""
        model = _model(settings)
        return Encoding(model.sha, model.groups, (model.width,) * len(model.groups))

    def blank(self, columns: Sequence[str]) -> Array:
        """See `CaseEncoder`."""
        return np.asarray(["nothing to report"], object)

    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> Array:
        """See `CaseEncoder`."""
        model, rows = _model(settings), np.zeros((len(cases), sum(encoding.channels)), np.float32)
        if model.sha != encoding.sha:
            raise WeightsError(f"the weights of {settings.backbone!r} changed while the run was starting")
        for row, note in enumerate(map(str, cases[self.column])):
            if note:  # "" is a case without a note
                if cause := fault_of(note):
                    raise DataError(cause)
                rows[row] = model.features(note, settings)
        return rows

    def opened(self, places: Sequence[Path | CsvTable], columns: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
        """See `CaseEncoder`: text files, folders of them, or a CSV file with a column `note` or `note_path`."""
        for place in places:
            if isinstance(place, Path) and not (place.suffix.lower() == ".csv" and place.is_file()):
                found, folder = read_new(place, (".txt",), read_note, ""), None
            else:
                table = place if isinstance(place, CsvTable) else read_csv(place, Faults())
                found, folder = _listed(table), table.folder
            for name, note, fault in found:
                permitted = permitted_in(folder or Path(name).parent)
                yield name, note, fault or fault_of(note) or "; ".join(refusals(note, permitted))

    def parts(self, case: Any, weight: Array, settings: Settings) -> Sequence[tuple[str, float]]:
        """See `CaseEncoder`: of hashed words each one's exact share; else how the sum falls without a sentence."""
        return _model(settings).parts(str(case), weight, settings)


def _listed(table: CsvTable) -> Iterator[tuple[str, str, str]]:
    column = "note_path" if {"note", "note_path"} & {*table.columns} == {"note_path"} else "note"
    require(table, [column])
    for row, (note, whole) in enumerate(zip(table.columns[column], table.whole, strict=True)):
        fault = "" if whole else "the row is longer or shorter than the header"
        try:
            note = note if column == "note" else named_note(note, table.folder, gaps=True)
        except DataError as error:
            note, fault = "", str(error)
        yield table.faults.place(row), note, fault


def _model(settings: Settings) -> HashedWords | Transformer:
    return HashedWords() if settings.backbone == "text:words" else find(settings)


ENCODER = NoteEncoder()
