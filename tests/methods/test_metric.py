"""The federated metric: Mahalanobis distance, unbiased class lengths, and what the hospitals' sums give."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.evaluation.calibration import temperature
from medtl_core.federation.registry import read_methods, unpack
from medtl_core.federation.study import Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.statistics import collect
from medtl_core.methods.metric import LEAST
from medtl_core.methods.models.metric import Metric, moments_of, nearest, sharpness, shrunk, unit, whitening
from medtl_core.values import ABSENT
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site


def gaussian(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cases, labels, class means and the covariance they were drawn with."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(4, 4))
    means = rng.normal(size=(len(counts), 4))
    label = np.repeat(np.arange(len(counts)), counts)
    return means[label] + rng.normal(size=(len(label), 4)) @ mix, label, means, mix.T @ mix


def make(values: np.ndarray, label: np.ndarray, classes: int, **changes: object) -> Metric:
    own = collect(values, label, classes)
    means, within, counts = moments_of(own)
    z = unit((values - own.mean) / own.scale @ whitening(within))
    directions = np.stack([z[label == one].mean(axis=0) if counts[one] else 0 * means[0] for one in range(classes)])
    names = tuple("abcdefg"[:classes])
    metric = Metric(own.mean, own.scale, within, 0.0, means, directions, counts, "mahalanobis", 1.0, names, "f")
    return replace(metric, **changes)  # type: ignore[arg-type]


def known(means: np.ndarray, covariance: np.ndarray, counts: np.ndarray) -> Metric:
    """A metric of these moments in standard units."""
    ones, names = np.ones(means.shape[1]), tuple("abc"[: len(means)])
    return Metric(0 * ones, ones, covariance, 0.0, means, 0 * means, counts, "mahalanobis", 1.0, names, "f")


def test_with_a_known_covariance_it_is_mahalanobis_nearest_mean() -> None:
    _, _, means, covariance = gaussian([1, 1, 1])
    cases = np.random.default_rng(1).normal(size=(200, 4)) * 2
    apart = cdist(cases, means, "mahalanobis", VI=np.linalg.inv(covariance)) ** 2
    logits = known(means, covariance, np.full(3, 1e12)).logits(cases)  # means known exactly
    np.testing.assert_allclose(logits[:, [0]] - logits, 0.5 * (apart - apart[:, [0]]), atol=1e-6)
    np.testing.assert_array_equal(logits.argmax(axis=1), apart.argmin(axis=1))


def test_the_moments_are_those_of_scikit_learn() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    values, label, _, _ = gaussian([20, 30, 50])
    means, within, counts = moments_of(collect(values, label, 3))
    standard = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    fitted = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(standard, label)
    np.testing.assert_allclose(means, fitted.means_, atol=1e-9)
    np.testing.assert_allclose(within, fitted.covariance_ * 100 / 97, atol=1e-9)  # theirs divides by n
    assert counts.tolist() == [20, 30, 50]


def test_lengths_of_class_means_are_unbiased() -> None:
    # E |mean of n cases|^2 = |m|^2 + spread / n: over many draws the corrected length is the true one
    rng, means, counts = np.random.default_rng(0), np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([2.0, 8.0])
    drawn = means + rng.normal(size=(4000, 2, 2)) / np.sqrt(counts)[:, None]
    found = [-2 * nearest(np.zeros((1, 2)), centres, counts, 2.0)[0] for centres in drawn]
    np.testing.assert_allclose(np.mean(found, axis=0), [1.0, 4.0], atol=0.1)


def test_a_case_between_two_classes_does_not_prefer_the_common_one() -> None:
    values, label, _, _ = gaussian([2000, 3])
    metric = make(values, label, 2)
    plain = FAMILIES["discriminant"].heads(collect(values, label, 2))[0]
    embedded, many = metric.standardised(values) @ metric.whitening, np.full(2, 1e9)
    biased = np.mean(nearest(embedded, metric.centres, many, metric.spread).argmax(axis=1) == 1)
    for corrected in (metric.logits(values), values @ plain[:, :-1].T + plain[:, -1]):
        assert np.mean(corrected.argmax(axis=1) == 1) > biased


def test_a_class_without_cases_is_never_the_answer() -> None:
    values, label, _, _ = gaussian([10, 10])
    for rule in ("unit", "mahalanobis"):
        logits = make(values, label, 3, rule=rule).logits(values)
        assert (logits[:, 2] == ABSENT).all() and np.isfinite(logits).all()


def test_the_unit_rule_by_hand() -> None:
    metric = replace(
        known(np.zeros((2, 2)), np.diag([4.0, 1.0]), np.array([4.0, 4.0])), mean=np.array([1.0, 0.0]),
        scale=np.array([2.0, 1.0]), directions=np.array([[1.0, 0.0], [0.0, 0.5]]), rule="unit", temperature=2.0,
    )  # fmt: skip
    # z = (4, 1); whitened (2, 1); unit (2, 1) / sqrt 5. The spread, (0 + 0.75) 4 / (3 + 3) = 0.5, over 4 is 0.125.
    u = np.array([2.0, 1.0]) / np.sqrt(5)
    expected = 2.0 * np.array([u[0] - 0.5 * (1 - 0.125), 0.5 * u[1] - 0.5 * (0.25 - 0.125)])
    np.testing.assert_allclose(metric.logits(np.array([[9.0, 1.0]]))[0], expected)


def test_reliability_is_the_share_that_is_not_chance() -> None:
    # classes 2 apart in one of 50 directions of unit variance: |m1 - m2|^2 is 4 + 50 (1 / n1 + 1 / n2) on average
    rng, counts, true = np.random.default_rng(0), np.array([10.0, 20.0]), np.zeros((2, 50))
    true[1, 0] = 2.0
    drawn = true + rng.normal(size=(300, 2, 50)) / np.sqrt(counts)[:, None]
    found = [known(centres, np.eye(50), counts).reliability for centres in drawn]
    assert np.mean(found) == pytest.approx(4 / (4 + 50 * 0.15), abs=0.05)


def test_the_federations_metric_is_that_of_the_pooled_cases() -> None:
    hospitals = MemoryHospitals([make_site(name, cases) for name, cases in {"a": 30, "b": 20, "c": 1}.items()])
    study = Study(hospitals, PROBLEM, Settings(), read_methods("metric,discriminant"))
    metric = study.outcome(study.methods[0]).heads[""]
    assert isinstance(metric, Metric)
    values = np.concatenate([site.values for site in hospitals.sites.values()]).astype(np.float64)
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    pooled = make(values, label, 3)
    np.testing.assert_allclose(metric.means, pooled.means, atol=1e-6)
    np.testing.assert_allclose(metric.within, pooled.within, atol=1e-6)
    np.testing.assert_array_equal(metric.counts, pooled.counts)
    half = whitening(shrunk(pooled.within, metric.shrinkage))
    z = unit((values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6) @ half)
    directions = np.stack([z[label == one].mean(axis=0) for one in range(3)])
    np.testing.assert_allclose(metric.directions, directions, atol=1e-6)  # the whitening travels as float32
    assert metric.shrinkage == max(study.outcome(study.methods[1]).facts["strength"], LEAST)
    assert (metric.logits(values).argmax(axis=1) == label).mean() > 0.7
    assert [request.phase or request.task for request in hospitals.asked] == ["statistics", "validate", "metric"]


def test_more_shrinkage_keeps_probabilities_calibrated() -> None:
    # many cases of two normal classes: whatever the shrinkage, the factor that minimises log-loss is the one predicted
    rng = np.random.default_rng(0)
    mix, label = np.diag([1.0, 2.0, 0.5]), np.repeat([0, 1], 4000)
    values = label[:, None] * np.array([0.5, 1.0, 0.3]) + rng.normal(size=(8000, 3)) @ mix
    for shrinkage in (0.05, 0.7):
        metric = make(values, label, 2, shrinkage=shrinkage)
        found = temperature(metric.logits(values), label)
        assert sharpness(metric.within, metric.means, shrinkage) == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(("arrays", "rule"), [({"extra": np.zeros(1)}, "unit"), ({}, "nearest")])
def test_other_arrays_and_another_rule_are_refused(arrays: dict[str, np.ndarray], rule: str) -> None:
    packed = make(*gaussian([10, 10])[:2], 2).pack()
    broken = replace(packed, arrays={**packed.arrays, **arrays}, config={**packed.config, "rule": rule})
    with pytest.raises(WeightsError):
        unpack("metric", broken)
