"""One patient through the real gate: below the claim as it is, above it with every planted bug."""

import numpy as np
import pytest

from medtl_core.audit.trial import BUGS, Trial, bound_of, observed, trial_of
from medtl_core.audit.two_run import chi_square
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_private_tasks, find_method
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import noised, unscaled
from medtl_core.privacy.noise import insecure_entropy, system_entropy
from medtl_core.privacy.plan import Terms
from medtl_core.rng import stream
from medtl_core.values import Update
from tests.methods.private_made import CLASSES, WIDTH, hospital, map_arrays, with_patient

TERMS = Terms(4.0, 1e-5, hospitals=1, colluders=0, cases=20, width=WIDTH, classes=CLASSES, secure=False)
TASKS = {"private-mean": "private_statistics", "private-prototypes": "private_mean"}


def made(name: str, seed: int = 1) -> Trial:
    rng = stream(seed, "canary", name)
    site, arrays = hospital(20, rng), map_arrays(rng)
    task, method = all_private_tasks()[TASKS[name]], find_method(name)
    assert isinstance(method, PrivateMethod)
    sums = [task(one, arrays, {}) for one in (site, with_patient(site, "orthogonal", 1, rng))]
    return trial_of(method.plan(TERMS), 0, sums[0], sums[1], insecure_entropy(seed))


@pytest.mark.parametrize("name", TASKS)
def test_the_real_gate_stays_below_its_claim_and_close_to_it(name: str) -> None:
    trial = made(name)
    assert trial.exposure == pytest.approx(trial.claim)  # a patient as far out as can be
    assert 0.8 * trial.claim < bound_of([trial], 20_000, 0.05) < trial.claim


def test_the_real_gate_is_right_nineteen_times_in_twenty() -> None:
    above = [bound_of([made("private-mean", seed)], 500, 0.05) > 0.925 for seed in range(60)]
    assert np.mean(above) <= 0.05


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


def test_a_hospitals_own_entropy_has_the_claimed_size() -> None:
    plan = made("private-mean").plan
    zeros = Bounded(Update({"counts": np.zeros(CLASSES), "sums": np.zeros((CLASSES, 7000))}), plan.steps[0].sensitivity)
    whole = unscaled(noised(zeros, plan, 0, system_entropy()), plan.steps[0])
    assert chi_square(whole["sums"], plan.steps[0].noise["sums"]) > 1e-7
