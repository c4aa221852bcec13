"""Two-round prototypes: packing keeps length, post-processing, and what the sums are without noise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medtl_core.federation.registry import find_method
from medtl_core.methods.private.centred_sums import (
    LEFT,
    TAKEN_OFF,
    angles,
    metric_of,
    packed,
    patients_of,
    positive,
    private_sums,
    unpacked,
)
from medtl_core.methods.private.prototypes import Prototypes
from medtl_core.privacy.patients import unit
from medtl_core.privacy.plan import Terms
from tests.memory import make_site
from tests.methods.exact_hospitals import trained

TERMS = Terms(4.0, 1e-5, hospitals=10, colluders=1, cases=90, width=464, classes=7, secure=True)


@given(seed=st.integers(0, 2**32 - 1), size=st.integers(1, 12))
def test_packing_keeps_lengths_and_inner_products(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (half + half.T for half in rng.standard_normal((2, size, size)))
    assert packed(one).shape == (size * (size + 1) // 2,)
    assert float(np.linalg.norm(packed(one))) == pytest.approx(float(np.linalg.norm(one)), rel=1e-12)
    assert float(packed(one) @ packed(other)) == pytest.approx(float((one * other).sum()), rel=1e-9, abs=1e-9)
    np.testing.assert_allclose(unpacked(packed(one), size), one, rtol=1e-12, atol=1e-15)


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


def test_a_name_says_size_and_metric() -> None:
    assert find_method("private-prototypes-32-cosine") == Prototypes("private-prototypes-32-cosine", 32, True)
    assert find_method("private-prototypes") == Prototypes("private-prototypes")


def test_without_noise_cosine_prototypes_are_the_unit_class_means() -> None:
    found = trained("private-prototypes-cosine", cases=600)  # so many that the noise reckoned with is nothing
    centre = found.rows.mean(axis=0)
    off = unit(found.rows - centre)
    weight = unit(np.stack([off[found.label == number].sum(axis=0) for number in range(3)]))
    np.testing.assert_allclose(found.model.logits(found.values), (found.rows - centre) @ weight.T, atol=1e-9)


def test_the_metric_is_the_inverse_of_the_noisy_second_moment() -> None:
    half = np.random.default_rng(2).standard_normal((5, 5))
    gram, patients, noise = half @ half.T, 40.0, 0.7
    ridge = noise * math.sqrt(10) / patients + 0.1 * float(np.trace(gram)) / patients / 5
    inverse = np.linalg.inv(gram / patients + ridge * np.eye(5))
    np.testing.assert_allclose(metric_of(gram, patients, noise), inverse, rtol=1e-9)
    sums = np.random.default_rng(3).standard_normal((3, 5))
    weight = angles(sums, inverse, noise=0.0)
    for found, direction in zip(weight, sums, strict=True):
        np.testing.assert_allclose(found, inverse @ direction / math.sqrt(direction @ inverse @ direction), rtol=1e-9)
    # a Gram matrix of noise alone is still a metric
    assert float(np.linalg.eigvalsh(metric_of(-gram, patients, noise)).min()) > 0


def test_classes_are_compared_by_angle_however_many_patients_they_have() -> None:
    sums, inverse = np.array([[3.0, 4.0], [0.0, 2.0]]), np.diag([1.0, 0.25])
    for scaled in (sums, sums * [[1.0], [50.0]]):
        found = angles(scaled, inverse, noise=0.0)
        np.testing.assert_allclose(found, [[3.0 / 13**0.5, 1.0 / 13**0.5], [0.0, 0.5]], rtol=1e-12)


def test_half_of_the_noise_is_taken_off_the_length() -> None:
    sums = np.array([[3.0, 4.0], [0.6, 0.8], [0.3, 0.4]])  # squared lengths 25, 1, .25; noise adds 2 s^2 to each
    assert (TAKEN_OFF, LEFT) == (0.5, 0.1)
    found = np.linalg.norm(angles(sums, np.eye(2), noise=0.8), axis=1)
    np.testing.assert_allclose(found**2, [25 / (25 - 0.64), 1 / (1 - 0.64), 1 / LEFT], rtol=1e-12)


@given(seed=st.integers(0, 2**32 - 1), noise=st.floats(0.0, 10.0))
def test_rare_classes_gain_from_it_and_directions_stay(seed: int, noise: float) -> None:
    sums = np.random.default_rng(seed).standard_normal((4, 6)) * [[1.0], [3.0], [9.0], [27.0]]
    before, after = (angles(sums, np.eye(6), scale) for scale in (0.0, noise))
    np.testing.assert_allclose(unit(after), unit(before), atol=1e-12)
    length = np.linalg.norm(after, axis=1)
    order = np.argsort(np.linalg.norm(sums, axis=1))
    assert (np.diff(length[order]) <= 1e-12).all()
    assert float(length.min()) >= 1 - 1e-12 and float(length.max()) <= LEFT**-0.5 + 1e-9


def test_a_count_below_the_public_number_is_noise_unless_it_is_far_below() -> None:
    plan = Prototypes("private-prototypes").plan(TERMS)
    deviation = plan.steps[0].noise["count"] * math.sqrt(10 / 9)
    assert patients_of(950.0, plan) == 950.0
    assert patients_of(900.0 - 2.9 * deviation, plan) == 900.0
    assert patients_of(900.0 - 3.1 * deviation, plan) == pytest.approx(900.0 - 3.1 * deviation)
    assert patients_of(-1e9, plan) == 2.0
