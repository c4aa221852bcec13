"""Losses against torch's own gradients and against independent formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medtl_core.errors import ConfigError
from medtl_core.heads.linear import class_weights
from medtl_core.methods.imbalance import LOSSES, find_loss, log_share

COUNTS = np.array([30.0, 9.0, 1.0])
LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0], [30.0, 0.0, -30.0]])
LABEL = np.array([0, 1, 2, 0])


@pytest.mark.parametrize("name", LOSSES)
def test_the_residual_is_torch_autograd_of_the_value(name: str) -> None:
    import torch

    loss = find_loss(name, COUNTS)
    logits = torch.tensor(LOGITS, requires_grad=True)
    loss.value(logits, torch.tensor(LABEL)).backward()
    assert logits.grad is not None
    np.testing.assert_allclose(loss.residual(LOGITS, LABEL) / len(LABEL), logits.grad.numpy(), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(arrays(np.float64, (5, 3), elements=st.floats(-20, 20)), st.sampled_from(sorted(LOSSES)))
def test_residuals_are_finite_and_sum_to_zero_over_classes(logits: np.ndarray, name: str) -> None:
    residual = find_loss(name, COUNTS).residual(logits, np.array([0, 1, 2, 1, 0]))
    assert np.isfinite(residual).all()
    np.testing.assert_allclose(residual.sum(axis=1), 0.0, atol=1e-9)


def test_losses_against_independent_formulas() -> None:
    import torch
    from torch.nn.functional import cross_entropy

    logits, label = torch.tensor(LOGITS), torch.tensor(LABEL)
    made = {name: float(find_loss(name, COUNTS).value(logits, label)) for name in LOSSES}
    weight = torch.tensor(class_weights(COUNTS))
    assert made["cross-entropy"] == pytest.approx(float(cross_entropy(logits, label)))
    assert made["class-weighted"] == pytest.approx(
        float(cross_entropy(logits, label, weight=weight, reduction="sum")) / 4
    )
    # balanced softmax as the paper writes it: n_y e^z_y / sum_c n_c e^z_c
    scaled = torch.tensor([30.0, 9.0, 1.0]) * logits.exp()
    own = scaled.gather(1, label[:, None])[:, 0] / scaled.sum(dim=1)
    assert made["balanced-softmax"] == pytest.approx(float(-own.log().mean()))


def test_a_class_the_hospital_lacks_is_floored() -> None:
    np.testing.assert_allclose(np.exp(log_share(np.array([99.0, 1.0, 0.0]))), [0.99, 0.01, 0.01])


def test_balanced_logits_answer_alike_under_any_prior() -> None:
    """With the log prior as offset, the best constant classifier is the uniform one."""
    label = np.repeat([0, 1, 2], COUNTS.astype(int))
    residual = find_loss("balanced-softmax", COUNTS).residual(np.zeros((len(label), 3)), label)
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-12)


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'class-weighted'"):
        find_loss("class-weightd", COUNTS)
    for counts in ([0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [[1.0, 2.0]]):
        with pytest.raises(ConfigError, match="non-negative case count"):
            find_loss("class-weighted", np.array(counts))
