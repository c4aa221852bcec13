"""Losses against torch's own gradients, orders by literals, the rule by its table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medtl_core.errors import ConfigError
from medtl_core.heads.linear import class_weights
from medtl_core.transfer.imbalance import (
    LOSSES,
    ORDERS,
    Focal,
    balanced_order,
    find_loss,
    log_share,
    loss_function,
    order,
    rule,
)

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
    made = {name: float(loss_function(name, COUNTS)(logits, label)) for name in LOSSES}
    weight = torch.tensor(class_weights(COUNTS))
    assert made["cross-entropy"] == pytest.approx(float(cross_entropy(logits, label)))
    assert made["class-weighted"] == pytest.approx(
        float(cross_entropy(logits, label, weight=weight, reduction="sum")) / 4
    )
    # balanced softmax as the paper writes it: n_y e^z_y / sum_c n_c e^z_c
    scaled = torch.tensor([30.0, 9.0, 1.0]) * logits.exp()
    own = scaled.gather(1, label[:, None])[:, 0] / scaled.sum(dim=1)
    assert made["balanced-softmax"] == pytest.approx(float(-own.log().mean()))


def test_focal_by_hand() -> None:
    import torch

    # two equal logits: p = 1/2, so the loss is (1/2)^2 log 2
    assert float(Focal(2.0).value(torch.zeros(1, 2), torch.tensor([0]))) == pytest.approx(0.25 * np.log(2))
    certain = Focal(2.0).residual(np.array([[80.0, 0.0]]), np.array([0]))
    np.testing.assert_allclose(certain, 0.0, atol=1e-30)


def test_a_class_the_hospital_lacks_is_floored() -> None:
    np.testing.assert_allclose(np.exp(log_share(np.array([99.0, 1.0, 0.0]))), [0.99, 0.01, 0.01])


def test_balanced_logits_answer_alike_under_any_prior() -> None:
    """With the log prior as offset, the best constant classifier is the uniform one."""
    label = np.repeat([0, 1, 2], COUNTS.astype(int))
    residual = find_loss("balanced-softmax", COUNTS).residual(np.zeros((len(label), 3)), label)
    np.testing.assert_allclose(residual.mean(axis=0), 0.0, atol=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 5))
def test_balanced_order_shows_present_classes_alike(cases: list[int], seed: int) -> None:
    label = np.array(cases, dtype=np.int64)
    chosen = balanced_order(label, np.random.default_rng(seed))
    again = balanced_order(label, np.random.default_rng(seed))
    assert chosen.tolist() == again.tolist() and len(chosen) == len(label)
    shown = np.bincount(label[chosen], minlength=4)[np.unique(label)]
    assert not len(shown) or shown.max() - shown.min() <= 1
    for name in np.unique(label):  # a repeated class shows each of its cases as often as the others, up to one
        seen = np.bincount(chosen, minlength=len(label))[label == name]
        assert seen.max() - seen.min() <= 1


def test_shuffled_order_is_a_permutation_in_batches() -> None:
    label = np.array([0, 0, 0, 1, 1])
    batches = order("shuffled", label, 2, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3, 4]
    assert order("balanced", label[:0], 2, np.random.default_rng(0)) == []
    assert set(ORDERS) == {"shuffled", "balanced"}


@pytest.mark.parametrize(
    ("classes", "shots", "where"),
    [
        (2, 10, "post-hoc"),  # pneumonia yes or no, few cases: calibration cost 2 to 3 points
        (3, 10, "post-hoc"),
        (3, 49, "post-hoc"),
        (3, 100, "logit-adjusted"),
        (2, 50, "logit-adjusted"),
        (7, 90, "logit-adjusted"),
        (10, 25, "logit-adjusted"),
    ],
)
def test_the_rule(classes: int, shots: float, where: str) -> None:
    assert rule(np.arange(1.0, classes + 1), shots) == where
    assert where in {"post-hoc", *LOSSES}


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'focal'"):
        loss_function("focl", COUNTS)
    for counts in ([0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [[1.0, 2.0]]):
        with pytest.raises(ConfigError, match="non-negative case count"):
            find_loss("focal", np.array(counts))
    with pytest.raises(ConfigError, match="did you mean 'balanced'"):
        order("balansed", LABEL, 2, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="at least 1"):
        order("balanced", LABEL, 0, np.random.default_rng(0))
