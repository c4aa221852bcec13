"""Weights on the simplex: derivatives against differences, the least against scipy, in a handful of rounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize

from medtl_core.methods.simplex import Point, candidates, likelihood_sums


def drawn(seed: int, members: int, cases: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.7, 0.7, (members, cases)) * 0.98 + 0.01


def point(likelihood: np.ndarray, weights: np.ndarray) -> Point:
    return Point(weights, *(part / likelihood.shape[1] for part in likelihood_sums(likelihood, weights)))


def settled(likelihood: np.ndarray, rounds: int = 12) -> tuple[Point, int]:
    best = point(likelihood, np.full(len(likelihood), 1 / len(likelihood)))
    for number in range(rounds):
        if best.gap < 1e-8:
            return best, number
        best = min((point(likelihood, weights) for weights in candidates(best)), key=lambda one: one.loss)
    return best, rounds


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), members=st.integers(2, 5))
def test_gradient_and_curvature_are_those_of_the_loss(seed: int, members: int) -> None:
    likelihood = drawn(seed, members)
    weights = np.random.default_rng(seed).dirichlet(np.ones(members))
    _, gradient, curvature = likelihood_sums(likelihood, weights)
    steps = approx_fprime(weights, lambda w: likelihood_sums(likelihood, w)[0], 1e-7)
    np.testing.assert_allclose(gradient, steps, rtol=1e-3, atol=1e-2)
    bends = approx_fprime(weights, lambda w: likelihood_sums(likelihood, w)[1], 1e-7)
    np.testing.assert_allclose(curvature, bends, rtol=1e-2, atol=1e-1)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), members=st.integers(1, 7))
def test_a_few_rounds_find_the_least(seed: int, members: int) -> None:
    likelihood = drawn(seed, members)
    best, rounds = settled(likelihood)
    assert rounds < 12
    assert best.weights.min() >= 0
    assert best.weights.sum() == pytest.approx(1.0)
    theirs = minimize(
        lambda w: -np.log(w @ likelihood).mean(), np.full(members, 1 / members), method="SLSQP",
        bounds=[(1e-9, 1)] * members, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-14},
    )  # fmt: skip
    assert best.loss <= theirs.fun + 1e-7


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), members=st.integers(2, 6))
def test_no_round_raises_the_loss_and_the_gap_bounds_it(seed: int, members: int) -> None:
    likelihood = drawn(seed, members)
    least = settled(likelihood)[0].loss
    now = point(likelihood, np.random.default_rng(seed).dirichlet(np.ones(members)))
    for _ in range(3):
        assert least >= now.loss - now.gap - 1e-9
        tried = candidates(now)
        assert tried.min() >= 0
        np.testing.assert_allclose(tried.sum(axis=1), 1.0)
        after = min((point(likelihood, weights) for weights in tried), key=lambda one: one.loss)
        assert after.loss <= now.loss + 1e-12
        now = after


def test_two_members_that_are_the_same_are_no_error() -> None:
    likelihood = np.repeat(drawn(0, 1), 3, axis=0)
    best, _ = settled(likelihood)
    assert best.gap < 1e-8
    assert np.isfinite(candidates(best)).all()


def test_the_better_of_two_by_hand() -> None:
    """Member 0 is right with probability .9 on every case, member 1 with .5: all weight goes to the first."""
    best, rounds = settled(np.array([[0.9, 0.9], [0.5, 0.5]]))
    assert rounds <= 2
    np.testing.assert_allclose(best.weights, [1.0, 0.0], atol=1e-9)
    assert best.loss == pytest.approx(-np.log(0.9))
