"""Adaptation of a metric and of a head to one hospital: priors, new classes, the pull, and refusals."""

from dataclasses import replace

import numpy as np
import pytest

from medtl_core.errors import DataError
from medtl_core.heads.linear import softmax
from medtl_core.heads.logistic import class_weights
from medtl_core.methods.adaptation import (
    BLIND,
    COVARIANCE_CASES,
    MEAN_CASES,
    PULLS,
    Support,
    adapt_head,
    adapt_metric,
    restricted,
)
from medtl_core.methods.models.metric import Metric, unit
from medtl_core.values import ABSENT, Head


@pytest.fixture
def metric() -> Metric:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(3, 3))
    return Metric(
        np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 0.5]), mix @ mix.T + np.eye(3), 0.2, rng.normal(size=(2, 3)),
        0.5 * rng.normal(size=(2, 3)), np.array([100.0, 10.0]), "mahalanobis", 0.4, ("a", "b"), "f", {"strength": 0.2},
    )  # fmt: skip


def support(counts: list[int], classes: tuple[str, ...], seed: int = 0, apart: float = 2.0) -> Support:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(counts)), counts)
    values = (label[:, None] * apart + rng.normal(size=(len(label), 3))).astype(np.float32)
    return Support(values, label, np.asarray([f"p{i}" for i in range(len(label))]), classes)


def test_known_means_are_drawn_to_the_federations_and_new_ones_are_their_own(metric: Metric) -> None:
    own = support([4, 5, 3], ("new", "b", "a"))
    found = adapt_metric(metric, own)
    z = metric.standardised(own.values)
    cut = min(100.0, MEAN_CASES)
    expected = [
        z[:4].mean(axis=0),
        (10 * metric.means[1] + z[4:9].sum(axis=0)) / 15,
        (cut * metric.means[0] + z[9:].sum(axis=0)) / (cut + 3),
    ]
    np.testing.assert_allclose(found.means, expected)
    white = unit(z @ metric.whitening)
    np.testing.assert_allclose(found.directions[1], (10 * metric.directions[1] + white[4:9].sum(axis=0)) / 15)
    assert found.counts.tolist() == [4, 15, cut + 3]
    assert found.classes == ("new", "b", "a") and found.rule == "unit"


def test_a_known_class_without_cases_keeps_the_federations_mean(metric: Metric) -> None:
    found = adapt_metric(metric, support([0, 5, 3], ("a", "b", "new")))
    np.testing.assert_allclose(found.means[0], metric.means[0])
    assert found.counts[0] == MEAN_CASES


@pytest.mark.parametrize(("cases", "rule"), [(1, "unit"), (19, "unit"), (20, "mahalanobis")])
def test_the_rule_goes_by_the_cases_a_class(metric: Metric, cases: int, rule: str) -> None:
    found = adapt_metric(metric, support([cases] * 3, ("a", "b", "new")))
    assert (found.rule, found.facts["rule"], found.facts["shots"]) == (rule, rule, cases)


def test_the_covariance_is_the_posterior_one(metric: Metric) -> None:
    own = support([20, 25], ("a", "b"))
    z = metric.standardised(own.values)
    scatter = 20 * np.cov(z[:20].T, bias=True) + 25 * np.cov(z[20:].T, bias=True)
    expected = (COVARIANCE_CASES * metric.within + scatter) / (COVARIANCE_CASES + 45 - 2)
    np.testing.assert_allclose(adapt_metric(metric, own).within, expected)
    few = support([2, 3], ("a", "b"))
    np.testing.assert_array_equal(adapt_metric(metric, few).within, metric.within)


def test_without_a_prior_the_hospital_is_on_its_own(metric: Metric) -> None:
    own = support([5, 5], ("a", "b"))
    found = adapt_metric(metric, own, mean_cases=0.0)
    z = metric.standardised(own.values)
    np.testing.assert_allclose(found.means, [z[:5].mean(axis=0), z[5:].mean(axis=0)])
    unseen = replace(metric, counts=np.array([100.0, 0.0]))  # a class that the federation only named is new as well
    for one, weight in ((metric, 0.0), (unseen, MEAN_CASES)):
        with pytest.raises(DataError, match="'b' is new"):
            adapt_metric(one, support([5, 0], ("a", "b")), mean_cases=weight)


def test_one_class_is_refused(metric: Metric) -> None:
    with pytest.raises(DataError, match="names one class only"):
        adapt_metric(metric, support([3], ("a",)))


def head() -> Head:
    return Head(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), np.array([0.0, 0.5]), "ridge", ("a", "b"), "f")


def test_a_head_that_is_right_already_is_kept_and_a_wrong_one_is_moved() -> None:
    # classes at 0 and 0.8 in each of three features, unit variance: the log odds are 0.8 sum(x) - 0.96
    own, judged = (support([cases] * 2, ("a", "b"), seed, 0.8) for cases, seed in ((20, 1), (200, 5)))
    right = Head(0.4 * np.array([[-1.0] * 3, [1.0] * 3]), np.array([0.48, -0.48]), "ridge", ("a", "b"), "f")
    wrong = replace(right, weight=-right.weight, bias=-right.bias)
    kept, moved = adapt_head(right, own), adapt_head(wrong, own)
    assert kept.facts["pull"] is None and moved.facts["pull"] in PULLS
    np.testing.assert_allclose(kept.logits(judged.values), right.logits(judged.values))
    before, after = ((one.logits(judged.values).argmax(axis=1) == judged.label).mean() for one in (wrong, moved))
    assert before < 0.4 and after > 0.6


def test_one_patient_is_no_reason_to_move() -> None:
    own = replace(support([2, 2], ("a", "b")), patients=np.asarray(["one"] * 4))
    found = adapt_head(head(), own)
    assert found.facts["pull"] is None
    np.testing.assert_allclose(found.logits(own.values), head().logits(own.values))


def test_random_labels_do_not_move_a_head() -> None:
    # balanced cases centred with the left-out one's help give its label away: then every head would be moved
    rng = np.random.default_rng(0)
    wide = Head(rng.normal(size=(2, 200)) * 0.05, np.zeros(2), "ridge", ("a", "b"), "f")
    moved = 0
    for _ in range(5):
        values = rng.normal(size=(10, 200)).astype(np.float32)
        own = Support(values, np.arange(10) % 2, np.asarray([f"p{i}" for i in range(10)]), ("a", "b"))
        moved += adapt_head(wide, own).facts["pull"] is not None
    assert moved <= 1


def test_one_case_of_a_class_keeps_a_head_that_knows_all_and_moves_one_that_does_not() -> None:
    single = support([1, 6], ("a", "b"))
    assert adapt_head(head(), single).facts["pull"] is None
    assert adapt_head(head(), replace(single, classes=("a", "new"))).facts["pull"] == BLIND


def test_the_moved_head_minimises_what_it_should() -> None:
    own, wrong = support([30, 44], ("a", "b")), replace(head(), weight=-5 * head().weight)
    found, wide = adapt_head(wrong, own), own.values.astype(np.float64)
    mean, variance = wide.mean(axis=0), wide.var(axis=0)
    scale = np.sqrt((len(wide) * variance + 2 * variance.mean()) / (len(wide) + 2)) + 1e-6
    inputs = np.concatenate([(wide - mean) / scale, np.ones((len(wide), 1))], axis=1)

    def standard(one: Head) -> np.ndarray:
        return np.concatenate([one.weight * scale, (one.bias + one.weight @ mean)[:, None]], axis=1)

    weights = class_weights(own.counts)[own.label] / len(own.label)
    residual = softmax(inputs @ standard(found).T) - np.eye(2)[own.label]
    slope = (residual * weights[:, None]).T @ inputs + found.facts["pull"] * (standard(found) - standard(wrong))
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)


def test_restriction_keeps_what_is_known() -> None:
    found = restricted(head(), ("new", "b"))
    assert found.bias.tolist() == [ABSENT, 0.5]
    np.testing.assert_array_equal(found.weight, [[0, 0, 0], [0, 1, 0]])
