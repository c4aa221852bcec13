"""The auditor itself, on mechanisms of known privacy; then one patient through the real gate and planted bugs."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medtl_core.audit.trial import BUGS, Trial, bound_of, observed, trial_of
from medtl_core.audit.two_run import chi_square, gaussian_epsilon, rate_bounds, two_run
from medtl_core.errors import PrivacyError
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_private_tasks, find_method
from medtl_core.privacy.noise import insecure_entropy
from medtl_core.privacy.plan import Terms
from medtl_core.rng import stream
from tests.methods.private_made import CLASSES, WIDTH, hospital, map_arrays, with_patient

TERMS = Terms(4.0, 1e-5, hospitals=1, colluders=0, cases=20, width=WIDTH, classes=CLASSES, secure=False)
TASKS = {"private-mean": "private_statistics", "private-prototypes": "private_mean"}


def made(name: str, seed: int = 1) -> Trial:
    rng = stream(seed, "canary", name)
    site, arrays = hospital(20, rng), map_arrays(rng)
    task, method = all_private_tasks()[TASKS[name]], find_method(name)
    assert isinstance(method, PrivateMethod)
    sums = [task(one, arrays, {}) for one in (site, with_patient(site, "orthogonal", 1, rng))]
    shift = {name: array - sums[0].update.arrays[name] for name, array in sums[1].update.arrays.items()}
    return trial_of(method.plan(TERMS), 0, shift, insecure_entropy(seed))


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
        lambda: chi_square(np.ones(3), float("nan")), lambda: rate_bounds(np.array([3]), 2, 0.05),
        lambda: rate_bounds(np.array([-1]), 2, 0.05), lambda: rate_bounds(np.array([0]), 0, 0.05),
        lambda: two_run(np.zeros(3), np.ones(9), 0.05),
        lambda: two_run(np.array([0.0, 1.0, np.nan, 2.0]), np.ones(9), 0.05),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(PrivacyError):
        ask()


@settings(max_examples=40)
@given(st.integers(1, 400), st.data(), st.sampled_from([0.01, 0.025, 0.05]))
def test_rates_are_clopper_pearson(trials: int, data: st.DataObject, level: float) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = rate_bounds(np.array([hits]), trials, level)
    exact = stats.binomtest(hits, trials).proportion_ci(1 - 2 * level, method="exact")
    assert low[0] == pytest.approx(exact.low, abs=1e-9)
    assert high[0] == pytest.approx(exact.high, abs=1e-9)


@pytest.mark.parametrize("mu", [0.925, *(pytest.param(mu, marks=pytest.mark.slow) for mu in (0.0, 2.0))])
def test_two_runs_stay_below_the_truth(mu: float) -> None:
    rng = stream(3, "two-run", str(mu))
    bounds = [two_run(rng.standard_normal(600), rng.standard_normal(600) + mu, 0.05) for _ in range(100)]
    assert np.mean([bound > mu for bound in bounds]) <= 0.05


def test_two_runs_come_close_to_the_truth() -> None:
    rng = stream(4, "two-run")
    assert 0.95 < two_run(rng.standard_normal(100_000), rng.standard_normal(100_000) + 1.0, 0.05) <= 1.0
    assert gaussian_epsilon(0.925, 1e-5) == pytest.approx(4.0, abs=0.005)


def test_a_perfect_attack_is_limited_by_the_number_of_runs() -> None:
    none_of_1000 = 1 - 0.025 ** (1 / 1000)
    assert two_run(np.zeros(2000), np.ones(2000), 0.05) == pytest.approx(-2 * stats.norm.ppf(none_of_1000))


@pytest.mark.parametrize("name", TASKS)
def test_the_real_gate_stays_below_its_claim_and_close_to_it(name: str) -> None:
    trial = made(name)
    assert trial.exposure == pytest.approx(trial.claim)  # a patient as far out as can be
    assert 0.8 * trial.claim < bound_of([trial], 20_000, 0.05) < trial.claim


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_exceed_the_claim(bug: str, name: str) -> None:
    trial = BUGS[bug](made(name))
    assert bound_of([trial], 5_000, 0.05) > trial.claim


def test_scores_are_standard_without_the_patient_and_shifted_by_the_exposure_with() -> None:
    trial = made("private-mean")
    for present, mean in ((False, 0.0), (True, trial.exposure)):
        scores = observed(trial, present, 20_000)
        assert abs(scores.mean() - mean) < 5 / np.sqrt(20_000)
        assert chi_square(scores - mean, 1.0) > 1e-4
