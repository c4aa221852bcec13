import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.federation.folds import total
from medtl_core.heads.statistics import collect, pack, unpack
from medtl_core.rng import stream

VALUES = np.array([[1.0, 0.0], [3.0, 2.0], [5.0, 1.0]])
LABEL = np.array([0, 1, 1])


def test_literal_sums_of_cases_and_of_a_tap() -> None:
    made = collect(VALUES, LABEL, 3)
    assert made.counts.tolist() == [1, 2, 0]
    assert made.sums.tolist() == [[1, 0], [8, 3], [0, 0]]
    assert made.gram.tolist() == [[35, 11], [11, 5]]
    assert made.mean.tolist() == [3, 1]
    np.testing.assert_allclose(made.scale, VALUES.std(axis=0) + 1e-6)
    tap = made.select(np.array([1]))
    assert (tap.gram.tolist(), tap.sums.tolist()) == ([[5.0]], [[0.0], [3.0], [0.0]])


def test_standardised_equals_statistics_of_standardised_features() -> None:
    made = collect(VALUES, LABEL, 3)
    direct = collect((VALUES - made.mean) / made.scale, LABEL, 3)
    np.testing.assert_allclose(made.standardised().gram, direct.gram, atol=1e-12)
    np.testing.assert_allclose(made.standardised().sums, direct.sums, atol=1e-12)
    empty = collect(np.zeros((0, 2)), np.zeros(0, dtype=np.int64), 2)
    assert np.isfinite(empty.standardised().gram).all()


@settings(max_examples=25, deadline=None)
@given(cases=st.integers(1, 40), width=st.integers(1, 7), cut=st.integers(0, 40), seed=st.integers(0, 99))
def test_sum_of_messages_is_the_pooled_message(cases: int, width: int, cut: int, seed: int) -> None:
    rng = stream(seed, "test")
    values, label = rng.standard_normal((cases, width)), rng.integers(0, 3, cases)
    parts = [collect(values[rows], label[rows], 3) for rows in (slice(0, cut), slice(cut, None))]
    summed, pooled = unpack(total(pack([part]).arrays for part in parts))[0], collect(values, label, 3)
    np.testing.assert_allclose(summed.gram, pooled.gram, rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(summed.gram, summed.gram.T)
    assert summed.counts.tolist() == pooled.counts.tolist()
    np.testing.assert_allclose((pooled - parts[0]).sums, parts[1].sums, atol=1e-9)
