import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.heads.statistics import Statistics, collect, pack, roots, unpack, untrue
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
@given(cases=st.integers(1, 40), width=st.integers(1, 20), folds=st.integers(2, 5), seed=st.integers(0, 99))
def test_a_message_holds_the_sums_of_each_fold(cases: int, width: int, folds: int, seed: int) -> None:
    rng = stream(seed, "test")
    values, label, fold = (
        rng.standard_normal((cases, width)) + 5,
        rng.integers(0, 3, cases),
        rng.integers(0, folds, cases),
    )
    update = pack(values, label, 3, fold, folds)
    assert ("gram" in update.arrays) == (cases > width)
    parts = unpack(update.arrays)
    for index, part in enumerate(parts):
        known = collect(values[fold == index], label[fold == index], 3)
        np.testing.assert_allclose(part.gram, known.gram, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(part.sums, known.sums, rtol=1e-10, atol=1e-10)
        assert part.counts.tolist() == known.counts.tolist()
    pooled = collect(values, label, 3)
    np.testing.assert_allclose((pooled - parts[0]).sums, sum(parts[2:], start=parts[1]).sums, atol=1e-9)


def test_messages_with_roots_are_summed_together() -> None:
    rng = stream(3, "test")
    told = [pack(rng.standard_normal((n, 9)), rng.integers(0, 3, n), 3, np.arange(n) % 2, 2) for n in (4, 7, 1)]
    for together, *alone in zip(
        Statistics.of_roots([each.arrays for each in told]), *(unpack(each.arrays) for each in told), strict=True
    ):
        for name in ("counts", "sums", "gram"):
            np.testing.assert_allclose(getattr(together, name), sum(getattr(part, name) for part in alone), atol=1e-12)


def test_a_root_tells_equal_cases_as_their_sum() -> None:
    """What is summed over cases is told in a fold's basis; cases that features cannot tell apart are not told apart."""
    values = stream(0, "root").standard_normal((3, 6))[[0, 1, 2, 1]]
    (root,) = roots(values, np.zeros(4, np.int64), 1)
    np.testing.assert_allclose(root.basis @ root.rows, np.column_stack([values, np.ones(4)]), atol=1e-12)
    one, other = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 5.0, 3.0, 1.0])  # the same sums over features
    np.testing.assert_allclose(root.basis.T @ one, root.basis.T @ other, atol=1e-12)
    assert np.linalg.matrix_rank(root.basis) == 3


def test_roots_that_cannot_be_true_are_named() -> None:
    rng = stream(0, "untrue")
    values, label, fold = rng.standard_normal((5, 8)), np.array([0, 1, 1, 2, 0]), np.array([0, 0, 1, 1, 1])
    told = dict(pack(values, label, 3, fold, 2).arrays)
    assert untrue(told, 5) == ""
    assert "do not add up" in untrue(told, 6)
    assert "do not hold the cases" in untrue({**told, "labels": 2.0 * told["labels"]}, 5)
    assert "do not hold the cases" in untrue({**told, "counts": told["counts"][::-1]}, 5)
