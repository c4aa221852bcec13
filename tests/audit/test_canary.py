"""One patient through the real gate: below the claim as it is, above it with every planted bug."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.audit.canary import BUGS, Trial, bounds_of, observed, trial_of
from medtl_core.audit.two_run import Bounds, chi_square, gaussian_epsilon, one_run
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import find_method
from medtl_core.methods.private.noisy_sums import private_statistics
from medtl_core.methods.private.prototypes import private_mean
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import insecure_entropy, system_entropy
from medtl_core.privacy.plan import Terms
from medtl_core.rng import stream
from medtl_core.values import Update
from tests.methods.private_made import CLASSES, WIDTH, hospital, map_arrays, with_patient

TERMS = Terms(4.0, 1e-5, hospitals=1, colluders=0, cases=20, width=WIDTH, classes=CLASSES, secure=False)
TASKS = {"private-mean": (private_statistics, {"gram": False}), "private-prototypes": (private_mean, {})}


def method_of(name: str) -> PrivateMethod:
    method = find_method(name)
    assert isinstance(method, PrivateMethod)
    return method


def made(name: str, seed: int = 1) -> Trial:
    rng = stream(seed, "canary", name)
    site, arrays = hospital(20, rng), map_arrays(rng)
    task, config = TASKS[name]
    sums = [task(one, arrays, config) for one in (site, with_patient(site, "orthogonal", 1, rng))]
    return trial_of(method_of(name).plan(TERMS), 0, sums[0], sums[1], insecure_entropy(seed))


def claimed(trial: Trial) -> float:
    return gaussian_epsilon(trial.claim, TERMS.delta)


def shown(bounds: Bounds) -> float:
    return gaussian_epsilon(bounds.mu, TERMS.delta)


@pytest.mark.parametrize("name", TASKS)
def test_the_real_gate_stays_below_its_claim(name: str) -> None:
    trial = made(name)
    bounds = bounds_of([trial], 20_000, TERMS.delta)
    assert trial.exposure == pytest.approx(trial.claim)  # a patient as far out as can be
    assert 0.75 * claimed(trial) < shown(bounds) < claimed(trial)
    assert bounds.epsilon < claimed(trial)


def test_the_real_gate_is_right_nineteen_times_in_twenty() -> None:
    above = [bounds_of([made("private-mean", seed)], 500, TERMS.delta).mu > 0.925 for seed in range(60)]
    assert np.mean(above) <= 0.05


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_exceed_the_claim(bug: str, name: str) -> None:
    trial = BUGS[bug](made(name))
    assert shown(bounds_of([trial], 5_000, TERMS.delta)) > claimed(trial)


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bugs_exceed_the_claim_of_any_mechanism(bug: str) -> None:
    trial = BUGS[bug](made("private-mean"))
    assert bounds_of([trial], 150_000, TERMS.delta).epsilon > claimed(trial)


def test_two_releases_with_fresh_noise_stay_below_the_claim_of_two() -> None:
    trial = replace(made("private-mean"), releases=2)
    assert trial.claim == pytest.approx(2**0.5 * made("private-mean").claim)
    assert 0.7 * claimed(trial) < shown(bounds_of([trial], 20_000, TERMS.delta)) < claimed(trial)


def test_scores_are_standard_without_the_patient_and_shifted_by_the_exposure_with() -> None:
    trial = made("private-mean")
    for present, mean in ((False, 0.0), (True, trial.exposure)):
        scores = observed(trial, present, 20_000)
        assert abs(scores.mean() - mean) < 5 / np.sqrt(20_000)
        assert chi_square(scores - mean, 1.0) > 1e-4


def test_a_hospitals_own_entropy_has_the_claimed_size() -> None:
    plan = made("private-mean").plan
    zeros = Bounded(Update({"counts": np.zeros(CLASSES), "sums": np.zeros((CLASSES, 7000))}), plan.steps[0].sensitivity)
    whole = unscaled(noised(zeros, plan, 0, system_entropy()), plan.steps[0])
    assert chi_square(whole["sums"], plan.steps[0].noise["sums"]) > 1e-7


@pytest.mark.parametrize("noisy", [True, False])
def test_one_run_through_the_gate(noisy: bool) -> None:
    terms = replace(TERMS, epsilon=3.0)
    plan = method_of("private-mean").plan(terms)
    member = stream(8, "coins").random(1000) < 0.5
    sums = Bounded(Update({"counts": np.zeros(10), "sums": member.reshape(10, 100) * 1.0}), plan.steps[0].sensitivity)
    released = unscaled(noised(sums, plan, 0, insecure_entropy(9)), plan.steps[0])["sums"] if noisy else member * 1.0
    bound = one_run(released.ravel(), member, terms.delta)
    assert 0.3 < bound < 3.0 if noisy else bound > 3.0
