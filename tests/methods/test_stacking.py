"""Stacked ensembles: the federated weights are the pooled super learner's, and a mixture is a mean of probabilities."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.evaluation.calibration import softmax
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import read_methods, unpack
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import choose, fold_of, held_out
from medtl_core.heads.statistics import collect
from medtl_core.methods.mixture import Mixture
from medtl_core.methods.simplex import Point
from medtl_core.methods.stacking import fitted_weights, members_of
from medtl_core.values import ABSENT
from tests.memory import DirectHospitals

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 2), ("7", 2, 4), ("10", 4, 6)))


def study(hospitals: DirectHospitals, methods: str) -> Study:
    return Study(hospitals, PROBLEM, Settings(), read_methods(methods))


def pooled(hospitals: DirectHospitals) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    sites = list(hospitals.sites.values())
    fold = np.concatenate([fold_of(site.patients, site.label, 5, site.seed) for site in sites])
    return np.concatenate([site.values for site in sites]), np.concatenate([site.label for site in sites]), fold


def out_of_fold(heads: np.ndarray, values: np.ndarray, label: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Probability [M, n] of the true class by the head of a case's own fold; heads [F, M, C, d + 1]."""
    found = np.empty((heads.shape[1], len(label)))
    for row, (value, place, one) in enumerate(zip(values, label, fold, strict=True)):
        logits = heads[one, :, :, :-1] @ value + heads[one, :, :, -1]
        found[:, row] = softmax(logits)[:, place]
    return np.maximum(found, np.exp(-20.0))


def test_members_equal_those_of_the_pooled_cases(hospitals: DirectHospitals) -> None:
    members = members_of(study(hospitals, "ensemble-stacked"))
    runs = ["4", "4+7", "7", "7+10", "10"]
    assert sorted(members) == sorted([*FAMILIES, *(f"discriminant@{taps}" for taps in runs)])
    values, label, fold = pooled(hospitals)
    family = FAMILIES["discriminant"]
    heads = np.stack([family.heads(collect(values[fold != f, 2:], label[fold != f], 3)) for f in range(5)])
    choice = choose(
        held_out(heads.astype(np.float32), values[:, 2:], label, fold).arrays, np.bincount(label).astype(float)
    )
    direct = family.heads(collect(values[:, 2:], label, 3))[choice.index] * choice.temperature
    found = members["discriminant@7+10"].affine
    assert not found[:, :2].any()
    np.testing.assert_allclose(found[:, 2:], direct, rtol=1e-8, atol=1e-10)
    inside = members["discriminant@7+10"].without[:, :, 2:]
    np.testing.assert_allclose(inside, heads[:, choice.index] * choice.temperature, rtol=1e-8, atol=1e-10)


def test_weights_are_the_pooled_super_learners(hospitals: DirectHospitals) -> None:
    made = study(hospitals, "ensemble-stacked")
    members = members_of(made)
    stack = np.stack([member.without for member in members.values()], axis=1)
    point, rounds = fitted_weights(made, stack, "w")
    assert point.gap <= 1e-5
    assert rounds <= 8
    values, label, fold = pooled(hospitals)
    likelihood = out_of_fold(stack.astype(np.float32).astype(float), values, label, fold)
    counts = np.bincount(label)
    case = 1.0 / counts[label] / 3
    count = len(likelihood)
    best = minimize(
        lambda w: -case @ np.log(w @ likelihood), np.full(count, 1 / count), method="SLSQP", bounds=[(1e-9, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert point.loss == pytest.approx(-case @ np.log(point.weights @ likelihood), abs=1e-6)
    assert point.loss <= best.fun + 1e-5


def test_clearly_worse_members_are_dropped_and_told(hospitals: DirectHospitals) -> None:
    made = study(hospitals, "ensemble-equal,ensemble-stacked")
    members = members_of(made)
    best = max(member.choice.balanced_accuracy for member in members.values())
    worse = {name for name, member in members.items() if best - member.choice.balanced_accuracy > 0.03}
    equal, stacked = (made.outcome(method) for method in made.methods)
    assert set(equal.facts["dropped"]) == worse != set()
    assert set(equal.facts["weights"].values()) == {1 / (len(members) - len(worse))}
    assert set(stacked.facts["weights"]) == set(members) - worse
    assert stacked.facts["cv_gain"] >= -1e-9
    assert json.loads(json.dumps(stacked.facts)) == stacked.facts
    tasks = [request.task for request in hospitals.asked]
    assert tasks.count("statistics") == tasks.count("validate") == 1
    assert tasks.count("stacked_losses") == stacked.facts["rounds"]


def test_fedavg_can_be_a_member_and_shares_the_training_of_auto(hospitals: DirectHospitals) -> None:
    alone = study(hospitals, "fedavg-20-adjusted,ensemble-stacked-fedavg")
    fedavg, outcome = (alone.outcome(method) for method in alone.methods)
    members = members_of(alone, trained=True)
    head, choice = members["fedavg-20-adjusted"].affine, members["fedavg-20-adjusted"].choice
    direct = np.concatenate([fedavg.heads[""].weight, fedavg.heads[""].bias[:, None]], axis=1) * choice.temperature
    np.testing.assert_allclose(head, direct, rtol=1e-3, atol=1e-5)  # the fold heads train along, in float32
    assert "fedavg-20-adjusted" in {*outcome.facts["members"], *outcome.facts["dropped"]}
    assert {"moments", "fit-fedavg", "ensemble-stacked-fedavg"} <= outcome.bill.keys()
    hospitals.asked.clear()
    both = study(hospitals, "auto,ensemble-stacked-fedavg")
    found = [both.outcome(method) for method in both.methods][1]
    assert [request.task for request in hospitals.asked].count("fit") == 20
    assert "fit-fedavg" in found.bill
    again = members_of(both, trained=True)["fedavg-20-adjusted"].affine
    np.testing.assert_allclose(again, head, rtol=1e-3, atol=1e-5)


def test_one_member_has_all_the_weight(hospitals: DirectHospitals) -> None:
    made = study(hospitals, "ensemble-stacked")
    ridge = members_of(made)["ridge"]
    made._kept["ensemble-members"] = {"ridge": ridge}
    mixture = made.outcome(made.methods[0]).heads[""]
    values = hospitals.sites["a"].values
    logits = values @ ridge.affine[:, :-1].T + ridge.affine[:, -1]
    np.testing.assert_allclose(softmax(mixture.logits(values)), softmax(logits), atol=1e-12)


def mixture() -> Mixture:
    heads = np.random.default_rng(0).normal(size=(3, 2, 5))
    return Mixture(("a", "b", "c"), heads, np.array([0.5, 0.0, 0.5]), ("x", "y"), "features", {"k": 1})


def test_a_mixture_is_the_mean_of_probabilities_and_comes_back() -> None:
    made, values = mixture(), np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    parts = [softmax(logits) for logits in made.of_members(values).values()]
    np.testing.assert_allclose(np.exp(made.logits(values)), (parts[0] + parts[2]) / 2, atol=1e-12)
    packed = made.pack()
    back = unpack("mixture", packed)
    assert isinstance(back, Mixture)
    assert (back.members, back.facts) == (made.members, made.facts)
    np.testing.assert_array_equal(back.logits(values), made.logits(values))


def test_a_damaged_mixture_is_refused() -> None:
    packed = mixture().pack()

    def other(arrays: dict[str, np.ndarray], **config: str) -> Mixture:
        return Mixture.unpack(replace(packed, arrays={**packed.arrays, **arrays}, config={**packed.config, **config}))

    with pytest.raises(WeightsError, match="sum to 1"):
        other({"weights": np.array([0.5, 0.5, 0.5])})
    with pytest.raises(WeightsError, match="do not fit"):
        other({"weights": np.array([0.5, 0.5])})
    with pytest.raises(WeightsError, match="do not fit"):
        other({"heads": np.zeros((3, 3, 5))})
    with pytest.raises(WeightsError, match="do not fit"):
        other({}, members="[")
    with pytest.raises(WeightsError, match="do not fit"):
        Mixture.unpack(replace(packed, arrays={"weights": packed.arrays["weights"]}))


def test_a_member_that_never_saw_a_class_leaves_it_to_the_others() -> None:
    made = mixture()
    made.heads[0, 1, :-1], made.heads[0, 1, -1] = 0.0, ABSENT
    assert np.isfinite(made.logits(np.zeros((2, 4)))).all()


def test_a_gap_says_what_is_left_to_gain() -> None:
    assert Point(np.array([1.0]), 0.3, np.array([-1.0]), np.eye(1)).gap == 0.0
