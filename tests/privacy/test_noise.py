"""The noise is what it says: its distribution, its scale to a few percent, its source, and its limits."""

import math
import os

import numpy as np
import pytest
from scipy import stats

from medtl_core.audit.two_run import chi_square
from medtl_core.errors import PrivacyError
from medtl_core.privacy.noise import discrete_gaussian, insecure_entropy, system_entropy

SIZE = 40_000


@pytest.mark.parametrize("sigma", [1.0, 1.5, 20.0])
def test_small_sigma_has_the_exact_probabilities(sigma: float) -> None:
    noise = discrete_gaussian(sigma, (200_000,), insecure_entropy(5))
    support = np.arange(-int(3.5 * sigma), int(3.5 * sigma) + 1)
    weight = np.exp(-(support**2) / (2 * sigma**2))
    seen = np.array([(noise == value).sum() for value in support])
    assert stats.chisquare(seen, weight / weight.sum() * seen.sum()).pvalue > 1e-4
    assert abs(noise.var() / sigma**2 - 1) < 5 * math.sqrt(2 / len(noise))


def test_the_tail_of_a_large_sigma_is_the_normal_one() -> None:
    sigma = 2.0**17
    noise = discrete_gaussian(sigma, (400_000,), insecure_entropy(6)) / sigma
    edges = np.array([-np.inf, -4, -3.5, -3, -2, -1, 0, 1, 2, 3, 3.5, 4, np.inf])
    seen = np.histogram(noise, edges)[0]
    assert stats.chisquare(seen, len(noise) * np.diff(stats.norm.cdf(edges))).pvalue > 1e-4
    assert abs(noise.var() - 1) < 5 * math.sqrt(2 / len(noise))


def test_no_word_of_the_operating_system_shortens_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "urandom", lambda count: b"\xff" * count)  # a counter of blocks would be at its end
    entropy = system_entropy()
    assert discrete_gaussian(2.0**17, (2000,), entropy).std() > 1e5
    assert len(entropy.draw(1 << 22)) == 1 << 22


@pytest.mark.parametrize("sigma", [1.0, 7.5, 1e4, 3e9])
def test_scale_and_shape(sigma: float) -> None:
    noise = discrete_gaussian(sigma, (SIZE,), insecure_entropy(int(sigma)))
    assert chi_square(noise.astype(float), sigma) > 1e-4
    assert abs(noise.mean()) < 5 * sigma / math.sqrt(SIZE)
    if sigma > 100:  # a Kolmogorov-Smirnov test that rejects two thirds and three halves of the scale
        assert stats.kstest(noise / sigma, "norm").pvalue > 1e-4
        assert stats.kstest(noise / sigma * 1.5, "norm").pvalue < 1e-10
        assert stats.kstest(noise / sigma / 1.5, "norm").pvalue < 1e-10


def test_two_draws_differ_and_no_seed_is_asked_for() -> None:
    draws = []
    for _ in range(2):
        np.random.seed(0)  # the global seed changes nothing
        draws.append(discrete_gaussian(1e6, (5, 10), system_entropy()))
    assert (draws[0] != draws[1]).all()
    assert (draws[0].shape, draws[0].dtype) == ((5, 10), np.int64)
    assert discrete_gaussian(1.0, (0, 3), system_entropy()).shape == (0, 3)


@pytest.mark.parametrize("sigma", [0.0, 0.5, -1.0, math.nan, math.inf, 2.0**45])
def test_a_scale_that_cannot_be_kept_is_refused(sigma: float) -> None:
    with pytest.raises(PrivacyError, match="grid"):
        discrete_gaussian(sigma, (3,), insecure_entropy(1))
