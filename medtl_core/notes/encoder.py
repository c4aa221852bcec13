"""Notes as features: hashed words, or a frozen sentence encoder over passages.

`text:words` needs no weights: every word adds 1 + log(count) to one of 1,024 columns, with a sign, both by a hash, and
the row is scaled to length 32. `text:minilm` is the sentence encoder all-MiniLM-L6-v2 of a Python package, and
`text:NAME` any transformer in a folder of that name: see `notes.transformer`.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.errors import DataError, WeightsError
from medtl_core.features.encoders import CaseEncoder, Encoding
from medtl_core.notes.text import counted, fault_of
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
        notes = [str(note) for note in cases[self.column]]
        for note in notes:
            if cause := fault_of(note):
                raise DataError(cause)
        if settings.backbone == WORDS:
            return np.stack([hashed(note) for note in notes]) if notes else np.zeros((0, WIDTH), np.float32)
        from medtl_core.notes.transformer import embedded, find

        model = find(settings)
        if model.sha != encoding.sha:
            raise WeightsError(f"the weights of {settings.backbone!r} changed while the run was starting")
        return embedded(notes, model, settings)


def hashed(note: str) -> Array:
    """Returns the hashed words of a note, float32 [WIDTH], of length sqrt(WIDTH)."""
    weights, column, sign = counted(note, WIDTH)
    row = np.bincount(column, weights=sign * np.asarray([*weights.values()]), minlength=WIDTH)
    return np.asarray(row * (np.sqrt(WIDTH) / max(float(np.linalg.norm(row)), 1e-12)), np.float32)


ENCODER = NoteEncoder()
