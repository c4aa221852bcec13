"""Private heads without their noise are scikit-learn's, torch's or plain descent, on rows of length one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from medtl_core.config import settings
from medtl_core.federation.registry import find_method
from medtl_core.heads.linear import softmax
from medtl_core.methods.private.auto import PrivateAuto, share_of
from medtl_core.methods.private.clipped_gradient import RATE, clipped_gradient
from medtl_core.methods.private.prototypes import Prototypes
from medtl_core.privacy.patients import Patients, by_patient, unit
from medtl_core.privacy.plan import Terms
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


def test_nobody_and_a_zero_row_have_no_gradient_and_what_is_not_finite_gives_no_finite_sum() -> None:
    for patients in (Patients(np.zeros((0, 3)), np.zeros(0, np.int64)), Patients(np.zeros((4, 3)), np.ones(4, int))):
        assert clipped_gradient(np.ones((2, 3)), patients).tolist() == np.zeros((2, 3)).tolist()
    patients = Patients(unit(np.ones((2, 3))), np.zeros(2, np.int64))
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(clipped_gradient(np.full((2, 3), np.nan), patients)).all()  # the gate refuses it


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
FACTS = Terms(1.0, 1e-5, hospitals=10, colluders=1, cases=50, width=464, classes=7, secure=True)


@pytest.mark.parametrize(
    ("changes", "size", "cosine"),
    [
        ({"epsilon": 4.0, "cases": 90}, 100, False),  # S = 298.3
        ({"cases": 90}, 35, False),  # 86.5
        ({"cases": 60}, 23, False),  # 57.7
        ({}, 19, True),  # 48.0
        ({"hospitals": 5, "cases": 30}, 16, True),  # 13.6
    ],
)
def test_the_rule(changes: dict[str, Any], size: int, cosine: bool) -> None:
    assert AUTO.chosen(replace(FACTS, **changes)) == Prototypes("private-auto", size, cosine)


@pytest.mark.parametrize(
    ("changes", "size"),
    [({}, 19), ({"public-images": "own/folder"}, 58), ({"backbone": "table", "data": "heart_uci"}, 100)],
)
def test_where_the_directions_come_from_changes_their_number_and_not_the_plan(
    changes: dict[str, str], size: int
) -> None:
    chosen = AUTO.chosen(FACTS, share_of(settings({"data": "phantom", **changes})))
    assert chosen == Prototypes("private-auto", size, True)
    assert chosen.plan(FACTS) == AUTO.plan(FACTS)


def test_the_plan_is_that_of_the_chosen_prototypes_under_its_own_name() -> None:
    terms = replace(FACTS, cases=90, secure=False)
    plan = AUTO.plan(terms)
    assert plan == AUTO.chosen(terms).plan(terms)
    assert plan.mechanism == "private-auto"
    assert ["gram" in step.noise for step in plan.steps] == [False, False]
