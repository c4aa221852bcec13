"""A deck of patients: dealt from the top, never twice."""

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array

Index = NDArray[np.int64]


class Deck:
    """Patients in random order, dealt from the top; a patient dealt in part is never dealt again."""

    def __init__(self, patient: Array, rows: Index, rng: np.random.Generator) -> None:
        _, code, counts = np.unique(patient[rows], return_inverse=True, return_counts=True)
        order = rng.permutation(len(counts))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self._rows = rows[np.argsort(place[code], kind="stable")]
        self._stops = np.cumsum(counts[order])
        self._start = 0

    @property
    def left(self) -> int:
        """Cases not dealt yet."""
        return len(self._rows) - self._start

    def take(self, cases: int, *, trim: bool) -> Index:
        """Returns the next rows: with `trim` exactly `cases` while they last, without it whole patients."""
        if cases <= 0 or not self.left:
            return self._rows[:0]
        end = min(self._start + cases, len(self._rows))
        stop = int(self._stops[np.searchsorted(self._stops, end)])
        taken = self._rows[self._start : end if trim else stop]
        self._start = stop
        return taken
