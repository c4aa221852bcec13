"""The privacy unit is the patient: however many cases a patient has, one row of length at most one speaks for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PublicMap:
    """How features become rows of length one: scale and directions come from public images, not from patients.

    A row is unit(V' (x - m) / s) with mean m, deviation s and principal directions V of public images.

    Attributes:
        mean, scale: float64 [d], of public features.
        basis: float64 [d, k], principal directions of the standardised public features.

    Guarantee:
        Whatever the map is, a row has length at most one: nothing rests on its being well chosen.
    """

    mean: Float
    scale: Float
    basis: Float

    @property
    def arrays(self) -> dict[str, Array]:
        """As they are sent."""
        return {"mean": self.mean, "scale": self.scale, "basis": self.basis}

    @classmethod
    def received(cls, arrays: Mapping[str, Array]) -> Self:
        """Returns the map in a message."""
        return cls(*(arrays[name].astype(np.float64) for name in ("mean", "scale", "basis")))

    def first(self, size: int) -> "PublicMap":
        """Returns the map with `size` directions, all of them if there are fewer."""
        return PublicMap(self.mean, self.scale, self.basis[:, :size])

    def rows(self, values: NDArray[np.floating]) -> Float:
        """Returns rows of length one, float64 [n, k], for features [n, d]."""
        with np.errstate(all="ignore"):
            return unit(((np.asarray(values, np.float64) - self.mean) / self.scale) @ self.basis)


@dataclass(frozen=True)
class Patients:
    """One row a patient.

    Attributes:
        rows: float64 [p, d], each of Euclidean norm at most 1.
        label: int64 [p].
    """

    rows: Float
    label: NDArray[np.int64]

    def onehot(self, classes: int) -> Float:
        """Returns the labels as float64 [p, C]."""
        return np.eye(classes)[self.label]


def unit(rows: Float) -> Float:
    """Returns rows [n, d] of length one; a row of zeros, or one whose length is not finite, becomes one of zeros.

    Example:
        >>> unit(np.array([[3.0, 4.0], [0.0, 0.0], [0.0, np.inf]])).tolist()
        [[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.where(np.isfinite(length), rows / np.maximum(length, 1e-12), 0.0)


def by_patient(rows: Float, label: NDArray[np.int64], patients: Array) -> Patients:
    """Returns one row and one label a patient: the mean of their rows, and their most frequent label.

    Args:
        rows: float64 [n, d], each of norm at most 1, so that a mean is too; any other row counts as one of zeros.
        label: int [n].
        patients: str [n].

    Guarantee:
        Unit: patient. Adding or removing one patient adds or removes one row of norm at most 1; no other row changes.
        Nothing a row holds makes it fail.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> found = by_patient(rows, np.array([1, 1, 0]), np.array(list("aab")))
        >>> found.rows.tolist(), found.label.tolist()
        ([[0.5, 0.5], [0.0, 1.0]], [1, 0])
    """
    with np.errstate(over="ignore", invalid="ignore"):
        clipped = np.linalg.norm(rows, axis=1, keepdims=True) <= 1.0 + 1e-9  # also tells NaN and infinity
    rows = np.where(clipped, rows, 0.0)
    names, owner = np.unique(patients, return_inverse=True)
    classes = int(label.max()) + 1 if len(label) else 1
    counts = np.zeros((len(names), classes), np.int64)
    np.add.at(counts, (owner, label), 1)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, owner, rows)
    return Patients(sums / counts.sum(axis=1, keepdims=True), counts.argmax(axis=1))
