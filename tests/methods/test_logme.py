"""LogME from statistics against LogME of the features themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from medtl_core.errors import DataError
from medtl_core.heads.statistics import TINY, collect
from medtl_core.methods.logme import logme


def drawn(cases: int, width: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = rng.permutation(np.arange(cases) % classes)
    values = rng.standard_normal((classes, width))[label] + rng.standard_normal((cases, width)) * 1.5 + 2.0
    return values, label.astype(np.int64)


@pytest.mark.parametrize(("cases", "width", "classes"), [(50, 6, 2), (60, 12, 4), (30, 50, 3)])
def test_logme_is_the_largest_evidence(cases: int, width: int, classes: int) -> None:
    values, label = drawn(cases, width, classes, seed=cases)
    features, onehot = (values - values.mean(axis=0)) / (values.std(axis=0) + TINY), np.eye(classes)[label]
    defined = np.mean([best_evidence(features, onehot[:, c]) for c in range(classes)])
    assert logme(collect(values, label, classes)) == pytest.approx(defined, abs=1e-5)


def best_evidence(features: np.ndarray, target: np.ndarray) -> float:
    """LogME of one target by its definition: the largest Gaussian log density of the target over both precisions."""
    gram = features @ features.T

    def minus(logs: np.ndarray) -> float:
        covariance = np.eye(len(target)) / np.exp(logs[1]) + gram / np.exp(logs[0])
        return -float(stats.multivariate_normal.logpdf(target, np.zeros(len(target)), covariance))

    return -float(optimize.minimize(minus, np.array([3.0, 1.0]), method="Nelder-Mead").fun) / len(target)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 50.0), st.integers(1, 3))
def test_it_does_not_depend_on_hospitals_scale_or_basis(seed: int, scale: float, parts: int) -> None:
    values, label = drawn(40, 4, 3, seed)
    place = np.arange(len(label)) % parts
    first, *rest = [collect(scale * values[place == p] + 7, label[place == p], 3) for p in range(parts)]
    assert logme(sum(rest, start=first)) == pytest.approx(logme(collect(values, label, 3)), rel=1e-4, abs=1e-6)


def test_a_constant_feature_and_an_absent_class_change_nothing() -> None:
    values, label = drawn(40, 4, 3, seed=5)
    plain = collect(values, label, 3)
    odd = collect(np.concatenate([values, np.full((40, 1), 3.0)], axis=1), label, 5)
    assert logme(odd) == pytest.approx(logme(plain), rel=1e-6)


@pytest.mark.parametrize("label", [[0, 0, 0], []])
def test_fewer_than_two_classes_cannot_be_judged(label: list[int]) -> None:
    with pytest.raises(DataError, match="class"):
        logme(collect(np.ones((len(label), 2)), np.array(label, dtype=np.int64), 3))
