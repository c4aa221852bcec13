"""Stacked ensembles: the federated weights are the pooled super learner's, and a mixture is a mean of probabilities."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.evaluation.calibration import softmax
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import choose, fold_of, held_out
from medtl_core.heads.statistics import collect
from medtl_core.methods import cross_fitting
from medtl_core.methods.models.mixture import Mixture
from medtl_core.values import ABSENT
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM

RUNS = {"4": (0, 2), "4+7": (0, 4), "7": (2, 4), "7+10": (2, 6), "10": (4, 6)}


def outcomes(hospitals: MemoryHospitals, methods: str) -> list[Outcome]:
    study = Study(hospitals, PROBLEM, Settings(), read_methods(methods))
    return [study.outcome(method) for method in study.methods]


def test_members_and_weights_are_those_of_the_pooled_cases(
    hospitals: MemoryHospitals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_fitting, "MARGIN", 1.0)  # nobody is dropped
    (outcome,) = outcomes(hospitals, "ensemble-stacked")
    mixture = outcome.heads[""]
    assert isinstance(mixture, Mixture)
    assert sorted(mixture.members) == sorted([*FAMILIES, *(f"discriminant@{taps}" for taps in RUNS)])
    sites = list(hospitals.sites.values())
    fold = np.concatenate([fold_of(site.patients, site.label, 5, site.seed) for site in sites])
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("values", "label"))
    counts = np.bincount(label).astype(float)
    likelihood = np.empty((len(mixture.members), len(label)))
    for row, name in enumerate(mixture.members):
        family, _, taps = name.partition("@")
        start, stop = RUNS.get(taps, (0, 6))
        narrow, solve = values[:, start:stop], FAMILIES[family].heads
        heads = np.stack([solve(collect(narrow[fold != f], label[fold != f], 3)) for f in range(5)])
        choice = choose(held_out(heads.astype(np.float32), narrow, label, fold).arrays, counts)
        whole = mixture.heads[row]
        exact = solve(collect(narrow, label, 3))[choice.index] * choice.temperature
        np.testing.assert_allclose(whole[:, [*range(start, stop), 6]], exact, rtol=1e-4, atol=1e-5)
        assert not np.delete(whole, [*range(start, stop), 6], axis=1).any()
        own = (heads[:, choice.index] * choice.temperature)[fold]
        logits = np.einsum("ncd,nd->nc", own[:, :, :-1], narrow) + own[:, :, -1]
        likelihood[row] = np.maximum(softmax(logits)[np.arange(len(label)), label], np.exp(-20.0))
    case, count = 1.0 / counts[label] / 3, len(likelihood)
    best = minimize(
        lambda w: -case @ np.log(w @ likelihood), np.full(count, 1 / count), method="SLSQP", bounds=[(1e-9, 1)] * count,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    assert outcome.facts["cv_loss"] == pytest.approx(-case @ np.log(mixture.weights @ likelihood), abs=1e-6)
    assert outcome.facts["cv_loss"] <= best.fun + 1e-5
    assert outcome.facts["gap"] <= 1e-5
    assert outcome.facts["rounds"] <= 8


def test_clearly_worse_members_are_dropped_and_told(hospitals: MemoryHospitals) -> None:
    equal, stacked = outcomes(hospitals, "ensemble-equal,ensemble-stacked")
    worse = {*equal.facts["dropped"]}
    assert worse
    assert worse.isdisjoint(equal.facts["weights"])
    assert len(worse) + len(equal.facts["weights"]) == len(FAMILIES) + len(RUNS)
    assert set(equal.facts["weights"].values()) == {1 / len(equal.facts["weights"])}
    assert stacked.facts["weights"].keys() == equal.facts["weights"].keys()
    assert stacked.facts["cv_gain"] >= -1e-9
    assert json.loads(json.dumps(stacked.facts)) == stacked.facts
    tasks = [request.task for request in hospitals.asked]
    assert tasks.count("statistics") == tasks.count("validate") == 1
    assert tasks.count("stacked_losses") == stacked.facts["rounds"]


def test_a_single_member_has_all_the_weight(hospitals: MemoryHospitals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_fitting, "MARGIN", 0.0)
    (outcome,) = outcomes(hospitals, "ensemble-stacked")
    assert list(outcome.facts["weights"].values()) == [1.0]


def mixture() -> Mixture:
    heads = np.random.default_rng(0).normal(size=(3, 2, 5))
    return Mixture(("a", "b", "c"), heads, np.array([0.5, 0.0, 0.5]), ("x", "y"), "features", {"k": 1})


def test_a_mixture_is_the_mean_of_probabilities_and_of_those_that_saw_a_class() -> None:
    whole, values = mixture(), np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    first, _, last = (softmax(values @ head[:, :-1].T + head[:, -1]) for head in whole.heads)
    np.testing.assert_allclose(np.exp(whole.logits(values)), (first + last) / 2, atol=1e-12)
    whole.heads[0, 1, :-1], whole.heads[0, 1, -1] = 0.0, ABSENT
    assert np.isfinite(whole.logits(values)).all()


def test_weights_that_are_no_shares_and_members_without_heads_are_refused() -> None:
    packed = mixture().pack()
    with pytest.raises(WeightsError, match="sum to 1"):
        Mixture.unpack(replace(packed, arrays={**packed.arrays, "weights": np.array([0.5, 0.5, 0.5])}))
    with pytest.raises(WeightsError, match="do not belong"):
        Mixture.unpack(replace(packed, config={"members": '["a", "b"]'}))
