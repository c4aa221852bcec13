"""How far a case lies from all training cases: Mahalanobis' distance to the nearest class (Lee et al., NeurIPS 2018).

Class means and the scatter within classes are those of the discriminant, from sums. Of the scatter the largest axes are
kept one by one and the others as one number, their mean (Moghaddam and Pentland, PAMI 19, 1997), so that what is saved
grows with the number of features and not with its square.
"""

import math
from dataclasses import dataclass
from typing import Self, final

import numpy as np

from medtl_core.heads.statistics import TINY, Float, Statistics
from medtl_core.values import Array

#: Axes of the scatter that are kept: with more, few cases do not tell them (docs/predict.md).
AXES = 16
#: How much of the scatter is that of a ball: with fewer cases than features the smallest axes are not known.
SHRINK = 0.3
#: Bins of hospitals' counts, of equal width in the logarithm of the squared distance a feature, and where they begin
#: and end; what lies outside is in the first or last one.
BINS, _LOW, _HIGH = 512, math.log(0.01), math.log(1e4)


@final
@dataclass(frozen=True)
class Distance:
    """Distances to the classes, float32.

    Attributes:
        axes: directions in features over their deviation [k, d].
        means: of the classes that were seen, in features over their deviation [C, d].
        spread: over which a squared length is divided: along each axis, and in all other directions [k + 1].
        scale: deviation of each feature [d].
    """

    axes: Array
    means: Array
    spread: Array
    scale: Array

    @classmethod
    def of(cls, statistics: Statistics, axes: int = AXES, shrink: float = SHRINK) -> Self:
        """Returns the distances that statistics of cases give."""
        values, vectors = statistics.spectrum()
        seen = statistics.counts > 0.5
        counts = statistics.counts[seen]
        means = statistics.standard_sums()[seen] / counts[:, None]
        turned = means @ vectors
        freedom = max(statistics.cases - len(counts), 1.0)
        within = (np.diag(values) - (turned.T * counts) @ turned) / freedom
        lengths, turns = np.linalg.eigh(within)
        kept = min(axes, len(lengths))
        width, total = means.shape[1], max(float(np.trace(within)), 1e-12)
        largest = np.maximum(lengths[::-1][:kept], 0.0)
        rest = max(total - float(largest.sum()), 0.0) / (width - kept) if kept < width else total / width
        spread = (1.0 - shrink) * np.append(largest, rest) + shrink * total / width
        directions = (vectors @ turns[:, ::-1][:, :kept]).T
        # a feature that never changed says little: a new value counts as it is, not as millions of deviations
        scale = np.where(statistics.scale > 2 * TINY, statistics.scale, 1.0)
        places = means + statistics.mean / scale
        return cls(*(np.asarray(array, np.float32) for array in (directions, places, spread, scale)))

    def squared(self, values: Array) -> Float:
        """Returns the squared distance of each row of features [n, d] to its nearest class [n]."""
        rows, spread = np.asarray(values, np.float64) / self.scale, self.spread.astype(np.float64)
        each = []
        for mean in self.means.astype(np.float64):
            away = rows - mean
            along = (away @ self.axes.T.astype(np.float64)) ** 2
            beside = np.maximum((away**2).sum(axis=1) - along.sum(axis=1), 0.0)
            each.append(along @ (1.0 / spread[:-1]) + beside / spread[-1])
        return np.asarray(np.min(each, axis=0))

    def counted(self, values: Array) -> Float:
        """Returns how many rows of features have their squared distance in each bin [BINS]."""
        place = np.searchsorted(_edges(values.shape[1]), self.squared(values), side="left")
        return np.bincount(place, minlength=BINS).astype(np.float64)


def limit(counts: Float, share: float, width: int) -> float | None:
    """Returns the squared distance that so small a share of cases like those counted exceeds, at most.

    It is the upper edge of the bin of the quantile (1 - share)(n + 1) of n cases, so that nothing is promised that the
    counts do not keep; None where the cases are too few, or lie off the bins.

    Example:
        >>> counts = np.zeros(BINS)
        >>> counts[300] = 98
        >>> limit(counts, 0.01, 1) is None
        True
        >>> counts[320] = 1
        >>> round(limit(counts, 0.01, 1) or 0, 3)
        58.171
    """
    cases = int(counts.sum())
    rank = math.ceil((1 - share) * (cases + 1) - 1e-9)
    if rank > cases:
        return None
    place = int(np.searchsorted(np.cumsum(counts), rank))
    return float(_edges(width)[place]) if place < BINS - 1 else None


def _edges(width: int) -> Float:
    """Inner edges of the bins, upper ends of all but the last."""
    return np.asarray(width * np.exp(np.linspace(_LOW, _HIGH, BINS - 1)))
