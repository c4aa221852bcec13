"""What can be shown against a claim of privacy by watching it: bounds from below, each with its chance of error.

None of them proves a promise. A bound above the claim disproves it; a bound below says what this attack could not do.
Sources: Nasr et al., USENIX Security 2023 (two runs); Steinke, Nasr and Jagielski, NeurIPS 2023 (one run).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import PrivacyError
from medtl_core.heads.statistics import Float
from medtl_core.privacy.accounting import epsilon as epsilon_of
from medtl_core.privacy.plan import GaussianEvent
from medtl_core.values import Array

#: Chance that a bound lies above the truth.
LEVEL = 0.05
#: Thresholds that are tried on the first half of the scores.
_THRESHOLDS = 200
#: No bound on epsilon is looked for beyond this.
_HIGHEST = 100.0


@dataclass(frozen=True)
class Bounds:
    """Lower bounds, each at confidence 1 - `LEVEL`.

    Attributes:
        epsilon: whatever the mechanism is.
        mu: if it is a Gaussian one, which is then mu-GDP; sharper from the same runs.
        runs: of either kind that the bounds rest on.
    """

    epsilon: float
    mu: float
    runs: int


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Returns the epsilon of a mu-GDP mechanism at `delta`.

    Example:
        >>> round(gaussian_epsilon(0.925, 1e-5), 2)
        4.0
    """
    return epsilon_of([GaussianEvent(1.0 / mu)], delta) if mu > 0 else 0.0


def chi_square(noise: Array, sigma: float) -> float:
    """Returns the two-sided p-value of independent noise under the claim that its standard deviation is `sigma`.

    The sum of squares over sigma^2 is chi-square with as many degrees of freedom as there are numbers; 20,000 of them
    show a shortfall of 3 % at p near 1e-9.

    Args:
        noise: any shape, of mean 0.
        sigma: claimed, in the same units.

    Raises:
        PrivacyError: there is no noise to judge, or sigma is not positive.

    Example:
        >>> round(chi_square(np.array([1.0, -1.0]), 1.0), 4)
        0.7358
    """
    from scipy.stats import chi2

    if not noise.size or not sigma > 0:
        raise PrivacyError(f"{noise.size} numbers under sigma={sigma} cannot be judged")
    squares = float((np.asarray(noise, np.float64) ** 2).sum()) / sigma**2
    return float(min(1.0, 2 * min(chi2.cdf(squares, noise.size), chi2.sf(squares, noise.size))))


def rate_bounds(hits: Array, trials: int, level: float = LEVEL) -> tuple[Float, Float]:
    """Returns one-sided Clopper-Pearson bounds of rates, low and high, each wrong with probability `level` at most.

    Args:
        hits: int, any shape.
        trials: of each.
        level: chance of error of each bound.

    Raises:
        PrivacyError: hits do not lie between 0 and trials, or there is no trial.

    Example:
        >>> low, high = rate_bounds(np.array([0, 5, 10]), 10)
        >>> low.round(4).tolist(), high.round(4).tolist()
        ([0.0, 0.2224, 0.7411], [0.2589, 0.7776, 1.0])
    """
    from scipy.stats import beta

    hits = np.asarray(hits)
    if trials < 1 or hits.min() < 0 or hits.max() > trials:
        raise PrivacyError(f"{hits.tolist()} of {trials} trials are no rates")
    low = np.where(hits > 0, beta.ppf(level, np.maximum(hits, 1), trials - hits + 1), 0.0)
    high = np.where(hits < trials, beta.ppf(1 - level, hits + 1, np.maximum(trials - hits, 1)), 1.0)
    return low, high


def two_run(absent: Float, present: Float, delta: float, level: float = LEVEL) -> Bounds:
    """Returns what an attacker's scores of runs without and with one patient prove.

    The attacker says "present" above a threshold. It is chosen on the first half of the runs, by the bound it gives
    there, and judged on the second: no correction for many thresholds is needed. True and false positive rates get a
    Clopper-Pearson bound each at level / 2; then epsilon >= log((TPR - delta) / FPR), the same with answers swapped,
    and mu >= Phi^-1(TPR) - Phi^-1(FPR) (Dong, Roth and Su 2022).

    Args:
        absent: [runs] scores of runs without the patient.
        present: [runs] scores with, higher = the attacker thinks more of "present".
        delta: at which epsilon is meant.
        level: chance of error.

    Raises:
        PrivacyError: fewer than four runs of a kind, or a score is not a number.
    """
    if min(len(absent), len(present)) < 4 or not (np.isfinite(absent).all() and np.isfinite(present).all()):
        raise PrivacyError("an audit needs at least four runs of each kind, and scores that are numbers")
    halves = [np.array_split(np.asarray(scores, np.float64), 2) for scores in (absent, present)]
    (tuned_absent, judged_absent), (tuned_present, judged_present) = halves
    pooled = np.concatenate([tuned_absent, tuned_present])
    middle = np.quantile(pooled, np.linspace(0.1, 0.9, _THRESHOLDS))
    # a ratio of rates is largest far out; mu is best told in the middle, where a chance find misleads least
    tails = np.quantile(pooled, [*np.linspace(0.001, 0.1, 20), *np.linspace(0.9, 0.999, 20)])
    far = np.concatenate([middle, tails, np.sort(tuned_absent)[-20:], np.sort(tuned_present)[:20]])
    bounds = []
    for kind, thresholds in enumerate((far, middle)):
        best = _lower_bounds(tuned_absent, tuned_present, thresholds, delta, level)[kind].argmax()
        bounds.append(float(_lower_bounds(judged_absent, judged_present, thresholds[[best]], delta, level)[kind][0]))
    return Bounds(bounds[0], bounds[1], min(len(judged_absent), len(judged_present)))


def _lower_bounds(absent: Float, present: Float, thresholds: Float, delta: float, level: float) -> tuple[Float, Float]:
    """Lower bounds of epsilon and mu from each threshold."""
    from scipy.special import ndtri

    above = [len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right") for scores in (absent, present)]
    false = rate_bounds(above[0], len(absent), level / 2)[1]
    true = rate_bounds(above[1], len(present), level / 2)[0]
    ratio = np.maximum((true - delta) / false, (1.0 - false - delta) / (1.0 - true))
    inside = (true > 0) & (false < 1)
    mu = np.where(inside, ndtri(np.where(inside, true, 0.5)) - ndtri(np.where(inside, false, 0.5)), 0.0)
    return np.log(np.maximum(ratio, 1.0)), np.maximum(mu, 0.0)


def one_run_p(epsilon: float, delta: float, canaries: int, guesses: int, right: int) -> float:
    """Returns the chance, at most, of so many right guesses under (epsilon, delta)-DP.

    p = P[Bin(r, q) >= v] + 2 m delta max_i P[v - i <= Bin(r, q) < v] / i with q = e^epsilon / (1 + e^epsilon): m
    canaries were put in or left out by fair coins, r were guessed and v guessed right (theorem 5.2 of the paper).

    Raises:
        PrivacyError: the numbers do not nest as right <= guesses <= canaries.

    Example:
        >>> round(one_run_p(0.0, 0.0, 10, 10, 8), 6)
        0.054688
    """
    from scipy.stats import binom

    if not 0 <= right <= guesses <= canaries or canaries < 1:
        raise PrivacyError(f"{right} right of {guesses} guesses about {canaries} canaries cannot be")
    truth = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, truth))
    if not right or not delta:
        return min(tail, 1.0)
    below = binom.pmf(np.arange(right - 1, -1, -1), guesses, truth).cumsum()
    return min(tail + 2 * canaries * delta * float((below / np.arange(1, right + 1)).max()), 1.0)


def one_run(scores: Float, member: NDArray[np.bool_], delta: float, level: float = LEVEL) -> float:
    """Returns a lower bound of epsilon from ONE release with many canaries, each in or out by a fair coin.

    The half with the most telling scores is guessed, the highest quarter "in" and the lowest quarter "out": how many
    is fixed before the scores are seen. Adding or removing a canary must be the unit of the claim.

    Args:
        scores: [m], higher = more likely in.
        member: bool [m], the coins.
        delta: at which epsilon is meant.
        level: chance of error.
    """
    from scipy.optimize import brentq

    each = max(len(scores) // 4, 1)
    order = np.argsort(scores, kind="stable")
    right = int(member[order[-each:]].sum() + (~member[order[:each]]).sum())
    counts = (len(scores), 2 * each, right)

    def excess(epsilon: float) -> float:
        return one_run_p(epsilon, delta, *counts) - level

    if excess(0.0) > 0:
        return 0.0
    return max(float(brentq(excess, 0.0, _HIGHEST, xtol=1e-6)) - 1e-6, 0.0)  # never above the root
