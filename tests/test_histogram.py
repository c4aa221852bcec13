"""Sums from hospitals give the pooled figures."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import DataError, ReplyError
from medtl_core.evaluation.federated import expected_shapes, judge_histogram, judge_sites, log_odds, summarise
from medtl_core.evaluation.scores import auprc, auroc, expected_calibration_error, judge, select
from medtl_core.values import ABSENT, Scores, Update

FEW = settings(max_examples=25, deadline=None)


def draw(cases: int, classes: int, seed: int, gain: float = 2.0) -> Scores:
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=cases)
    logits = rng.normal(size=(cases, classes)) * gain
    logits[np.arange(cases), label] += gain
    return Scores(logits, label, np.array(["a", "b", "c"])[rng.integers(3, size=cases)], np.arange(cases))


@FEW
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5), cuts=st.lists(st.integers(0, 50), max_size=6))
def test_any_split_into_sites_sums_to_the_pooled_cases_exactly(seed: int, classes: int, cuts: list[int]) -> None:
    scores = draw(50, classes, seed)
    order = np.random.default_rng(seed).permutation(50)
    ends = [0, *sorted(cuts), 50]
    parts = [summarise(select(scores, order[a:b])) for a, b in pairwise(ends)]
    pooled, summed = summarise(scores), sum(parts[1:], start=parts[0])
    for name, array in pooled.arrays.items():
        np.testing.assert_array_equal(summed.arrays[name], array, err_msg=name)
        assert (array.shape, array.dtype) == (expected_shapes(classes)[name], np.float64)


@FEW
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 7))
def test_all_but_the_ranking_is_exact(seed: int, classes: int) -> None:
    scores = draw(80, classes, seed)
    names = [str(cls) for cls in range(classes)]
    exact, found = judge(scores).figures, judge_histogram(summarise(scores), names)
    assert found.keys() == exact.keys() - {"worst_site"}
    for name in found.keys() - {"auroc", "auprc"}:
        assert found[name] == exact[name], name


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize(
    ("gain", "area", "precision"), [(1, 5e-4, 2e-3), (5, 5e-4, 2e-3), (0.3, 2e-3, 5e-3), (30, 2e-3, 5e-3)]
)
def test_ranking_is_close_on_smooth_scores(classes: int, gain: float, area: float, precision: float) -> None:
    for seed in range(5):
        scores = draw(2000, classes, seed, gain)
        found = judge_histogram(summarise(scores), [str(cls) for cls in range(classes)])
        assert found["auroc"] == pytest.approx(auroc(scores), abs=area)
        assert found["auprc"] == pytest.approx(auprc(scores), abs=precision)


def test_undefined_stays_undefined() -> None:
    one = Scores(np.zeros((3, 3)), np.zeros(3, np.int64), np.array(["a"] * 3), np.arange(3))
    found = judge_histogram(summarise(one), ["x", "y", "z"])
    assert (found["auroc"], found["auprc"], found["balanced_accuracy"]) == (None, None, 1.0)
    none = summarise(select(one, np.array([], dtype=np.int64)))
    assert set(judge_histogram(none, ["x", "y", "z"]).values()) == {None}
    assert set(judge_sites({}, ["x", "y", "z"]).figures.values()) == {None}


def test_sites_give_the_same_judgement_as_their_cases() -> None:
    scores = draw(300, 3, 4)
    parts = {site: summarise(select(scores, scores.site == site)) for site in ("c", "a", "b")}
    found, exact = judge_sites(parts, ["x", "y", "z"]).as_dict(), judge(scores).as_dict()
    for name in ("cases", "worst_site_name", "confusion"):
        assert found[name] == exact[name]
    assert found["curves"]["reliability"] == exact["curves"]["reliability"]
    assert found["figures"] == pytest.approx(exact["figures"], abs=5e-3)
    assert found["by_site"]["b"] == pytest.approx(exact["by_site"]["b"], abs=2e-3)
    fpr, tpr = found["curves"]["roc"]["all"]
    np.testing.assert_allclose(tpr, np.interp(fpr, *exact["curves"]["roc"]["all"]), atol=0.05)


def test_a_site_with_one_class_is_not_the_worst() -> None:
    logits = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1]])
    site = np.array(["a", "a", "b", "b", "c", "c"])
    scores = Scores(logits, np.array([0, 1, 0, 1, 0, 0]), site, np.arange(6))
    found = judge_sites({name: summarise(select(scores, site == name)) for name in "abc"}, ["x", "y"])
    assert (found.worst_site, found.worst_site_name) == (0.5, "b")


def test_log_odds_keep_the_tails_apart() -> None:
    logits = np.array([[500.0, 0.0, -500.0], [0.0, 0.0, ABSENT]])
    np.testing.assert_allclose(log_odds(logits), [[500, -500, -1000], [0, 0, ABSENT - np.log(2)]], atol=1e-9)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        summarise(Scores(logits, np.array([0, 1]), np.array(["a", "a"]), np.arange(2)))


@FEW
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6))
def test_log_odds_are_those_of_the_probability(seed: int, classes: int) -> None:
    logits = draw(20, classes, seed).logits
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(log_odds(logits), np.log(probability / (1 - probability)), atol=1e-6)


def test_calibration_error_equals_the_pooled_one() -> None:
    scores = draw(97, 4, 9)
    parts = [summarise(select(scores, scores.site == site)) for site in "abc"]
    found = judge_histogram(sum(parts[1:], start=parts[0]), list("wxyz"))
    assert found["ece"] == expected_calibration_error(scores)


def test_arrays_that_do_not_fit_the_classes_are_refused() -> None:
    sums = summarise(draw(5, 3, 0))
    with pytest.raises(ReplyError, match="4 classes"):
        judge_histogram(sums, list("abcd"))
    with pytest.raises(ReplyError, match="'sums' is missing"):
        judge_histogram(Update({name: a for name, a in sums.arrays.items() if name != "sums"}), list("abc"))


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="finite"):
        summarise(Scores(np.full((1, 2), np.inf), np.array([0]), np.array(["a"]), np.array([0])))
