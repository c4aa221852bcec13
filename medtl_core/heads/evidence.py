"""How well frozen features suit a task, from their summed statistics: LogME and H-scores.

All scores read one eigendecomposition of the standardised Gram matrix, and equal what the features would give.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.heads.statistics import Float, Statistics

#: Eigenvalues below this share of the largest are rounding, not variance.
_RANK = 1e-9
#: LogME's fixed point: relative change at which it has arrived, and the most steps it is given.
_ARRIVED, _STEPS = 1e-6, 200


@dataclass(frozen=True)
class Rotated:
    """Standardised statistics in the eigenbasis of their Gram matrix: one decomposition serves every score.

    Attributes:
        counts: float64 [C], cases of the classes that were seen; at least two classes.
        eigen: float64 [d], eigenvalues of the Gram matrix, none negative.
        sums: float64 [C, d], class sums in that basis.
    """

    counts: Float
    eigen: Float
    sums: Float

    @property
    def cases(self) -> float:
        """Number of cases N."""
        return float(self.counts.sum())

    @property
    def solid(self) -> NDArray[np.bool_]:
        """Which directions carry variance, bool [d]."""
        return np.asarray(self.eigen > _RANK * max(float(self.eigen.max()), 1e-300))


def rotate(statistics: Statistics) -> Rotated:
    """Returns the statistics standardised and rotated.

    Raises:
        DataError: fewer than two classes were seen.
    """
    seen = statistics.counts > 0.5
    if seen.sum() < 2:
        raise DataError(
            f"the hospitals together show {int(seen.sum())} class(es); a source can only be judged on at least two"
        )
    standard = statistics.standardised()
    values, vectors = np.linalg.eigh(standard.gram)
    return Rotated(statistics.counts[seen], np.maximum(values, 0.0), standard.sums[seen] @ vectors)


def logme(rotated: Rotated) -> float:
    """Returns the log maximum evidence per case, mean over classes.

    Equals LogME on the standardised features themselves: targets enter only through the class sums, features only
    through the Gram matrix (You et al., ICML 2021, eq. 2 and algorithm 1; METHODS section 6).
    """
    found = [_evidence(rotated, sums, float(count)) for sums, count in zip(rotated.sums, rotated.counts, strict=True)]
    return float(np.mean(found))


def h_score(rotated: Rotated) -> float:
    """Returns tr(S^+ S_between), S the total and S_between the covariance of the class means (Bao et al., eq. 2)."""
    solid = rotated.solid
    between = (rotated.sums[:, solid] ** 2 / rotated.counts[:, None]).sum(axis=0)
    return float((between / rotated.eigen[solid]).sum())


def shrunk_h_score(rotated: Rotated) -> float:
    """Returns tr(S_a^-1 (1 - a) S_between), S_a = (1 - a) S + a tr(S)/d I with OAS's a (Ibrahim et al., eq. 6)."""
    total_variance = rotated.eigen / rotated.cases
    share = oas_shrinkage(total_variance, rotated.cases)
    between = (rotated.sums**2 / rotated.counts[:, None]).sum(axis=0) / rotated.cases
    shrunk = (1 - share) * total_variance + share * total_variance.mean()
    return float(((1 - share) * between / np.maximum(shrunk, 1e-300)).sum())


def oas_shrinkage(eigen: Float, cases: float) -> float:
    """Returns the oracle-approximating shrinkage of a covariance with these eigenvalues [d], in [0, 1].

    Chen, Wiesel, Eldar, Hero (IEEE TSP 2010), eq. 23.

    Example:
        >>> oas_shrinkage(np.array([1.0, 1.0, 1.0]), 10)
        1.0
    """
    width, square, trace = len(eigen), float((eigen**2).sum()), float(eigen.sum())
    spread = (cases + 1 - 2 / width) * (square - trace**2 / width)
    return 1.0 if spread <= 1e-12 * square else min(1.0, ((1 - 2 / width) * square + trace**2) / spread)


def _evidence(rotated: Rotated, sums: Float, count: float) -> float:
    """The largest evidence of one class's 0/1 target over the precisions of prior (a) and noise (b), per case."""
    solid, cases = rotated.solid, rotated.cases
    eigen, square = rotated.eigen[solid], sums[solid] ** 2
    unexplained = max(count - float((square / eigen).sum()), 0.0)
    prior = noise = 1.0
    for _ in range(_STEPS):
        freedom = float((eigen / (eigen + prior / noise)).sum())
        length = float((noise**2 * square / (prior + noise * eigen) ** 2).sum())
        misfit = float(((prior / (prior + noise * eigen)) ** 2 * square / eigen).sum()) + unexplained
        before = prior, noise
        prior, noise = freedom / max(length, 1e-12), (cases - freedom) / max(misfit, 1e-12)
        if all(abs(new - old) <= _ARRIVED * old for new, old in zip((prior, noise), before, strict=True)):
            break
    width = len(rotated.eigen)
    evidence = width * np.log(prior) + cases * np.log(noise / (2 * np.pi)) - noise * misfit - prior * length
    evidence -= np.log(prior + noise * rotated.eigen).sum()
    return float(evidence) / (2 * cases)
