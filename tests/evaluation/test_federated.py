"""Sums from hospitals give the pooled figures."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.evaluation.federated import expected_shapes, judge_sites, log_odds, summarise
from medtl_core.evaluation.scores import judge, plain, select
from medtl_core.values import ABSENT
from tests.evaluation.drawn import FEW, SEEDS, alike, draw


@FEW
@given(seed=SEEDS, classes=st.integers(2, 5), cuts=st.lists(st.integers(0, 50), max_size=6))
def test_any_split_into_sites_sums_to_the_pooled_cases_exactly(seed: int, classes: int, cuts: list[int]) -> None:
    scores = draw(50, classes, seed)
    order = np.random.default_rng(seed).permutation(50)
    ends = [0, *sorted(cuts), 50]
    pieces = [summarise(select(scores, order[a:b])) for a, b in pairwise(ends)]
    pooled, summed = summarise(scores), sum(pieces[1:], start=pieces[0])
    for name, array in pooled.arrays.items():
        np.testing.assert_array_equal(summed.arrays[name], array, err_msg=name)
        assert (array.shape, array.dtype) == (expected_shapes(classes)[name], np.float64)


@FEW
@given(seed=SEEDS, classes=st.integers(2, 7))
def test_sites_give_the_same_judgement_as_their_cases(seed: int, classes: int) -> None:
    """All but the ranking is exact."""
    scores = draw(80, classes, seed)
    sites = {site: summarise(select(scores, scores.site == site)) for site in "cab"}
    summed, exact = judge_sites(sites, [str(cls) for cls in range(classes)]), judge(scores)
    for name in exact.figures.keys() - {"auroc", "auprc"}:
        assert summed.figures[name] == exact.figures[name], name
    assert summed.curves is not None
    assert exact.curves is not None
    assert summed.curves.reliability == exact.curves.reliability
    for site, row in exact.by_site.items():
        assert summed.by_site[site].n == row.n
        assert summed.by_site[site].balanced_accuracy == row.balanced_accuracy


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize(
    ("gain", "area", "precision"),
    [(0.1, 2e-3, 5e-3), (0.3, 2e-4, 1e-3), (1, 2e-4, 1e-3), (5, 2e-4, 1e-3), (30, 1e-3, 5e-3)],
)
def test_ranking_is_close_on_smooth_scores(classes: int, gain: float, area: float, precision: float) -> None:
    for seed in range(5):
        scores = draw(2000, classes, seed, gain=gain)
        summed = judge_sites({"x": summarise(scores)}, [str(cls) for cls in range(classes)])
        exact = plain(scores, ["auroc", "auprc"])
        assert summed.figures["auroc"] == pytest.approx(exact["auroc"], abs=area)
        assert summed.figures["auprc"] == pytest.approx(exact["auprc"], abs=precision)


def test_the_curve_is_close_to_that_of_the_cases() -> None:
    scores = draw(300, 3, 4)
    summed, exact = judge_sites({"x": summarise(scores)}, ["x", "y", "z"]).curves, judge(scores).curves
    assert summed is not None
    assert exact is not None
    fpr, tpr = summed.roc["all"]
    np.testing.assert_allclose(tpr, np.interp(fpr, *exact.roc["all"]), atol=0.05)


def test_undefined_stays_undefined() -> None:
    single = alike(np.zeros((3, 3)), [0, 0, 0])
    figures = judge_sites({"a": summarise(single)}, ["x", "y", "z"]).figures
    assert (figures["auroc"], figures["auprc"], figures["balanced_accuracy"]) == (None, None, 1.0)
    assert figures["worst_site"] is None  # a site with one class is not the worst
    empty = summarise(select(single, np.array([], dtype=np.int64)))
    assert set(judge_sites({"a": empty}, ["x", "y", "z"]).figures.values()) == {None}
    assert set(judge_sites({}, ["x", "y", "z"]).figures.values()) == {None}


def test_log_odds_keep_the_tails_apart() -> None:
    logits = np.array([[500.0, 0.0, -500.0], [0.0, 0.0, ABSENT]])
    np.testing.assert_allclose(log_odds(logits), [[500, -500, -1000], [0, 0, ABSENT - np.log(2)]], atol=1e-9)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        summarise(alike(logits, [0, 1]))


@FEW
@given(seed=SEEDS, classes=st.integers(2, 6))
def test_log_odds_are_those_of_the_probability(seed: int, classes: int) -> None:
    logits = draw(20, classes, seed).logits
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_odds(logits), np.log(probability / (1 - probability)), atol=1e-6)
