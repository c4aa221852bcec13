"""How far two orders of the same candidates agree, and what choosing by one of them costs."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError

Float = NDArray[np.float64]


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns Spearman's rank correlation, ties at their mean rank; NaN where one side is constant.

    Raises:
        DataError: the lengths differ, there are fewer than two candidates, or a value is not finite.

    Example:
        >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
        0.8
    """
    ranks = [_ranks(side) for side in _pair(first, second)]
    centred = [side - side.mean() for side in ranks]
    lengths = [float(np.sqrt((side**2).sum())) for side in centred]
    if min(lengths) == 0:
        return float("nan")
    return round(float(centred[0] @ centred[1]) / (lengths[0] * lengths[1]), 12)


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns Kendall's tau-b: pairs in the same order less pairs in the other, corrected for ties; NaN if undefined.

    Raises:
        DataError: as `spearman`.

    Example:
        >>> kendall([1, 2, 3], [1, 3, 2])
        0.333333333333
    """
    left, right = _pair(first, second)
    upper = np.triu_indices(len(left), 1)
    signs = [np.sign(side[:, None] - side[None, :])[upper] for side in (left, right)]
    untied = [float((sign != 0).sum()) for sign in signs]
    if min(untied) == 0:
        return float("nan")
    return round(float((signs[0] * signs[1]).sum()) / float(np.sqrt(untied[0] * untied[1])), 12)


def regret(score: Sequence[float], measured: Sequence[float]) -> float:
    """Returns the best measured value less that of the candidate with the highest score (the first of equals).

    Raises:
        DataError: as `spearman`.

    Example:
        >>> regret([0.1, 0.9, 0.5], [70.0, 75.0, 78.0])
        3.0
    """
    by, values = _pair(score, measured)
    return float(values.max() - values[int(by.argmax())])


def _pair(first: Sequence[float], second: Sequence[float]) -> tuple[Float, Float]:
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise DataError(f"two orders of the same candidates must be of equal length, not {len(left)} and {len(right)}")
    if len(left) < 2:
        raise DataError("an order needs at least two candidates; name more backbones or taps")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise DataError("a candidate's score or result is not finite; leave it out of the order")
    return left, right


def _ranks(values: Float) -> Float:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    mean = last - (count - 1) / 2.0
    return np.asarray(mean[place], dtype=np.float64)
