"""Private heads without their noise are scikit-learn's, torch's or plain descent, on rows of length one."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid

from medtl_core.config import settings
from medtl_core.federation.registry import find_method
from medtl_core.heads.linear import softmax
from medtl_core.methods.private.auto import PrivateAuto, share_of
from medtl_core.methods.private.centred_sums import (
    LEFT,
    angles,
    metric_of,
    packed,
    patients_of,
    positive,
    private_sums,
    unpacked,
)
from medtl_core.methods.private.clipped_gradient import RATE, clipped_gradient
from medtl_core.methods.private.prototypes import Prototypes
from medtl_core.privacy.patients import Patients, by_patient, unit
from medtl_core.privacy.plan import Terms
from tests.memory import make_site
from tests.methods.exact_hospitals import exact_study, trained


def test_nearest_mean_is_nearest_centroid() -> None:
    found = trained("private-mean")
    logits, oracle = found.model.logits(found.values), NearestCentroid().fit(found.rows, found.label)
    assert logits.argmax(axis=1).tolist() == oracle.predict(found.rows).tolist()
    gaps = -0.5 * ((found.rows[:, None] - oracle.centroids_[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(logits - logits[:, :1], gaps - gaps[:, :1], atol=1e-6)


@pytest.mark.parametrize("name", ["private-prototypes", "private-prototypes-cosine", "private-auto"])
def test_without_noise_new_cases_are_told_apart(name: str) -> None:
    found = trained(name)
    assert found.accuracy() > 0.7
    assert found.asked == ["private_mean", "private_sums"]  # private-auto's choice is made before any hospital is asked


def test_a_class_that_noise_made_negative_is_taken_as_a_fifth_of_its_share() -> None:
    """Hospitals of one class only: the empty classes' means do not blow up."""
    study = exact_study("private-mean")
    for site in study.hospitals.sites.values():  # type: ignore[attr-defined]
        site.label[:] = 0
    model: Any = study.outcome(find_method("private-mean")).heads[""]
    assert np.isfinite(model.weight).all()
    assert model.weight[1:].tolist() == np.zeros((2, 6)).tolist()


def by_torch(head: np.ndarray, patients: Patients, clip: float) -> np.ndarray:
    """The gradient of every patient by itself, clipped, summed."""
    import torch

    total = torch.zeros(head.shape, dtype=torch.float64)
    for row, label in zip(patients.rows, patients.label, strict=True):
        weight = torch.tensor(head, dtype=torch.float64, requires_grad=True)
        loss = torch.nn.functional.cross_entropy((weight @ torch.tensor(row))[None], torch.tensor([int(label)]))
        (slope,) = torch.autograd.grad(loss, weight)
        total += slope * min(1.0, clip / max(float(slope.norm()), 1e-300))
    return total.numpy()


@pytest.mark.parametrize("clip", [0.05, 0.5, 1.0, 10.0])
@pytest.mark.parametrize("cases", [1, 3])
def test_the_closed_form_is_one_at_a_time_backward_and_clip(clip: float, cases: int) -> None:
    rng = np.random.default_rng(cases)
    for length in (0.0, 1.0, 50.0):
        names = np.repeat(np.arange(17), cases).astype(str)
        rows = unit(rng.standard_normal((len(names), 5)))
        patients = by_patient(rows, rng.integers(4, size=len(names)).astype(np.int64), names)
        head = length * rng.standard_normal((4, 5))
        found = clipped_gradient(head, patients, clip)
        np.testing.assert_allclose(found, by_torch(head, patients, clip), rtol=1e-5, atol=1e-12)


def test_without_noise_it_is_plain_descent_on_all_patients() -> None:
    found, head = trained("private-gradient-7"), np.zeros((3, 6))
    for _ in range(7):  # residuals are shorter than sqrt 2: the first steps are clipped in no patient at a zero head
        residual = softmax(found.rows @ head.T) - np.eye(3)[found.label]
        length = np.linalg.norm(residual, axis=1, keepdims=True)
        head -= RATE / len(found.label) * (residual * np.minimum(1, 1 / length)).T @ found.rows
    np.testing.assert_allclose(found.model.weight, head, rtol=1e-9)
    assert float((found.model.logits(found.values).argmax(axis=1) == found.label).mean()) > 0.5
    assert found.phases == {"private-gradient-7:private_counts", "private-gradient-7:private_gradient"}


# ---- the choice of a mechanism: public facts only, its rule in literals ----

AUTO = PrivateAuto("private-auto")
FACTS = Terms(1.0, 1e-5, hospitals=10, colluders=1, cases=50, width=696, classes=7, secure=True)


@pytest.mark.parametrize(
    ("changes", "size", "cosine"),
    [
        ({"epsilon": 4.0, "cases": 90}, 100, False),  # S = 298.3
        ({"cases": 90}, 52, False),  # 86.5
        ({"cases": 60}, 35, False),  # 57.7
        ({}, 29, True),  # 48.0
        ({"hospitals": 5, "cases": 30}, 16, True),  # 13.6
    ],
)
def test_the_rule(changes: dict[str, Any], size: int, cosine: bool) -> None:
    assert AUTO.chosen(replace(FACTS, **changes)) == Prototypes("private-auto", size, cosine)


@pytest.mark.parametrize(
    ("changes", "size"),
    [({}, 29), ({"public-images": "own/folder"}, 58), ({"backbone": "table", "data": "heart_uci"}, 100)],
)
def test_where_the_directions_come_from_changes_their_number_and_not_the_plan(
    changes: dict[str, str], size: int
) -> None:
    chosen = AUTO.chosen(FACTS, share_of(settings({"data": "phantom", **changes})))
    assert chosen == Prototypes("private-auto", size, True)
    assert chosen.plan(FACTS) == AUTO.plan(FACTS)


# ---- prototypes: packing keeps length, post-processing, and what the sums are without noise ----


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


def test_half_of_the_noise_is_taken_off_the_length() -> None:
    sums = np.array([[3.0, 4.0], [0.6, 0.8], [0.3, 0.4]])  # squared lengths 25, 1, .25; noise adds 2 s^2 to each
    found = np.linalg.norm(angles(sums, np.eye(2), noise=0.8), axis=1)
    np.testing.assert_allclose(found**2, [25 / (25 - 0.64), 1 / (1 - 0.64), 1 / LEFT], rtol=1e-12)


def test_a_count_below_the_public_number_is_noise_unless_it_is_far_below() -> None:
    plan = Prototypes("private-prototypes").plan(replace(FACTS, epsilon=4.0, cases=90))
    deviation = plan.steps[0].noise["count"] * math.sqrt(10 / 9)
    assert patients_of(950.0, plan) == 950.0
    assert patients_of(900.0 - 2.9 * deviation, plan) == 900.0
    assert patients_of(900.0 - 3.1 * deviation, plan) == pytest.approx(900.0 - 3.1 * deviation)
    assert patients_of(-1e9, plan) == 2.0
