"""What can be shown against a claim of privacy by watching it: bounds from below, each with its chance of error.

None of them proves a promise. A bound above the claim disproves it; a bound below says what this attack could not do.
The two-run bound is that of Nasr et al., USENIX Security 2023.
"""

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.heads.statistics import Float
from medtl_core.privacy.accounting import epsilon as epsilon_of
from medtl_core.privacy.plan import GaussianEvent
from medtl_core.values import Array


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Returns the epsilon of a mu-GDP mechanism at `delta`."""
    return epsilon_of([GaussianEvent(1.0 / mu)], delta) if mu > 0 else 0.0


def chi_square(noise: Array, sigma: float) -> float:
    """Returns the two-sided p-value of independent noise of mean 0 under the claim that its deviation is `sigma`.

    The sum of squares over sigma^2 is chi-square with as many degrees of freedom as there are numbers; 20,000 of them
    show a shortfall of 3 % at p near 1e-9.
    """
    from scipy.stats import chi2

    if not noise.size or not sigma > 0:
        raise PrivacyError(f"{noise.size} numbers under sigma={sigma} cannot be judged")
    squares = float((np.asarray(noise, np.float64) ** 2).sum()) / sigma**2
    return float(min(1.0, 2 * min(chi2.cdf(squares, noise.size), chi2.sf(squares, noise.size))))


def rate_bounds(hits: Array, trials: int, level: float) -> tuple[Float, Float]:
    """Returns one-sided Clopper-Pearson bounds of rates of `hits`, each wrong with chance `level` at most.

    Raises:
        PrivacyError: hits do not lie between 0 and trials, or there is no trial.
    """
    from scipy.stats import beta

    if trials < 1 or hits.min() < 0 or hits.max() > trials:
        raise PrivacyError(f"{hits.tolist()} of {trials} trials are no rates")
    low = np.where(hits > 0, beta.ppf(level, np.maximum(hits, 1), trials - hits + 1), 0.0)
    high = np.where(hits < trials, beta.ppf(1 - level, hits + 1, np.maximum(trials - hits, 1)), 1.0)
    return low, high


def two_run(absent: Float, present: Float, level: float) -> float:
    """Returns a lower bound of mu from an attacker's scores of runs without and with one patient, [runs] each.

    The attacker says "present" above a threshold. It is chosen on the first half of the runs, by the bound it gives
    there, and judged on the second: no correction for many thresholds is needed. True and false positive rates get a
    Clopper-Pearson bound each at level / 2; then mu >= Phi^-1(TPR) - Phi^-1(FPR) for a mu-GDP mechanism (Dong, Roth and
    Su 2022). Higher scores are for "present"; `level` is the chance of error.

    Raises:
        PrivacyError: fewer than four runs of a kind, or a score is not a number.
    """
    if min(len(absent), len(present)) < 4 or not (np.isfinite(absent).all() and np.isfinite(present).all()):
        raise PrivacyError("an audit needs at least four runs of each kind, and scores that are numbers")
    (tuned_absent, absent), (tuned_present, present) = (np.array_split(scores, 2) for scores in (absent, present))
    pooled = np.concatenate([tuned_absent, tuned_present])
    thresholds = np.quantile(pooled, np.linspace(0.1, 0.9, 200))  # not the tails, where a chance find misleads most
    best = _lower_bounds(tuned_absent, tuned_present, thresholds, level).argmax()
    return float(_lower_bounds(absent, present, thresholds[[best]], level)[0])


def _lower_bounds(absent: Float, present: Float, thresholds: Float, level: float) -> Float:
    """Lower bounds of mu from each threshold."""
    from scipy.special import ndtri

    above = [len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right") for scores in (absent, present)]
    false = rate_bounds(above[0], len(absent), level / 2)[1]
    true = rate_bounds(above[1], len(present), level / 2)[0]
    inside = (true > 0) & (false < 1)
    mu = np.where(inside, ndtri(np.where(inside, true, 0.5)) - ndtri(np.where(inside, false, 0.5)), 0.0)
    return np.asarray(np.maximum(mu, 0.0))
