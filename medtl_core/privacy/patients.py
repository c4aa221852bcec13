"""The privacy unit is the patient: however many cases a patient has, one row of length at most one speaks for them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import PrivacyError
from medtl_core.values import Array

Float = NDArray[np.float64]


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
    """Returns rows [n, d] of length one; a zero row stays zero.

    Example:
        >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def by_patient(rows: Float, label: NDArray[np.int64], patients: Array) -> Patients:
    """Returns one row and one label a patient: the mean of their rows, and their most frequent label.

    Args:
        rows: float64 [n, d], each of norm at most 1, so that a mean is too.
        label: int [n].
        patients: str [n].

    Guarantee:
        Unit: patient. Adding or removing one patient adds or removes one row of norm at most 1; no other row changes.

    Raises:
        PrivacyError: a row is not finite or too long. The rule does not look at the data of others, and nothing is
            released.

    Example:
        >>> rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> found = by_patient(rows, np.array([1, 1, 0]), np.array(list("aab")))
        >>> found.rows.tolist(), found.label.tolist()
        ([[0.5, 0.5], [0.0, 1.0]], [1, 0])
    """
    if not np.isfinite(rows).all() or (len(rows) and np.linalg.norm(rows, axis=1).max() > 1.0 + 1e-9):
        raise PrivacyError("a case's features are not finite or not clipped; mend or remove the case")
    names, owner = np.unique(patients, return_inverse=True)
    classes = int(label.max()) + 1 if len(label) else 1
    counts = np.zeros((len(names), classes), np.int64)
    np.add.at(counts, (owner, label), 1)
    sums = np.zeros((len(names), rows.shape[1]))
    np.add.at(sums, owner, rows)
    return Patients(sums / counts.sum(axis=1, keepdims=True), counts.argmax(axis=1))
