"""What releases cost together, exact: Gaussian releases of all patients.

They compose exactly: each with noise multiplier s is (1/s)-GDP, several are mu-GDP with mu^2 = sum 1/s^2, and
delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) (Balle and Wang, ICML 2018, theorem 8; Dong,
Roth and Su, JRSS-B 2022). No mechanism here samples patients, and a sampled release is refused: it has another price.
"""

import math
from collections.abc import Sequence

from medtl_core.errors import PrivacyError
from medtl_core.privacy.plan import GaussianEvent


def default_delta(cases: int) -> float:
    """Returns min(1e-5, 1 / (10 cases)), below which a promise to each of so many patients means something.

    Example:
        >>> default_delta(90), default_delta(1_000_000)
        (1e-05, 1e-07)
    """
    return min(1e-5, 1.0 / (10.0 * max(cases, 1)))


def delta_of(epsilon: float, mu: float) -> float:
    """Returns the smallest delta for which a mu-GDP mechanism is (epsilon, delta)-DP.

    Args:
        epsilon: at least 0.
        mu: sensitivity over standard deviation; infinity = no noise.

    Example:
        >>> round(delta_of(1.0, 0.5), 6)
        0.00683
    """
    from scipy.special import log_ndtr

    if not mu > 0:
        return 0.0
    if math.isinf(mu):
        return 1.0
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    # the difference of two near-equal numbers, in logs: e^first - e^second
    return math.exp(first) * -math.expm1(min(second - first, 0.0))


def most_right(epsilon: float, delta: float) -> float:
    """Returns how often anybody can be right about who is in, as a share, who guesses at even odds.

    At most (e^epsilon + delta) / (1 + e^epsilon) for any (epsilon, delta)-DP mechanism (Kairouz, Oh and Viswanath,
    ICML 2015); this is Phi(mu / 2), which is less and holds for Gaussian noise (Dong, Roth and Su, JRSS-B 2022).

    Example:
        >>> [round(most_right(epsilon, 1e-5), 3) for epsilon in (1.0, 4.0, 8.0)]
        [0.553, 0.678, 0.798]
    """
    from scipy.special import ndtr

    return float(ndtr(mu_for(epsilon, delta) / 2))


def mu_for(epsilon: float, delta: float) -> float:
    """Returns the largest mu for which a mu-GDP mechanism is (epsilon, delta)-DP.

    Raises:
        PrivacyError: epsilon is not positive and finite, or delta not in (0, 1).

    Example:
        >>> round(mu_for(4.0, 1e-5), 3)
        0.925
    """
    from scipy.optimize import brentq

    _check_promise(epsilon, delta)

    def excess(log_mu: float) -> float:
        return _log_ratio(epsilon, math.exp(log_mu), delta)

    try:
        highest = math.log(max(1e3, 10.0 * math.sqrt(epsilon)))  # mu of a large epsilon is about sqrt(2 epsilon)
        root = math.exp(float(brentq(excess, math.log(1e-6), highest, xtol=1e-13, rtol=1e-13)))
    except (ArithmeticError, ValueError) as error:
        raise PrivacyError(f"epsilon={epsilon:g} cannot be priced at delta {delta:g}; take one between") from error
    return root * (1 - 1e-9)  # on the safe side of the root, also after a split into many releases


def epsilon(events: Sequence[GaussianEvent], delta: float) -> float:
    """Returns the epsilon of all events together at `delta`, never below the truth.

    Args:
        events: in any order; none = 0.
        delta: in (0, 1).

    Raises:
        PrivacyError: an event or delta is not valid, or the formula gave no number.

    Example:
        >>> round(epsilon([GaussianEvent(2.0), GaussianEvent(2.0)], 1e-5), 3)
        2.943
    """
    _check_promise(1.0, delta)
    mu = mu_of(events)
    total = 0.0 if delta_of(0.0, mu) <= delta else _epsilon_of(mu, delta)
    if not (math.isfinite(total) and total >= 0.0):
        raise PrivacyError(f"the accountant gave {total} for {len(events)} event(s); nothing may be released")
    return total


def mu_of(events: Sequence[GaussianEvent]) -> float:
    """Returns mu of events together.

    Raises:
        PrivacyError: one has no noise, is of sampled patients, or does not happen a whole number of times.
    """
    for event in events:
        multiplier, count = event.noise_multiplier, event.count
        if not (multiplier > 0 and math.isfinite(multiplier)):
            raise PrivacyError(f"noise multiplier {multiplier} must be positive: without noise nothing is private")
        if event.sampling != 1.0:
            raise PrivacyError(f"sampling rate {event.sampling}: only releases of all patients (rate 1) can be priced")
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise PrivacyError(f"an event happens {count} times; it must be a whole number, not negative")
    return math.sqrt(sum(event.count / event.noise_multiplier**2 for event in events))


def _check_promise(epsilon: float, delta: float) -> None:
    if not (epsilon > 0 and math.isfinite(epsilon)):
        raise PrivacyError(f"epsilon={epsilon} must be a positive number")
    if not 0 < delta < 1.0:
        raise PrivacyError(f"delta={delta} must lie in (0, 1)")


def _epsilon_of(mu: float, delta: float) -> float:
    from scipy.optimize import brentq

    high = mu * mu / 2 + mu * math.sqrt(2 * math.log(1 / delta)) + 1.0  # Gaussian tail: delta is met here
    root = brentq(lambda epsilon: _log_ratio(epsilon, mu, delta), 0.0, high, xtol=1e-12, rtol=1e-13)
    return float(root) * (1 + 1e-12)


def _log_ratio(epsilon: float, mu: float, delta: float) -> float:
    """Log of the delta that mu costs at epsilon, over the one that is allowed."""
    return math.log(max(delta_of(epsilon, mu), 1e-300)) - math.log(delta)
