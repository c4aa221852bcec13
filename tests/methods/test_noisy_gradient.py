"""Clipped gradients in closed form against torch, one patient at a time; and the descent without noise."""

import numpy as np
import pytest

from medtl_core.errors import PrivacyError
from medtl_core.federation.registry import find_method
from medtl_core.heads.linear import softmax
from medtl_core.methods.private.gradient import RATE, clipped_gradient
from medtl_core.privacy.patients import Patients, by_patient, unit
from tests.methods.exact_hospitals import exact_study


def by_torch(head: np.ndarray, own: Patients, clip: float) -> np.ndarray:
    """The gradient of every patient by itself, clipped, summed."""
    import torch

    total = torch.zeros(head.shape, dtype=torch.float64)
    for row, label in zip(own.rows, own.label, strict=True):
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
        own = by_patient(rows, rng.integers(4, size=len(names)).astype(np.int64), names)
        head = length * rng.standard_normal((4, 5))
        np.testing.assert_allclose(clipped_gradient(head, own, clip), by_torch(head, own, clip), rtol=1e-5, atol=1e-12)


def test_nobody_has_no_gradient_and_a_zero_row_none_either() -> None:
    nobody = Patients(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert clipped_gradient(np.ones((2, 3)), nobody).tolist() == np.zeros((2, 3)).tolist()
    blank = Patients(np.zeros((4, 3)), np.ones(4, np.int64))
    assert clipped_gradient(np.ones((2, 3)), blank).tolist() == np.zeros((2, 3)).tolist()


def test_a_head_that_is_not_finite_gives_no_finite_sum_and_a_row_that_is_not_is_refused() -> None:
    own = Patients(unit(np.ones((2, 3))), np.zeros(2, np.int64))
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(clipped_gradient(np.full((2, 3), np.nan), own)).all()  # the gate refuses it
    with pytest.raises(PrivacyError, match="not finite"):
        by_patient(np.full((1, 3), np.nan), np.zeros(1, np.int64), np.array(["a"]))


def test_without_noise_it_is_plain_descent_on_all_patients() -> None:
    study = exact_study("private-gradient-7")
    model = study.outcome(find_method("private-gradient-7")).heads[""]
    sites = study.hospitals.sites.values()  # type: ignore[attr-defined]
    values, label = (np.concatenate([getattr(site, name) for site in sites]) for name in ("values", "label"))
    rows, head = unit(values.astype(np.float64)), np.zeros((3, 6))
    for _ in range(7):  # residuals are shorter than sqrt 2: the first steps are clipped in no patient at a zero head
        residual = softmax(rows @ head.T) - np.eye(3)[label]
        length = np.linalg.norm(residual, axis=1, keepdims=True)
        head -= RATE / len(label) * (residual * np.minimum(1, 1 / length)).T @ rows
    np.testing.assert_allclose(model.weight, head, rtol=1e-9)  # type: ignore[union-attr]
    chosen = model.logits(values).argmax(axis=1)
    assert float((chosen == label).mean()) > 0.5
    phases = study.outcome(find_method("private-gradient-7")).bill
    assert set(phases) == {"private-gradient-7:private_counts", "private-gradient-7:private_gradient"}
