"""LogME: how well frozen features suit a task, from their summed statistics (You et al., ICML 2021).

It is the log maximum evidence of a Bayesian linear model for each class's 0/1 target, per case, averaged over classes.
Targets enter only through the class sums and features only through the Gram matrix, so that sums over hospitals give
exactly what the standardised features of all their cases would give.
"""

import numpy as np

from medtl_core.errors import DataError
from medtl_core.heads.statistics import Float, Statistics

#: Eigenvalues below this share of the largest are rounding, not variance.
_RANK = 1e-9
#: The fixed point: relative change at which it has arrived, and the most steps it is given.
_ARRIVED, _STEPS = 1e-6, 200


def logme(statistics: Statistics) -> float:
    """Returns the log maximum evidence per case in nats, mean over the classes that were seen.

    Raises:
        DataError: fewer than two classes were seen.
    """
    seen = statistics.counts > 0.5
    if seen.sum() < 2:
        raise DataError(
            f"the hospitals together show {int(seen.sum())} class(es); a source can only be judged on at least two"
        )
    standard, counts = statistics.standardised(), statistics.counts[seen]
    eigen, basis = np.linalg.eigh(standard.gram)
    pairs = zip(standard.sums[seen] @ basis, counts, strict=True)
    return float(np.mean([_evidence(np.maximum(eigen, 0.0), *pair, float(counts.sum())) for pair in pairs]))


def _evidence(eigen: Float, sums: Float, count: float, cases: float) -> float:
    """The largest evidence of one class's target over the precisions of prior and noise (eq. 2 and algorithm 1).

    From the Gram matrix's eigenvalues [d], none negative, and the sum [d] of the class's features in its eigenbasis.
    """
    solid = eigen > _RANK * max(float(eigen.max()), 1e-300)
    varied, square = eigen[solid], sums[solid] ** 2
    unexplained = max(count - float((square / varied).sum()), 0.0)
    prior = noise = 1.0
    for _ in range(_STEPS):
        freedom = float((varied / (varied + prior / noise)).sum())
        length = float((noise**2 * square / (prior + noise * varied) ** 2).sum())
        misfit = float(((prior / (prior + noise * varied)) ** 2 * square / varied).sum()) + unexplained
        before = prior, noise
        prior, noise = freedom / max(length, 1e-12), (cases - freedom) / max(misfit, 1e-12)
        if all(abs(new - old) <= _ARRIVED * old for new, old in zip((prior, noise), before, strict=True)):
            break
    evidence = len(eigen) * np.log(prior) + cases * np.log(noise / (2 * np.pi)) - noise * misfit - prior * length
    return float(evidence - np.log(prior + noise * eigen).sum()) / (2 * cases)
