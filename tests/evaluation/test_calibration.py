"""Probabilities and their corrections against scikit-learn and scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy.optimize import minimize_scalar
from sklearn import metrics as oracle

from medtl_core.evaluation.calibration import class_balance, log_loss, log_softmax, softmax, temperature
from medtl_core.values import ABSENT
from tests.evaluation.drawn import FEW, SEEDS


def draw(cases: int, classes: int, seed: int, gain: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.arange(cases) % classes
    logits = rng.normal(size=(cases, classes))
    logits[np.arange(cases), label] += 1.0
    return gain * logits, label


@FEW
@given(seed=SEEDS, classes=st.integers(2, 6), gain=st.sampled_from([0.1, 3.0, 300.0]))
def test_softmax_matches_scipy(seed: int, classes: int, gain: float) -> None:
    logits, _ = draw(20, classes, seed, gain)
    np.testing.assert_allclose(log_softmax(logits), special.log_softmax(logits, axis=1), atol=1e-12)
    np.testing.assert_allclose(softmax(logits), special.softmax(logits, axis=1), atol=1e-14)


def test_a_near_certain_class_keeps_its_resolution() -> None:
    assert log_softmax(np.array([[100.0, 0.0]]))[0, 0] == pytest.approx(-np.exp(-100.0), abs=0)


@FEW
@given(seed=SEEDS, classes=st.integers(2, 6))
def test_log_loss_matches_scikit_learn(seed: int, classes: int) -> None:
    logits, label = draw(30, classes, seed)
    assert log_loss(logits, label) == pytest.approx(oracle.log_loss(label, softmax(logits)))


def test_balanced_weights_add_to_one_a_class() -> None:
    label = np.array([0, 0, 2, 0])
    weight = class_balance(label, 4)
    assert [weight[label == cls].sum() for cls in (0, 2)] == pytest.approx([0.5, 0.5])


@FEW
@given(seed=SEEDS, classes=st.integers(2, 5))
def test_temperature_has_the_least_balanced_loss_and_changes_no_ranking(seed: int, classes: int) -> None:
    logits, label = draw(40, classes, seed)
    label = label.copy()
    label[:10] = 0
    weight = class_balance(label, classes)

    def loss(factor: float) -> float:
        return float(-weight @ special.log_softmax(factor * logits, axis=1)[np.arange(40), label])

    factor = temperature(logits, label)
    assert loss(factor) <= minimize_scalar(loss, bounds=(0.02, 50), method="bounded").fun + 1e-6
    assert 0 < factor <= 50
    np.testing.assert_array_equal((factor * logits).argsort(axis=1), logits.argsort(axis=1))


def test_one_mislabelled_case_or_absent_class_does_not_set_the_temperature() -> None:
    logits, label = draw(300, 2, 1, 1.0)
    wide = np.concatenate([logits, np.full((300, 1), ABSENT)], axis=1)
    label[0] = 2
    assert temperature(wide, label) == pytest.approx(temperature(logits[1:], label[1:]), rel=1e-3)


def test_temperature_at_the_edges() -> None:
    assert temperature(np.zeros((0, 3)), np.zeros(0, np.int64)) == 1.0
    assert temperature(np.eye(2), np.array([0, 1])) > 30
    assert temperature(np.eye(2), np.array([1, 0])) < 0.03
