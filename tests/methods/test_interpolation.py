"""Between local and federated: the pulled head against other solvers, the choice of the place, and its limits."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.federation.method import Candidates
from medtl_core.federation.registry import answer, find_method
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.linear import with_bias
from medtl_core.heads.logistic import class_weights, loss_and_gradient
from medtl_core.heads.statistics import collect
from medtl_core.methods.personal.interpolated import PULLS
from medtl_core.methods.personal.pulled import nearest, pulled
from tests.memory import make_site
from tests.methods.personal_sites import finished, judged, last_asked, with_state

SITE = make_site("a", 24)
INPUTS = with_bias(SITE.values, SITE.values.mean(axis=0), SITE.values.std(axis=0))


@pytest.mark.parametrize("pull", [3.0, 0.3, 0.03])
def test_around_zero_it_is_ridge_logistic_regression(pull: float) -> None:
    from sklearn.linear_model import LogisticRegression

    keep = np.arange(24) != 0  # uneven classes
    inputs, label = INPUTS[keep], SITE.label[keep]
    ours = pulled(np.zeros((3, 7)), inputs, label, (pull,))[0]
    oracle = LogisticRegression(
        C=1 / (pull * len(label)), class_weight="balanced", fit_intercept=False, tol=1e-10, max_iter=10_000
    )
    oracle.fit(inputs, label)
    np.testing.assert_allclose(ours - ours.mean(axis=0), oracle.coef_ - oracle.coef_.mean(axis=0), atol=2e-4)


def test_around_a_head_it_minimises_the_loss_and_the_distance() -> None:
    rng = np.random.default_rng(1)
    centre = rng.standard_normal((3, 7))
    weight = class_weights(np.bincount(SITE.label, minlength=3).astype(float)) / 24
    for pull, found in zip(PULLS[1:], pulled(centre, INPUTS, SITE.label, PULLS[1:]), strict=True):
        slope = loss_and_gradient(found, INPUTS, SITE.label, weight)[1] + pull * (found - centre)
        assert np.abs(slope).max() < 1e-3


def test_more_features_than_cases_take_the_same_way() -> None:
    wide = np.concatenate([np.random.default_rng(0).standard_normal((5, 40)), np.ones((5, 1))], axis=1)
    label = np.array([0, 1, 0, 1, 1])
    (found,) = pulled(np.zeros((2, 41)), wide, label, (0.5,))
    slope = loss_and_gradient(found, wide, label, class_weights(np.array([2.0, 3.0])) / 5)[1] + 0.5 * found
    assert np.abs(slope).max() < 1e-4
    assert np.linalg.matrix_rank(np.concatenate([wide, found])) == 5  # in the span of the cases


def test_no_case_moves_nothing() -> None:
    centre = np.ones((3, 7))
    np.testing.assert_array_equal(pulled(centre, INPUTS[:0], SITE.label[:0], (1.0,)), centre[None])


@given(st.lists(st.floats(0, 5), min_size=2, max_size=12), st.floats(0.01, 1), st.booleans())
def test_the_place_nearest_the_federated_head_is_taken_unless_another_is_clearly_better(
    costs: list[float], gain: float, better: bool
) -> None:
    cost = np.array(costs)
    weight = np.full(len(cost), 1 / len(cost))
    assert nearest(np.stack([cost, cost]), weight) == 0
    # a gain that is the same for every case has no standard error
    other = cost - gain if better else cost + gain
    assert nearest(np.stack([cost, other]), weight) == int(better)


def test_a_gain_within_one_standard_error_is_none() -> None:
    federated = np.array([1.0, 1.0, 1.0, 1.0])
    weight = np.full(4, 0.25)
    unsure, sure = np.array([0.0, 1.0, 1.0, 1.9]), np.array([0.5, 0.6, 0.4, 0.5])
    assert nearest(np.stack([federated, unsure]), weight) == 0
    assert nearest(np.stack([federated, sure]), weight) == 1
    assert nearest(np.array([[1.0], [0.0]]), np.ones(1)) == 0  # one case has no spread


def test_a_hospital_judges_each_case_by_a_head_made_without_it(tmp_path: Path) -> None:
    made = finished(tmp_path, "interpolated")
    request = last_asked(made, "pulled_finish")
    site, (mean, scale) = with_state(tmp_path)[0], (request.arrays[name].astype(float) for name in ("mean", "scale"))
    inputs, raw, fold = with_bias(site.values, mean, scale), request.arrays["heads"].astype(float), site.fold(5)
    weight = class_weights(np.bincount(site.label, minlength=3).astype(float)) / len(site.label)
    told = made.outcome(find_method("interpolated")).facts["hospitals"]["a"]
    costs = np.zeros(len(site.label))
    for number in range(5):
        head = np.c_[raw[1 + number, :, :-1] * scale, raw[1 + number, :, -1] + raw[1 + number, :, :-1] @ mean]
        seen = fold != number
        if told["pull"] < 1e9:
            head = pulled(head, inputs[seen], site.label[seen], tuple(p for p in PULLS if p >= told["pull"]))[-1]
        logits = inputs[~seen] @ head.T
        costs[~seen] = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), site.label[~seen]]
    np.testing.assert_allclose(told["cv-loss"], costs @ weight[site.label], rtol=1e-6)


def test_the_heads_it_chooses_with_know_no_case_of_the_fold(tmp_path: Path) -> None:
    made = finished(tmp_path, "interpolated")
    last = last_asked(made, "pulled_finish")
    fold = 2
    kept = [
        (site.values[own != fold], site.label[own != fold]) for site in with_state(tmp_path) for own in [site.fold(5)]
    ]
    values, label = (np.concatenate(parts) for parts in zip(*kept, strict=True))
    choice = made.solved(Candidates("discriminant")).choice
    direct = FAMILIES["discriminant"].heads(collect(values, label, 3))[choice.index] * choice.temperature
    np.testing.assert_allclose(last.arrays["heads"][1 + fold], direct, rtol=1e-4, atol=1e-4)


def test_a_hospital_of_one_class_or_one_case_stays_at_the_federated_head(tmp_path: Path) -> None:
    made = finished(tmp_path, "interpolated")
    told = made.outcome(find_method("interpolated")).facts["hospitals"]
    assert {told[name]["pull"] for name in "ce"} == {1e9}
    plain = made.outcome(find_method("discriminant")).heads[""]
    heads = np.c_[plain.weight, plain.bias][None].astype(np.float32)
    site = with_state(tmp_path)[2]
    federated = answer("evaluate", site, {"heads": heads}, {}).update.arrays
    np.testing.assert_array_equal(judged(site, "interpolated")["confusion"], federated["confusion"])


def test_the_floor_is_the_local_head_on_own_cases(tmp_path: Path) -> None:
    made = finished(tmp_path, "personal-local,local")
    heads = made.outcome(find_method("local")).heads
    for site in with_state(tmp_path):
        own = heads[site.name]
        alone = answer("evaluate", site, {"heads": np.c_[own.weight, own.bias][None]}, {}).update.arrays
        np.testing.assert_array_equal(judged(site, "personal-local")["confusion"], alone["confusion"])
