"""The leak demonstration, against data whose secrets are known."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.audit.leak import cosine, from_gradient
from medtl_core.heads.linear import loss_and_gradient
from medtl_core.heads.statistics import collect
from medtl_core.rng import stream


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 5))
def test_the_first_gradient_tells_counts_and_sums_exactly(labels: list[int], seed: int) -> None:
    label = np.array(labels)
    values = stream(seed, "leak").standard_normal((len(label), 20))
    inputs = np.concatenate([values, np.ones((len(label), 1))], axis=1)
    # what a hospital would send after one full step from zero, summed over its cases
    gradient = loss_and_gradient(np.zeros((4, 21)), inputs, label, np.ones(4))[1]
    counts, sums = from_gradient(gradient, inputs.sum(axis=0))
    truth = collect(inputs[:, :-1], label, 4)
    np.testing.assert_array_equal(np.rint(counts), truth.counts)
    np.testing.assert_allclose(sums, truth.sums, atol=1e-9)
    for place in np.flatnonzero(truth.counts == 1):
        assert cosine(sums[place], inputs[label == place][0, :-1]) > 0.999
    assert cosine(np.zeros(3), np.ones(3)) == 0.0
