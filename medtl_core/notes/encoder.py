"""Notes as features: hashed words, or a frozen sentence encoder over passages.

`text:words` needs no weights: every word adds 1 + log(count) to one of 1,024 columns, with a sign, both by a hash, and
the row is scaled to length 32. `text:minilm` is the sentence encoder all-MiniLM-L6-v2 of a Python package, and
`text:NAME` any transformer in a folder of that name: see `notes.transformer`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.errors import DataError, WeightsError
from medtl_core.features.encoders import CaseEncoder, Encoding
from medtl_core.notes.identity import permitted_in, refusals
from medtl_core.notes.text import counted, fault_of, new_notes, sentences_of
from medtl_core.values import Array, Examples, digest

#: Columns of hashed words, and the version of how words are cut and counted.
WIDTH, VERSION = 1024, 1
WORDS = "text:words"


class NoteEncoder(CaseEncoder):
    """Features of the column `note`."""

    column: ClassVar[str] = "note"

    def encoding(self, settings: Settings, columns: Sequence[str]) -> Encoding:
        """See `CaseEncoder`."""
        if settings.backbone == WORDS:
            return Encoding(digest({"words": VERSION, "width": WIDTH}), ("words",), (WIDTH,))
        from medtl_core.notes.transformer import POOLINGS, find

        model = find(settings)
        return Encoding(model.sha, POOLINGS, (model.width,) * len(POOLINGS))

    def blank(self, columns: Sequence[str]) -> Array:
        """See `CaseEncoder`."""
        return np.asarray(["nothing to report"], object)

    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> Array:
        """See `CaseEncoder`."""
        rows, notes = np.zeros((len(cases), sum(encoding.channels)), np.float32), [*map(str, cases[self.column])]
        told = [row for row, note in enumerate(notes) if note]  # "" is a case without a note
        for row in told:
            if cause := fault_of(notes[row]):
                raise DataError(cause)
        if settings.backbone == WORDS:
            for row in told:
                rows[row] = hashed(notes[row])
            return rows
        from medtl_core.notes.transformer import embedded, find

        model = find(settings)
        if model.sha != encoding.sha:
            raise WeightsError(f"the weights of {settings.backbone!r} changed while the run was starting")
        if told:
            rows[told] = embedded([notes[row] for row in told], model, settings)
        return rows

    def opened(self, places: Sequence[Path], columns: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
        """See `CaseEncoder`: text files, folders of them, or a CSV file with a column `note`."""
        for name, folder, note, fault in new_notes(places):
            causes = [fault] if fault else [cause for cause in (fault_of(note),) if cause]
            yield name, note, "; ".join(causes or refusals(note, permitted_in(folder)))

    def parts(self, case: Any, weight: Array, settings: Settings) -> Sequence[tuple[str, float]]:
        """See `CaseEncoder`: of hashed words each one's exact share; else how the sum falls without a sentence."""
        note = str(case)
        if settings.backbone == WORDS:
            words, column, shares = _shares(note)
            return [*zip(words, (shares * weight[column]).tolist(), strict=True)]
        from medtl_core.notes.transformer import embedded, find

        pieces, model = sentences_of(note), find(settings)
        others = [" ".join([*pieces[:place], *pieces[place + 1 :]]) or "-" for place in range(len(pieces))]
        whole, *without = (embedded([note, *others], model, settings).astype(np.float64) @ weight).tolist()
        return [*zip(pieces, (whole - rest for rest in without), strict=True)]


def hashed(note: str) -> Array:
    """Returns the hashed words of a note, float32 [WIDTH], of length sqrt(WIDTH)."""
    _, column, shares = _shares(note)
    return np.bincount(column, weights=shares, minlength=WIDTH).astype(np.float32)


def _shares(note: str) -> tuple[list[str], Array, Array]:
    """The words of a note, the column of each, and what it adds to it."""
    weights, column, sign = counted(note, WIDTH)
    shares = sign * np.asarray([*weights.values()])
    length = float(np.linalg.norm(np.bincount(column, weights=shares, minlength=WIDTH)))
    return [*weights], column, shares * np.sqrt(WIDTH) / max(length, 1e-12)


ENCODER = NoteEncoder()
