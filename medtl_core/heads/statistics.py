"""Sufficient statistics of labelled features: what a hospital sums, and what a server can add and subtract.

Class counts, class sums and the Gram matrix give the pooled nearest mean, ridge and discriminant heads exactly
(docs/methods.md; ridge: Fanì et al., ICML 2024; He et al., "AFL", CVPR 2025). Sent per fold they give exact federated
cross-validation, because the training part of a fold is the total minus the fold.

A hospital with fewer cases than features sends a square root of each fold's Gram matrix, which is smaller, and from
which the same sums follow: with the singular value decomposition [X, 1] = U S V' of a fold, S V' and U' of what is
summed over its cases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array, Update

Float = NDArray[np.float64]

#: By how much, relatively, sums of a few thousand rounded numbers may be off.
ROUNDING = 1e-6

#: Added to every standard deviation, so that a constant feature divides by something.
TINY = 1e-6
#: Squares of singular values below this share of the largest are rounding.
_RANK = 1e-13


@dataclass(frozen=True)
class Statistics:
    """Sums over labelled feature vectors.

    Attributes:
        counts: float64 [C], cases of each class.
        sums: float64 [C, d], sum of the features of each class.
        gram: float64 [d, d], sum of outer products of the features.
        span: float64 [n, d + 1], rows in whose span all cases lie with a constant behind, where those are few and
            known, as the roots of all hospitals are; a sum or difference does not know them.
        axes: eigenvalues [k] and eigenvectors [d, k] of the standardised Gram matrix, where they were computed.
    """

    counts: Float
    sums: Float
    gram: Float
    span: Float | None = None
    axes: tuple[Float, Float] | None = None

    @staticmethod
    def of_roots(messages: Sequence[Mapping[str, Array]]) -> "list[Statistics]":
        """Returns the folds of messages with roots (see `pack`) together, from one product a fold."""
        counts, names = np.sum([each["counts"] for each in messages], axis=0), ("labels", "rows")
        told = [zip(*(by_fold(each[name], each["counts"]) for each in messages), strict=True) for name in names]
        folds = zip(counts, *(map(np.concatenate, parts) for parts in told), strict=True)
        return [Statistics(count, (own.T @ rows)[:, :-1], (rows.T @ rows)[:-1, :-1]) for count, own, rows in folds]

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
        span = None if self.span is None else self.span[:, [*columns, -1]]
        return Statistics(self.counts, self.sums[:, columns], self.gram[np.ix_(columns, columns)], span)

    def standardised(self) -> "Statistics":
        """Returns the statistics of (x - mean) / scale, computed from the sums alone."""
        mean, scale = self.mean, self.scale
        gram = (self.gram - self.cases * np.outer(mean, mean)) / np.outer(scale, scale)
        return Statistics(self.counts, self.standard_sums(), gram)

    def standard_sums(self) -> Float:
        """Returns the class sums [C, d] of (x - mean) / scale."""
        return np.asarray((self.sums - np.outer(self.counts, self.mean)) / self.scale)

    def spectrum(self) -> tuple[Float, Float]:
        """Returns the axes; few cases have theirs in the space that they span."""
        if self.axes is None and self.span is not None and len(self.span) < len(self.gram):
            return axes_of((self.span[:, :-1] - self.span[:, -1:] * self.mean) / self.scale)
        values, vectors = self.axes or np.linalg.eigh(self.standardised().gram)
        return np.maximum(values, 0.0), vectors

    def decomposed(self) -> "Statistics":
        """Returns the statistics with their axes."""
        return replace(self, axes=self.spectrum())


def axes_of(rows: Float) -> tuple[Float, Float]:
    """Returns the eigenvalues [k] and eigenvectors [d, k] of the Gram matrix of rows [n, d], in the rows' span."""
    basis, narrow = np.linalg.qr(rows.T)
    values, vectors = np.linalg.eigh(narrow @ narrow.T)
    return np.maximum(values, 0.0), basis @ vectors


def collect(values: NDArray[np.floating[Any]], label: NDArray[np.int64], classes: int) -> Statistics:
    """Returns the statistics of features [n, d] with labels [n], in float64.

    Example:
        >>> collect(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0, 1]), 2).gram.tolist()
        [[10.0, 14.0], [14.0, 20.0]]
    """
    wide = np.asarray(values, dtype=np.float64)
    onehot = np.eye(classes)[label]
    return Statistics(onehot.sum(axis=0), onehot.T @ wide, wide.T @ wide)


@dataclass(frozen=True)
class Root:
    """A fold's cases [n, d], with a constant column behind, as basis @ rows.

    Both have as many rows as the fold has cases. Directions that the cases do not span are zero in both, so that a sum
    over cases told in the basis, basis.T @ terms, tells no more than rows.T @ basis.T @ terms, the sum over features.

    Attributes:
        basis: float64 [n, n].
        rows: float64 [n, d + 1]; its Gram matrix is that of the cases.
    """

    basis: Float
    rows: Float


def is_few(cases: int, width: int) -> bool:
    """Whether a hospital's folds travel as roots: it has no more cases than features."""
    return cases <= width


def roots(values: NDArray[np.floating[Any]], fold: NDArray[np.int64], folds: int) -> list[Root]:
    """Returns the root of each fold of few cases [n, d]; the same cases give the same root every time."""
    wide = np.column_stack([np.asarray(values, np.float64), np.ones(len(values))])
    return [_root(wide[fold == index]) for index in range(folds)]


def _root(cases: Float) -> Root:
    if not len(cases):
        return Root(np.zeros((0, 0)), cases)
    values, left = np.linalg.eigh(cases @ cases.T)
    basis = left * (values > _RANK * values[-1])
    return Root(basis, basis.T @ cases)


def pack(
    values: NDArray[np.floating[Any]], label: NDArray[np.int64], classes: int, fold: NDArray[np.int64], folds: int
) -> Update:
    """Returns the message of a hospital's cases [n, d] with labels and folds [n].

    It holds counts [F, C] and, of few cases, rows [n, d + 1] and labels [n, C] of the roots, fold after fold; else sums
    [F, C, d] and upper triangles of the Gram matrices, gram [F, d (d + 1) / 2].
    """
    onehot = np.eye(classes)[label]
    counts = np.stack([onehot[fold == index].sum(axis=0) for index in range(folds)])
    if is_few(len(values), values.shape[1]):
        parts = roots(values, fold, folds)
        labels = [part.basis.T @ onehot[fold == index] for index, part in enumerate(parts)]
        rows = np.concatenate([part.rows for part in parts])
        return Update({"counts": counts, "labels": np.concatenate(labels), "rows": rows})
    whole = [collect(values[fold == index], label[fold == index], classes) for index in range(folds)]
    sums, gram = np.stack([part.sums for part in whole]), np.stack([upper(part.gram) for part in whole])
    return Update({"counts": counts, "sums": sums, "gram": gram})


def rounded(update: Update) -> Update:
    """Returns a message made by `pack` with its sums in float32, half the bytes; counts and labels keep float64.

    A centred sum is then off by 6e-8 of (mean / deviation)^2 at most, which is nothing for what a network computes and
    too much for a column with a unit and an offset.
    """
    return Update({n: a.astype(np.float32) if n in ("rows", "sums", "gram") else a for n, a in update.arrays.items()})


def unpack(arrays: Mapping[str, Array]) -> list[Statistics]:
    """Returns the folds of a message made by `pack`."""
    if "rows" in arrays:
        return Statistics.of_roots([arrays])
    whole = zip(arrays["counts"], arrays["sums"], arrays["gram"], strict=True)
    return [Statistics(counts, sums, square(packed, sums.shape[1])) for counts, sums, packed in whole]


def by_fold(rows: Array, counts: Array) -> Sequence[Array]:
    """Returns rows [n, ...] that lie fold after fold, fold by fold, in float64; counts [F, C] say how many each has."""
    return np.split(rows.astype(np.float64), np.cumsum(np.maximum(counts.sum(axis=1), 0).astype(np.int64))[:-1])


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


def untrue(arrays: Mapping[str, Array], cases: int) -> str:
    """Returns why a message made by `pack` cannot be of a hospital with so many cases, or ""."""
    counts = arrays["counts"]
    if "rows" not in arrays:
        sums = arrays["sums"].astype(np.float64)
        return contradiction(counts, sums, diagonal(arrays["gram"], sums.shape[2]), cases)
    parts = zip(*(by_fold(arrays[name], counts) for name in ("labels", "rows")), strict=True)
    told = [(labels.T @ rows, (rows[:, :-1] ** 2).sum(axis=0)) for labels, rows in parts]
    sums, squares = (np.stack(each) for each in zip(*told, strict=True))
    if (np.abs(sums[:, :, -1] - counts) > ROUNDING * cases).any():  # the constant column, summed by class
        return "its roots do not hold the cases it counts"
    return contradiction(counts, sums[:, :, :-1], squares, cases)


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
