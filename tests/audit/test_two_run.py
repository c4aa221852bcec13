"""The auditor itself: on mechanisms of known privacy it never says more than the truth, and it says enough."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medtl_core.audit.two_run import chi_square, gaussian_epsilon, one_run, one_run_p, rate_bounds, two_run
from medtl_core.errors import PrivacyError
from medtl_core.rng import stream

DELTA = 1e-5


def epsilon_of(mu: float) -> float:
    return gaussian_epsilon(mu, DELTA)


def test_chi_square_is_scipys_and_right_as_often_as_it_says() -> None:
    below = stats.chi2.cdf(5.25 / 4, 3)
    assert chi_square(np.array([1.0, -2.0, 0.5]), 2.0) == pytest.approx(2 * min(below, 1 - below))
    rng = stream(1, "chi-square")
    found = np.array([chi_square(3.0 * rng.standard_normal(500), 3.0) for _ in range(1000)])
    assert 0.03 < (found < 0.05).mean() < 0.07
    for share in (0.97, 1.03):  # three percent are seen in 20,000 numbers
        assert chi_square(share * stream(2, "chi-square").standard_normal(20_000), 1.0) < 1e-6


@pytest.mark.parametrize(
    "ask",
    [
        lambda: chi_square(np.zeros(0), 1.0), lambda: chi_square(np.ones(3), 0.0),
        lambda: chi_square(np.ones(3), float("nan")), lambda: rate_bounds(np.array([3]), 2),
        lambda: rate_bounds(np.array([-1]), 2), lambda: rate_bounds(np.array([0]), 0),
        lambda: two_run(np.zeros(3), np.ones(9), DELTA),
        lambda: two_run(np.array([0.0, 1.0, np.nan, 2.0]), np.ones(9), DELTA),
        lambda: one_run_p(1.0, DELTA, 10, 12, 3),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(PrivacyError):
        ask()


@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.025, 0.05]))
def test_rates_are_clopper_pearson(trials: int, data: st.DataObject, level: float) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = rate_bounds(np.array([hits]), trials, level)
    exact = stats.binomtest(hits, trials).proportion_ci(1 - 2 * level, method="exact")
    assert low[0] == pytest.approx(exact.low, abs=1e-9)
    assert high[0] == pytest.approx(exact.high, abs=1e-9)


@pytest.mark.parametrize("mu", [0.0, 0.925, 2.0])
def test_two_runs_stay_below_the_truth(mu: float) -> None:
    rng = stream(3, "two-run", str(mu))
    found = [two_run(rng.standard_normal(600), rng.standard_normal(600) + mu, DELTA) for _ in range(200)]
    assert np.mean([bounds.mu > mu for bounds in found]) <= 0.05
    truth = epsilon_of(mu) if mu else 0.0
    assert np.mean([bounds.epsilon > truth for bounds in found]) <= 0.05


def test_two_runs_come_close_to_the_truth() -> None:
    rng = stream(4, "two-run")
    bounds = two_run(rng.standard_normal(100_000), rng.standard_normal(100_000) + 1.0, DELTA)
    assert bounds.runs == 50_000
    assert 0.95 < bounds.mu <= 1.0
    assert 0.9 * epsilon_of(1.0) < epsilon_of(bounds.mu) <= epsilon_of(1.0)
    assert 1.0 < bounds.epsilon < epsilon_of(bounds.mu)


def test_a_perfect_attack_is_limited_by_the_number_of_runs() -> None:
    bounds = two_run(np.zeros(2000), np.ones(2000), 0.0)
    none_of_1000 = 1 - 0.025 ** (1 / 1000)
    assert bounds.epsilon == pytest.approx(np.log((1 - none_of_1000) / none_of_1000))
    assert bounds.mu == pytest.approx(-2 * stats.norm.ppf(none_of_1000))


def naive_p(epsilon: float, delta: float, canaries: int, guesses: int, right: int) -> float:
    """The formula, term by term."""
    law = stats.binom(guesses, np.exp(epsilon) / (1 + np.exp(epsilon)))
    tail = sum(law.pmf(count) for count in range(right, guesses + 1))
    shares = [sum(law.pmf(count) for count in range(right - i, right)) / i for i in range(1, right + 1)]
    return float(min(tail + 2 * canaries * delta * max(shares, default=0.0), 1.0))


@pytest.mark.parametrize("right", [0, 1, 7, 12])
@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 0.0), (1.0, 1e-3), (3.0, 1e-2)])
def test_one_run_is_the_formula(epsilon: float, delta: float, right: int) -> None:
    assert one_run_p(epsilon, delta, 20, 12, right) == pytest.approx(naive_p(epsilon, delta, 20, 12, right))


def test_one_run_without_a_mistake_has_a_closed_form() -> None:
    member = np.arange(200) % 2 == 0
    truth = 0.05 ** (1 / 100)  # all 100 guesses right
    assert one_run(member.astype(float), member, 0.0) == pytest.approx(np.log(truth / (1 - truth)), abs=1e-5)


@pytest.mark.parametrize("sigma", [0.7, 2.0])
def test_one_run_stays_below_the_truth_and_grows_with_the_canaries(sigma: float) -> None:
    rng, means = stream(5, "one-run", str(sigma)), []
    for canaries in (60, 600):
        found = []
        for _ in range(60):
            member = rng.random(canaries) < 0.5
            found.append(one_run(member + sigma * rng.standard_normal(canaries), member, DELTA))
        assert np.mean(np.array(found) > epsilon_of(1 / sigma)) <= 0.05
        means.append(float(np.mean(found)))
    assert means[1] > 1.3 * means[0] > 0
