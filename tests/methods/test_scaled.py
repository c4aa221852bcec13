"""Vector scaling: the least loss of scipy, from hospitals' sums, and only where it is clearly better."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from medtl_core.config import Settings
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.crossval import fold_of
from medtl_core.methods.scaled import PENALTY, central
from medtl_core.rng import stream
from medtl_core.values import ABSENT, Head
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site


def least(logits: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, float]:
    """Factors and offsets of least balanced log-loss by a quasi-Newton search that knows no sums, and that loss."""
    classes = logits.shape[1]
    start = np.concatenate([np.ones(classes), np.zeros(classes)])
    counts = np.bincount(label, minlength=classes)
    weight = 1.0 / counts[label] / (counts > 0).sum()

    def loss(point: np.ndarray) -> float:
        logs = log_softmax(logits * point[:classes] + point[classes:], axis=1)[np.arange(len(label)), label]
        return float(-weight @ logs + PENALTY / 2 * ((point - start) ** 2).sum())

    found = minimize(loss, start, method="BFGS", options={"gtol": 1e-8, "maxiter": 2000})
    return found.x, float(found.fun)


def drawn(seed: int, classes: int, cases: int) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(seed, "scaled")
    label = rng.integers(0, classes, cases)
    logits = rng.standard_normal((cases, classes)) + 2.0 * np.eye(classes)[label]
    return logits * rng.uniform(0.2, 6.0, classes) + rng.normal(0, 2, classes), label


@pytest.mark.parametrize(("seed", "classes", "cases"), [(0, 2, 40), (1, 3, 90), (2, 7, 300), (3, 3, 12)])
def test_it_is_the_least_loss(seed: int, classes: int, cases: int) -> None:
    logits, label = drawn(seed, classes, cases)
    point, loss = least(logits, label)
    ours = np.concatenate(central(logits, label))
    np.testing.assert_allclose(ours, point, atol=2e-3)
    weight = 1.0 / np.bincount(label, minlength=classes)[label] / len(np.unique(label))
    logs = log_softmax(logits * ours[:classes] + ours[classes:], axis=1)[np.arange(cases), label]
    away = ours - np.concatenate([np.ones(classes), np.zeros(classes)])
    assert -weight @ logs + PENALTY / 2 * away @ away <= loss + 1e-6


def test_a_class_that_nobody_shows_keeps_its_mark() -> None:
    logits, label = drawn(4, 2, 50)
    marked = np.column_stack([logits, np.full(50, ABSENT)])
    factor, offset = central(marked, label)
    plain = central(logits, label)
    assert (factor[2], offset[2]) == (1.0, 0.0)
    np.testing.assert_allclose([factor[:2], offset[:2]], plain, atol=1e-12)


def uneven(hospitals: MemoryHospitals) -> MemoryHospitals:
    """Class 0 lies far wider than the others, which one factor for all logits cannot say."""
    sites = []
    for site in hospitals.sites.values():
        wide = np.where(site.label[:, None] == 0, 6.0, 0.3)
        noise = stream(0, "wide", site.name).standard_normal(site.values.shape)
        sites.append(replace(site, values=(site.values + wide * noise).astype(np.float32)))
    return MemoryHospitals(sites)


def outcomes(hospitals: MemoryHospitals, methods: str) -> tuple[Study, list[Any]]:
    study = Study(hospitals, PROBLEM, Settings(), read_methods(methods))
    return study, [study.outcome(method).heads[""] for method in study.methods]


def test_hospitals_find_the_scaling_of_their_pooled_cases() -> None:
    hospitals = uneven(MemoryHospitals([make_site(name, 60) for name in "abc"]))
    study, (plain, head) = outcomes(hospitals, "nearest-mean,scaled-nearest-mean")
    assert head.facts["calibration"] == "vector"
    told = head.facts["scaling"]
    assert told["gains"]["vector"]["gain"] > told["gains"]["vector"]["error"]
    heads = study.once("folds/nearest-mean", lambda: None)
    sites = [*hospitals.sites.values()]
    fold = np.concatenate([fold_of(site.patients, site.label, 5, site.seed) for site in sites])
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("values", "label"))
    own = heads.astype(np.float32).astype(np.float64)[fold]
    logits = np.einsum("nd,ncd->nc", values.astype(np.float64), own[:, :, :-1]) + own[:, :, -1]
    factor, offset = central(logits, label)
    np.testing.assert_allclose(told["factor"], factor, atol=3e-3)
    np.testing.assert_allclose(told["offset"], offset, atol=3e-3)
    np.testing.assert_allclose(head.weight, plain.weight * np.asarray(told["factor"])[:, None])
    np.testing.assert_allclose(head.bias, plain.bias * told["factor"] + told["offset"])
    asked = [request for request in hospitals.asked if request.task == "vector_scaling"]
    assert len(asked) == told["exchanges"] < 9


def test_the_plain_head_is_left_only_for_a_clearly_better_one(hospitals: MemoryHospitals) -> None:
    study, (plain, head) = outcomes(hospitals, "discriminant,scaled-discriminant")
    assert isinstance(head, Head)
    assert head.facts["calibration"] == "temperature"
    assert "factor" not in head.facts["scaling"]
    np.testing.assert_array_equal(head.weight, plain.weight)
    np.testing.assert_array_equal(head.bias, plain.bias)
    kept = (study.once(f"folds/{name}", lambda: None) for name in study.names)
    np.testing.assert_array_equal(*kept)
