"""The leak demonstration, against data whose secrets are known."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.audit.leak import cosine, from_gradient
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
    counts, sums = from_gradient(first_gradient(inputs, label, 4), inputs.sum(axis=0))
    truth = collect(inputs[:, :-1], label, 4)
    np.testing.assert_array_equal(np.rint(counts), truth.counts)
    np.testing.assert_allclose(sums, truth.sums, atol=1e-9)
    for place in np.flatnonzero(truth.counts == 1):
        assert cosine(sums[place], inputs[label == place][0, :-1]) > 0.999


def test_cosine_of_nothing_is_zero() -> None:
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
