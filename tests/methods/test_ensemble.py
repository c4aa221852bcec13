"""Ensembles: weights on the simplex, the least loss, no case that chose its own weights."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from medtl_core.evaluation.calibration import class_balance, softmax
from medtl_core.evaluation.scores import balanced_accuracy, select
from medtl_core.methods import cross_fitting
from medtl_core.methods.cross_fitting import combine, cross_fitted, drop_rule, equal, validation_weighted
from medtl_core.values import ABSENT, Scores

FEW = settings(max_examples=20, deadline=None)


def draw(gains: Sequence[float], seed: int, cases: int = 240, classes: int = 3) -> dict[str, Scores]:
    """Members of rising or falling skill on the same cases; two cases a patient."""
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=cases)
    site, group = np.array(["a", "b"])[np.arange(cases) % 2], np.arange(cases) // 2
    members = {}
    for number, skill in enumerate(gains):
        logits = rng.normal(size=(cases, classes))
        logits[np.arange(cases), label] += skill
        members[f"m{number}"] = Scores(logits, label, site, group)
    return members


def balanced_loss(members: Sequence[Scores], weights: np.ndarray) -> float:
    label = members[0].label
    own = np.stack([softmax(member.logits)[np.arange(len(label)), label] for member in members])
    return float(-class_balance(label, members[0].logits.shape[1]) @ np.log(weights @ own))


@FEW
@given(seed=st.integers(0, 1000), gains=st.lists(st.floats(-1, 3), min_size=1, max_size=4))
def test_weights_lie_on_the_simplex_and_have_the_least_loss(seed: int, gains: list[float]) -> None:
    members = list(draw(gains, seed).values())
    weights = validation_weighted(members)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1.0)
    best = minimize(
        lambda w: balanced_loss(members, w), equal(members), method="SLSQP", bounds=[(1e-9, 1)] * len(members),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-12},
    )  # fmt: skip
    assert balanced_loss(members, weights) <= best.fun + 2e-6


def test_few_cases_give_equal_weights() -> None:
    members = list(draw([0.0, 3.0], 0, cases=199).values())
    assert validation_weighted(members).tolist() == [0.5, 0.5]
    assert validation_weighted(list(draw([0.0, 3.0], 0, cases=200).values()))[1] > 0.9


def test_members_that_never_saw_a_class_are_weighed_by_the_others() -> None:
    members = list(draw([1.0, 1.0, 1.0], 3).values())
    for member in members:
        member.logits[:, 2] = ABSENT  # no member knows class 2
    members[0].logits[:, 1] = ABSENT
    weights = validation_weighted(members)
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1.0)
    assert np.isfinite(combine(members, weights).logits).all()


@FEW
@given(seed=st.integers(0, 1000), shares=st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any))
def test_the_mean_is_of_probabilities(seed: int, shares: list[int]) -> None:
    members = list(draw([1.0] * len(shares), seed, cases=12).values())
    weights = np.array(shares) / sum(shares)
    exact = sum(w * softmax(member.logits) for w, member in zip(weights, members, strict=True))
    np.testing.assert_allclose(np.exp(combine(members, weights).logits), exact, atol=1e-12)


def test_clearly_worse_members_are_dropped() -> None:
    assert drop_rule({"a": 0.60, "b": 0.57, "c": 0.56, "d": None}) == ("c",)
    assert drop_rule({"a": None}) == ()
    assert drop_rule({}) == ()


def test_no_case_chooses_its_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoiling the labels of one half of the patients leaves that half's ensemble as it was."""
    members = draw([2.0, 1.0, 0.0], 2, cases=600)
    side, group = cross_fitting._halves(members["m0"], 0), members["m0"].group
    assert not set(group[side == 0]) & set(group[side == 1])
    before, _ = cross_fitted(members)
    wrong, flip = members["m0"].label.copy(), side == 0
    wrong[flip] = np.array([1, 2, 0])[wrong[flip]]
    spoiled = {name: Scores(s.logits, wrong, s.site, s.group) for name, s in members.items()}
    monkeypatch.setattr(
        cross_fitting, "_halves", lambda scores, seed: side
    )  # the cut follows the labels: hold it fixed
    after, _ = cross_fitted(spoiled)
    np.testing.assert_array_equal(after.logits[flip], before.logits[flip])
    assert not np.array_equal(after.logits[~flip], before.logits[~flip])


def test_cross_fitting_drops_and_tells() -> None:
    members = draw([2.0, 1.9, -1.0], 5, cases=800)
    scores, facts = cross_fitted(members)
    assert facts["dropped"] == ["m2"]
    assert facts["weights"]["m2"] == 0.0
    assert sum(facts["weights"].values()) == pytest.approx(1.0)
    assert json.loads(json.dumps(facts)) == facts
    assert balanced_accuracy(scores) > max(balanced_accuracy(member) or 0 for member in members.values())
    np.testing.assert_array_equal(scores.label, members["m0"].label)
    for cases in (1, 2, 3):  # a handful is no error
        assert np.isfinite(cross_fitted(draw([1.0, 0.5], 0, cases=cases))[0].logits).all()


@FEW
@given(seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_cases_changes_no_weight(seed: int, data: st.DataObject) -> None:
    members = draw([1.0, 0.9], seed, cases=30)
    order = np.array(data.draw(st.permutations(range(30))))
    shuffled = {name: select(member, order) for name, member in members.items()}
    straight, mixed = cross_fitted(members)[0], cross_fitted(shuffled)[0]
    np.testing.assert_array_equal(straight.logits[order], mixed.logits)
