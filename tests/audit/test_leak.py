"""The leak demonstration, against data whose secrets are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.audit.leak import Leak, cosine, from_gradient
from medtl_core.errors import DataError
from medtl_core.heads.linear import loss_and_gradient
from medtl_core.heads.statistics import collect
from medtl_core.rng import stream


def first_gradient(inputs: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """What a hospital would send after one full step from zero, summed over its cases."""
    start = np.zeros((classes, inputs.shape[1]))
    return loss_and_gradient(start, inputs, label, np.ones(classes))[1]


def cases(label: np.ndarray, seed: int) -> np.ndarray:
    values = stream(seed, "leak").standard_normal((len(label), 20))
    return np.concatenate([values, np.ones((len(label), 1))], axis=1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 5))
def test_the_first_gradient_tells_counts_and_sums_exactly(labels: list[int], seed: int) -> None:
    label = np.array(labels)
    inputs = cases(label, seed)
    leak = from_gradient(first_gradient(inputs, label, 4), inputs.sum(axis=0))
    truth = collect(inputs[:, :-1], label, 4)
    np.testing.assert_array_equal(np.rint(leak.counts), truth.counts)
    np.testing.assert_allclose(leak.sums, truth.sums, atol=1e-9)
    for place in leak.alone():
        assert cosine(leak.sums[place], inputs[label == place][0, :-1]) > 0.999


def test_a_class_without_cases_makes_up_for_the_total() -> None:
    label = np.array([0, 0, 0, 2])
    inputs = cases(label, 1)
    leak = from_gradient(first_gradient(inputs, label, 4))
    assert leak.counts.round(9).tolist() == [3.0, 0.0, 1.0, 0.0]
    assert leak.alone() == [2]
    assert cosine(leak.sums[2], inputs[3, :-1]) > 0.999


def test_one_case_alone_is_read_without_any_help() -> None:
    inputs = cases(np.array([1]), 2)
    leak = from_gradient(first_gradient(inputs, np.array([1]), 2))
    assert leak.alone() == [1]
    assert cosine(leak.sums[1], inputs[0, :-1]) > 0.999


def test_class_sums_need_no_attack() -> None:
    leak = Leak(np.array([2.0, 1.0]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert leak.alone() == [1]
    assert leak.sums[1].tolist() == [3.0, 4.0]


def test_cosine_of_nothing_is_zero() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0


@pytest.mark.parametrize("shape", [(3,), (1, 4), (3, 1)])
def test_what_is_no_gradient_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="not that of a head"):
        from_gradient(np.zeros(shape))
