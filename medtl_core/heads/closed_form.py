"""Closed-form heads from summed statistics: nearest mean, ridge and the shrunk discriminant.

Each family turns statistics into one head per strength of its regularisation, all from one eigendecomposition, on
features standardised by the statistics themselves; standardisation is folded into the weights, so a head reads raw
features.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations, groupby
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.linear import to_raw
from medtl_core.heads.statistics import Float, Statistics

#: Least scatter within classes that a covariance is shrunk towards, as a share of all.
_SCATTER = 1e-6


@dataclass(frozen=True)
class Family(ABC):
    """A kind of closed-form head.

    Attributes:
        strengths: of its regularisation, among which cross-validation chooses.
    """

    #: Whether its heads come from the spectrum of the statistics.
    spectral: ClassVar[bool] = True

    strengths: tuple[float, ...]

    @abstractmethod
    def heads(self, statistics: Statistics) -> Float:
        """Returns affine heads on raw features, float64 [strengths, C, d + 1], the bias last."""


@dataclass(frozen=True)
class NearestMean(Family):
    """Nearest class mean of the standardised features (FedNCM): -||z - m_c||^2 / 2 without its common part."""

    spectral = False

    strengths: tuple[float, ...] = (1.0,)

    def heads(self, statistics: Statistics) -> Float:
        """See Family."""
        means, seen = _class_means(statistics.counts, statistics.standard_sums())
        return _raw(means[None], -0.5 * (means**2).sum(axis=1)[None], statistics, seen)


@dataclass(frozen=True)
class Ridge(Family):
    """Ridge regression on one-hot labels with a free intercept: W = (G + strength N I)^-1 B (Fed3R, AFL)."""

    strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)

    def heads(self, statistics: Statistics) -> Float:
        """See Family."""
        values, vectors = statistics.spectrum()
        rotated = statistics.standard_sums() @ vectors
        penalty = np.asarray(self.strengths)[:, None] * statistics.cases
        weights = np.tensordot(rotated[None] / (values + penalty)[:, None], vectors, (-1, 1))
        share = statistics.counts / max(statistics.cases, 1.0)
        return _raw(weights, np.broadcast_to(share, weights.shape[:2]), statistics, statistics.counts > 0)


@dataclass(frozen=True)
class Discriminant(Family):
    """Linear discriminant with a uniform prior and a covariance shrunk towards a multiple of the identity.

    S_r = (1 - r) S + r tr(S) / d I;  w_c = S_r^-1 m_c;  b_c = -(m_c' w_c - tr(S_r^-1 S) / n_c) / 2 (Friedman, JASA 84,
    1989). The mean of n cases lies farther out than the class does, by tr(S_r^-1 S) / n on average (Moran and Murphy,
    Applied Statistics 28, 1979), which would push cases away from rare diagnoses. With that taken off and the uniform
    prior, they count as much as common ones.
    """

    strengths: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0)

    def heads(self, statistics: Statistics) -> Float:
        """See Family."""
        values, vectors = statistics.spectrum()
        means, seen = _class_means(statistics.counts, statistics.standard_sums() @ vectors)
        counts = np.where(seen, statistics.counts, 0.0)
        freedom = max(statistics.cases - seen.sum(), 1.0)
        scatter = float(values.sum()) - float(counts @ (means**2).sum(axis=1))
        # one case a class leaves no scatter
        spread = max(scatter, _SCATTER * float(values.sum()), _SCATTER) / (freedom * len(vectors))
        shrink = np.asarray(self.strengths)[:, None]
        # S_r is that of all cases less that of the class means, which has as many axes as classes (Woodbury's identity)
        variances, shares = (1 - shrink) / freedom * values + shrink * spread, (1 - shrink) / freedom * counts
        around = means[None] / variances[:, None]
        weights = np.linalg.solve(np.eye(len(means)) - (around @ means.T) * shares[:, None], around)
        lengths = (weights * means).sum(axis=2)
        inverse = 1.0 / variances + (shares[..., None] * around * weights).sum(axis=1)  # the diagonal of S_r^-1
        apart = (inverse @ values - lengths @ counts)[:, None] / freedom
        bias = 0.5 * (apart / np.maximum(counts, 1.0) - lengths)
        return _raw(np.tensordot(weights, vectors, (-1, 1)), bias, statistics, seen)


FAMILIES: dict[str, Family] = {"nearest-mean": NearestMean(), "ridge": Ridge(), "discriminant": Discriminant()}


def widened(heads: Float, columns: NDArray[np.int64], width: int) -> Float:
    """Returns heads on some feature columns, [..., C, k + 1], as heads on all `width` features, zero elsewhere."""
    wide = np.zeros((*heads.shape[:-1], width + 1))
    wide[..., columns], wide[..., -1] = heads[..., :-1], heads[..., -1]
    return wide


def column_choices(groups: Sequence[tuple[str, int, int]]) -> dict[str, NDArray[np.int64]]:
    """Returns every run of neighbouring taps of one backbone, and every union of whole backbones, with its columns.

    Args:
        groups: (tap, start, stop) of the feature columns; of several backbones, taps are named "BACKBONE:TAP".

    Example:
        >>> list(column_choices((("4", 0, 2), ("7", 2, 4), ("10", 4, 6))))
        ['4', '4+7', '4+7+10', '7', '7+10', '10']
        >>> list(column_choices((("a:1", 0, 2), ("a:2", 2, 4), ("b:1", 4, 6))))
        ['a:1', 'a:1+a:2', 'a:2', 'b:1', 'a:1+a:2+b:1']
    """
    backbones = [list(taps) for _, taps in groupby(groups, key=lambda group: group[0].rpartition(":")[0])]
    chosen = [taps[a:b] for taps in backbones for a, b in combinations(range(len(taps) + 1), 2)]
    for size in range(2, len(backbones) + 1):
        chosen += [list(chain.from_iterable(union)) for union in combinations(backbones, size)]
    return {
        "+".join(name for name, _, _ in taps): np.concatenate([np.arange(start, stop) for _, start, stop in taps])
        for taps in chosen
    }


def _class_means(counts: Float, sums: Float) -> tuple[Float, np.ndarray]:
    """Returns class means [C, d] of class sums (zero where unseen) and which classes were seen [C]."""
    seen = counts > 0.5  # counts are whole; a difference of sums may leave 1e-16
    return np.where(seen[:, None], sums / np.maximum(counts, 1.0)[:, None], 0.0), seen


def _raw(weights: Float, bias: Float, statistics: Statistics, seen: np.ndarray) -> Float:
    """Heads [s, C, d], [s, C] on standardised features as heads on raw ones, classes never seen marked."""
    return to_raw(np.concatenate([weights, bias[..., None]], axis=2), statistics.mean, statistics.scale, seen)
