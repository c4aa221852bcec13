"""Two-round prototypes: packing keeps length, post-processing, and what the sums are without noise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.privacy.patients import unit
from medtl_core.registry import find_method
from medtl_core.transfer.prototypes import (
    COUNT,
    GRAM,
    MEAN,
    MEAN_COSINE,
    Prototypes,
    _whitened,
    packed,
    positive,
    private_sums,
    unpacked,
)
from tests.memory import make_site
from tests.transfer.exact_hospitals import exact_study


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12))
def test_packing_keeps_lengths_and_inner_products(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (half + half.T for half in rng.standard_normal((2, size, size)))
    assert packed(one).shape == (size * (size + 1) // 2,)
    assert float(np.linalg.norm(packed(one))) == pytest.approx(float(np.linalg.norm(one)), rel=1e-12)
    assert float(packed(one) @ packed(other)) == pytest.approx(float((one * other).sum()), rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(unpacked(packed(one), size), one, rtol=1e-12, atol=1e-15)


def test_packing_of_two_by_two() -> None:
    assert packed(np.array([[1.0, 2.0], [2.0, 3.0]])).tolist() == [1.0, 2.0 * math.sqrt(2.0), 3.0]
    assert unpacked(np.array([1.0, math.sqrt(2.0), 3.0]), 2).round(12).tolist() == [[1.0, 1.0], [1.0, 3.0]]


@given(seed=st.integers(0, 2**32 - 1))
def test_the_nearest_matrix_without_negative_eigenvalues(seed: int) -> None:
    half = np.random.default_rng(seed).standard_normal((5, 5))
    noisy = half + half.T
    mended = positive(noisy)
    assert float(np.linalg.eigvalsh(mended).min()) >= -1e-10
    values, vectors = np.linalg.eigh(noisy)
    gone = (vectors * np.minimum(values, 0.0)) @ vectors.T  # projection: what is taken off is orthogonal to the rest
    np.testing.assert_allclose(mended + gone, noisy, atol=1e-10)
    np.testing.assert_allclose(positive(mended), mended, atol=1e-10)


def test_class_sums_of_centred_rows_by_hand() -> None:
    site = make_site("a", 2, width=2, classes=2)
    site.values[:] = [[3.0, 4.0], [0.0, 2.0]]
    site.label[:] = [1, 0]
    map_ = {"mean": np.zeros(2), "scale": np.ones(2), "basis": np.eye(2), "centre": np.array([0.6, 0.5])}
    found = private_sums(site, map_, {"gram": True})
    # rows (.6, .8) and (0, 1); centred (0, .3) and (-.6, .5); of length one
    side = np.array([-0.6, 0.5]) / math.hypot(0.6, 0.5)
    np.testing.assert_allclose(found.update.arrays["sums"], [side, [0.0, 1.0]], atol=1e-12)
    gram = np.outer(side, side) + np.outer([0, 1.0], [0, 1.0])
    np.testing.assert_allclose(unpacked(found.update.arrays["gram"], 2), gram, atol=1e-12)
    assert found.sensitivity == {"sums": 1.0, "gram": 1.0}


def test_names_and_shares() -> None:
    assert find_method("private-prototypes-32-cosine") == Prototypes("private-prototypes-32-cosine", 32, True)
    assert find_method("private-prototypes") == Prototypes("private-prototypes")
    assert 0 < MEAN + COUNT + GRAM < 1
    assert 0 < MEAN_COSINE + COUNT < 1


def test_without_noise_cosine_prototypes_are_the_unit_class_means() -> None:
    study = exact_study("private-prototypes-cosine")
    model = study.outcome(find_method("private-prototypes-cosine")).heads[""]
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("values", "label"))
    rows = unit(values.astype(np.float64))
    centre = rows.mean(axis=0)
    off = rows - centre
    off /= np.linalg.norm(off, axis=1, keepdims=True)
    weight = unit(np.stack([off[label == number].sum(axis=0) for number in range(3)]))
    np.testing.assert_allclose(model.logits(values), (rows - centre) @ weight.T, atol=1e-9)


def test_the_metric_is_the_inverse_of_the_noisy_second_moment() -> None:
    rng = np.random.default_rng(2)
    sums, half = rng.standard_normal((3, 5)), rng.standard_normal((5, 5))
    gram, patients, noise = half @ half.T, 40.0, 0.7
    ridge = noise * math.sqrt(10) / patients + 0.1 * float(np.trace(gram)) / patients / 5
    inverse = np.linalg.inv(gram / patients + ridge * np.eye(5))
    weight = _whitened(sums, gram, patients, noise)
    for found, direction in zip(weight, sums, strict=True):
        np.testing.assert_allclose(found, inverse @ direction / math.sqrt(direction @ inverse @ direction), rtol=1e-9)
    # classes are compared by angle: how many patients a class has does not matter
    np.testing.assert_allclose(_whitened(sums * [[1.0], [2.0], [50.0]], gram, patients, noise), weight, rtol=1e-9)
    # a Gram matrix of noise alone is still a metric
    assert np.isfinite(_whitened(sums, -gram, patients, noise)).all()


@pytest.mark.parametrize("name", ["private-prototypes", "private-prototypes-cosine"])
def test_without_noise_new_cases_are_told_apart(name: str) -> None:
    study = exact_study(name)
    model = study.outcome(find_method(name)).heads[""]
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    values, label = (np.concatenate([getattr(site, part) for site in sites]) for part in ("test_values", "test_label"))
    assert float((model.logits(values).argmax(axis=1) == label).mean()) > 0.7
