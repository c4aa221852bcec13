"""Sufficient statistics of labelled features: what a hospital sums, and what a server can add and subtract.

Class counts, class sums and the Gram matrix give the pooled nearest mean, ridge and discriminant heads exactly
(docs/methods.md; ridge: Fanì et al., ICML 2024; He et al., "AFL", CVPR 2025). Sent per fold they give exact federated
cross-validation, because the training part of a fold is the total minus the fold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array, Update

Float = NDArray[np.float64]

#: By how much, relatively, sums of a few thousand rounded numbers may be off.
ROUNDING = 1e-6

#: Added to every standard deviation, so that a constant feature divides by something.
TINY = 1e-6


@dataclass(frozen=True)
class Statistics:
    """Sums over labelled feature vectors.

    Attributes:
        counts: float64 [C], cases of each class.
        sums: float64 [C, d], sum of the features of each class.
        gram: float64 [d, d], sum of outer products of the features.
    """

    counts: Float
    sums: Float
    gram: Float

    def __add__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.counts + other.counts, self.sums + other.sums, self.gram + other.gram)

    def __sub__(self, other: "Statistics") -> "Statistics":
        return Statistics(self.counts - other.counts, self.sums - other.sums, self.gram - other.gram)

    @property
    def cases(self) -> float:
        """Number of cases."""
        return float(self.counts.sum())

    @property
    def mean(self) -> Float:
        """Mean feature vector, float64 [d]."""
        return np.asarray(self.sums.sum(axis=0) / max(self.cases, 1.0))

    @property
    def scale(self) -> Float:
        """Population standard deviation of each feature plus `TINY`, float64 [d]."""
        variance = np.diag(self.gram) / max(self.cases, 1.0) - self.mean**2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)) + TINY)

    def select(self, columns: NDArray[np.int64]) -> "Statistics":
        """Returns the statistics of some feature columns: a sub-block, so one message serves every choice of taps."""
        return Statistics(self.counts, self.sums[:, columns], self.gram[np.ix_(columns, columns)])

    def standardised(self) -> "Statistics":
        """Returns the statistics of (x - mean) / scale, computed from the sums alone."""
        mean, scale = self.mean, self.scale
        sums = (self.sums - np.outer(self.counts, mean)) / scale
        gram = (self.gram - self.cases * np.outer(mean, mean)) / np.outer(scale, scale)
        return Statistics(self.counts, sums, gram)


def collect(values: NDArray[np.floating[Any]], label: NDArray[np.int64], classes: int) -> Statistics:
    """Returns the statistics of features [n, d] with labels [n], in float64.

    Example:
        >>> collect(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 1]), 2).gram.tolist()
        [[10.0, 14.0], [14.0, 20.0]]
    """
    wide = np.asarray(values, dtype=np.float64)
    onehot = np.eye(classes)[label]
    return Statistics(onehot.sum(axis=0), onehot.T @ wide, wide.T @ wide)


def pack(folds: list[Statistics]) -> Update:
    """Returns the message of some folds: counts [F, C], sums [F, C, d], upper triangles of the Grams [F, d(d+1)/2]."""
    counts, sums = np.stack([fold.counts for fold in folds]), np.stack([fold.sums for fold in folds])
    return Update({"counts": counts, "sums": sums, "gram": np.stack([upper(fold.gram) for fold in folds])})


def unpack(arrays: Mapping[str, Array]) -> list[Statistics]:
    """Returns the folds of a message made by `pack`, or of a sum of such messages."""
    rows = zip(arrays["counts"], arrays["sums"], arrays["gram"], strict=True)
    return [Statistics(counts, sums, square(packed, sums.shape[1])) for counts, sums, packed in rows]


def contradiction(counts: Float, sums: Float, squares: Float, cases: int) -> str:
    """Returns why sums over parts of a hospital's cases cannot be true, or "".

    Args:
        counts: [F, C] cases of each class in each part.
        sums: [F, C, d] of their features.
        squares: [F, d] sums of the squared features of each part.
        cases: of the hospital, which are those of all parts and classes together.

    Example:
        >>> contradiction(np.array([[2.0]]), np.array([[[3.0]]]), np.array([[4.0]]), 2)
        'its sums of squares are less than its sums imply'
    """
    if counts.sum() != cases:
        return "its class counts do not add up to the number of cases it registered"
    if sums[counts == 0].any():
        return "it sums features of a class of which it counts no case"
    least = (sums**2 / np.maximum(counts, 1.0)[..., None]).sum(axis=1)  # Cauchy and Schwarz, class by class
    if (least > squares * (1.0 + ROUNDING) + ROUNDING).any():
        return "its sums of squares are less than its sums imply"
    return ""


def diagonal(packed: Float, width: int) -> Float:
    """Returns the diagonals [..., d] of packed upper triangles [..., d(d+1)/2]."""
    return np.asarray(packed[..., np.cumsum([0, *range(width, 1, -1)])])


def upper(matrix: Float) -> Float:
    """Returns the upper triangle of a symmetric matrix [d, d], row by row, [d(d+1)/2]."""
    return np.asarray(matrix[np.triu_indices(len(matrix))])


def square(packed: Float, width: int) -> Float:
    """Returns the symmetric matrix [d, d] of an upper triangle.

    Example:
        >>> square(np.array([1.0, 2.0, 3.0]), 2).tolist()
        [[1.0, 2.0], [2.0, 3.0]]
    """
    matrix = np.zeros((width, width))
    matrix[np.triu_indices(width)] = packed
    return np.asarray(matrix + np.triu(matrix, 1).T)
