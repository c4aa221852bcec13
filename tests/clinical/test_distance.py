"""Distances to the training cases: by hand, by scikit-learn's Mahalanobis distance, and their limit by chi-squared."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chi2
from sklearn.covariance import EmpiricalCovariance

from medtl_core.clinical.distance import BINS, Distance, limit
from medtl_core.heads.statistics import collect
from medtl_core.rng import stream


def drawn(cases: int, width: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = stream(seed, "distance")
    label = np.arange(cases) % classes
    mixing = rng.standard_normal((width, width)) / np.sqrt(width) + np.eye(width)
    return 3.0 * rng.standard_normal((classes, width))[label] + rng.standard_normal((cases, width)) @ mixing + 5, label


def test_two_classes_on_a_line_by_hand() -> None:
    values = np.array([[0.0], [2.0], [10.0], [12.0]])  # means 1 and 11, variance within classes 4 / (4 - 2) = 2
    found = Distance.of(collect(values, np.array([0, 0, 1, 1]), 2), shrink=0.0)
    np.testing.assert_allclose(found.squared(np.array([[1.0], [3.0], [14.0], [-3.0]])), [0, 2, 4.5, 8], atol=1e-4)


@pytest.mark.parametrize(("cases", "width", "shrink"), [(90, 5, 0.0), (60, 12, 0.0), (60, 12, 0.4)])
def test_with_all_axes_it_is_mahalanobis_distance_to_the_nearest_class(cases: int, width: int, shrink: float) -> None:
    values, label = drawn(cases, width)
    found = Distance.of(collect(values, label, 3), axes=width, shrink=shrink)
    scaled = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    means = np.stack([scaled[label == number].mean(axis=0) for number in range(3)])
    oracle = EmpiricalCovariance(assume_centered=True).fit(scaled - means[label])
    within = oracle.covariance_ * cases / (cases - 3)
    within = (1 - shrink) * within + shrink * np.trace(within) / width * np.eye(width)
    exact = replace_precision(oracle, within)
    expected = np.min([exact.mahalanobis(scaled - mean) for mean in means], axis=0)
    np.testing.assert_allclose(found.squared(values), expected, rtol=2e-4)


def replace_precision(oracle: EmpiricalCovariance, covariance: np.ndarray) -> EmpiricalCovariance:
    oracle.precision_ = np.linalg.inv(covariance)
    oracle.location_ = np.zeros(len(covariance))
    return oracle


def test_few_axes_are_those_of_the_scatter_with_one_number_for_the_others() -> None:
    values, label = drawn(60, 12)
    found = Distance.of(collect(values, label, 3), axes=4, shrink=0.3)
    assert found.axes.shape == (4, 12) and found.spread.shape == (5,) and found.means.shape == (3, 12)
    scaled = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    means = np.stack([scaled[label == number].mean(axis=0) for number in range(3)])
    lengths, vectors = np.linalg.eigh((scaled - means[label]).T @ (scaled - means[label]) / 57)
    whole = 0.7 * np.append(lengths[::-1][:4], lengths[:8].mean()) + 0.3 * lengths.mean()
    np.testing.assert_allclose(found.spread, whole, rtol=1e-4)
    precision = vectors[:, :8] @ vectors[:, :8].T / whole[4] + vectors[:, 8:] @ (vectors[:, 8:] / whole[3::-1]).T
    expected = [((scaled - mean) @ precision * (scaled - mean)).sum(axis=1) for mean in means]
    np.testing.assert_allclose(found.squared(values), np.min(expected, axis=0), rtol=1e-3)
    assert sum(array.nbytes for array in vars(found).values()) == 4 * (4 * 12 + 3 * 12 + 5 + 12)


def test_an_unseen_class_and_a_feature_that_never_changes_are_no_distance() -> None:
    values, label = drawn(60, 4, classes=2)
    plain = Distance.of(collect(values, label, 2))
    wide = Distance.of(collect(np.column_stack([values, np.full(60, 7.0)]), label, 5))
    assert wide.means.shape == (2, 5)
    further = np.array([[*values[0], 7.0], [*values[0], 8.0]])
    near, off = wide.squared(further)
    assert near < 2 * plain.squared(values[:1])[0] + 1
    assert off < near + 1e3  # and not the million squared that a deviation of zero would make of it


def test_hospitals_count_what_one_place_would_count_and_the_limit_keeps_its_promise() -> None:
    values, label = drawn(400, 6)
    found = Distance.of(collect(values, label, 3))
    parts = [found.counted(values[first::3]) for first in range(3)]
    np.testing.assert_array_equal(np.sum(parts, axis=0), found.counted(values))
    told = limit(np.sum(parts, axis=0), 0.05, 6)
    exact = np.sort(found.squared(values))[int(np.ceil(0.95 * 401)) - 1]
    assert told is not None and exact <= told <= exact * 1.03
    assert limit(np.sum(parts, axis=0), 0.001, 6) is None  # 400 cases do not tell one in a thousand
    assert limit(np.eye(BINS)[-1] * 500, 0.05, 6) is None  # off the bins


def test_of_normal_cases_the_limit_is_that_of_chi_squared() -> None:
    values, label = drawn(20_000, 6, classes=2)
    half = np.arange(20_000) < 10_000
    found = Distance.of(collect(values[half], label[half], 2), axes=6, shrink=0.0)
    apart = replace(found, means=found.means[:1])  # cases of one class, and the distance to it
    told = limit(apart.counted(values[~half & (label == 0)]), 0.01, 6)
    assert told == pytest.approx(chi2.ppf(0.99, 6), rel=0.05)
