"""Per-patient gradients by Opacus against one-at-a-time autograd, and what it would not refuse by itself."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medtl_core.errors import PrivacyError
from medtl_core.methods.private.samplegrad import Cases, check_network, clipped_sum
from medtl_core.privacy.bounded import Bounded


def linear() -> nn.Module:
    return nn.Linear(5, 3)


def hidden() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def channels_last() -> nn.Module:
    """Maps that lie "channels last" in memory, and a depthwise convolution: Opacus' own rule is wrong on them."""
    layers = nn.Sequential(
        nn.Unflatten(1, (1, 1, 5)), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Tanh(),
        nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    return layers.to(memory_format=torch.channels_last)


def dropping() -> nn.Module:
    """Dropout in evaluation mode, as in a frozen backbone: it stays so, though Opacus wants layers in training mode."""
    return nn.Sequential(nn.Linear(5, 64), nn.Dropout(0.9), nn.Linear(64, 3)).eval()


def frozen_front() -> nn.Module:
    network = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    for layer in network[:2]:
        layer.requires_grad_(False).eval()
    return network


def made(network: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return network()


def cases(patients: int, each: int, seed: int = 0, width: int = 5) -> Cases:
    rng = np.random.default_rng(seed)
    names = rng.permutation(np.repeat([f"p{number}" for number in range(patients)], each))
    count = len(names)
    label = rng.integers(3, size=count).astype(np.int64)
    return Cases(rng.standard_normal((count, width)), label, names, np.ones(count))


def summed(network: nn.Module, own: Cases, clip: float, units: float | np.ndarray = 1.0, batch: int = 0) -> Bounded:
    """`clipped_sum` with units of one, and all cases at once, where nothing else is said."""
    size = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return clipped_sum(network, own, clip, units * np.ones(size), batch=batch or len(own.label) or 1)


def one_at_a_time(network: nn.Module, own: Cases, clip: float, units: float | np.ndarray = 1.0) -> np.ndarray:
    """Every case by itself through plain autograd, float64; then patient by patient: weigh, mean, scale, clip, sum."""
    network = network.double()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    slopes = []
    for row, label in zip(own.values, own.label, strict=True):  # type: ignore[call-overload]
        logits = network(torch.tensor(row, dtype=torch.float64)[None])
        cost = functional.cross_entropy(logits, torch.tensor([int(label)]))
        slopes.append(torch.cat([slope.ravel() for slope in torch.autograd.grad(cost, trained)]).numpy())
    weighed = np.stack(slopes) * own.weight[:, None]
    means = [weighed[own.patients == name].mean(axis=0) * units for name in np.unique(own.patients)]
    return np.sum([mean * min(1.0, clip / float(np.linalg.norm(mean))) for mean in means], axis=0)


@pytest.mark.parametrize("network", [linear, hidden, channels_last, dropping, frozen_front])
@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
def test_the_sum_is_that_of_one_patient_at_a_time(network: Callable[[], nn.Module], each: int, clip: float) -> None:
    own = cases(7, each)
    found = summed(made(network), own, clip)
    expected = one_at_a_time(made(network), own, clip)
    np.testing.assert_allclose(found.update.arrays["gradient"], expected, rtol=1e-5, atol=1e-12)
    assert found.sensitivity == {"gradient": clip}
    assert np.linalg.norm(found.update.arrays["gradient"]) <= 7 * clip * (1 + 1e-9)


@pytest.mark.parametrize("units", [1.0, np.linspace(0.1, 2.0, 39)], ids=["one unit", "units"])
@pytest.mark.parametrize("batch", [1, 5, 12])
def test_patients_count_alike_in_any_batch_and_weights_and_units_come_before_the_clip(
    batch: int, units: float | np.ndarray
) -> None:
    own = replace(cases(4, 3), patients=np.array(list("aaaaaaaabbcd")), weight=np.linspace(0.0, 2.0, 12))
    found = summed(made(hidden), own, 0.1, units, batch).update.arrays["gradient"]
    np.testing.assert_allclose(found, one_at_a_time(made(hidden), own, 0.1, units), rtol=1e-9, atol=1e-12)
    assert np.linalg.norm(found) <= 4 * 0.1 * (1 + 1e-9)


class Reader:
    """Rows that are made when they are asked for, and how many at once."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.asked = values, list[int]()

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self.asked.append(len(rows))
        return self.values[rows]


def test_rows_are_read_a_batch_at_a_time() -> None:
    """No more than `batch` cases at once, though one patient has more; nothing else limits the memory."""
    own = cases(6, 2)
    own.patients[:] = np.array(list("aaaaaaabbcde"))
    assert isinstance(own.values, np.ndarray)
    reader = Reader(own.values)
    read = Cases(reader, own.label, own.patients, own.weight)
    found = summed(made(hidden), read, 0.1, batch=3).update.arrays["gradient"]
    np.testing.assert_allclose(found, one_at_a_time(made(hidden), own, 0.1), rtol=1e-5)
    assert reader.asked == [3, 3, 1, 3, 2]  # a by itself; b and c; d and e


class Subclassed(nn.BatchNorm1d):
    """As timm's BatchNormAct2d: Opacus compares exact types and does not see it."""


def timms_norm() -> nn.Module:
    from timm.layers import BatchNormAct2d

    return BatchNormAct2d(4)


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm1d(4), lambda: Subclassed(4), lambda: nn.SyncBatchNorm(4),
        lambda: nn.InstanceNorm1d(4, affine=True, track_running_stats=True), timms_norm,
    ],
)  # fmt: skip
@pytest.mark.parametrize("state", ["training", "frozen in training mode", "trainable in eval mode"])
def test_a_norm_over_patients_is_refused(norm: Callable[[], nn.Module], state: str) -> None:
    network = nn.Sequential(nn.Linear(5, 4), norm(), nn.Linear(4, 3))
    network.train()
    network[1].requires_grad_(state != "frozen in training mode").train(state != "trainable in eval mode")
    with pytest.raises(PrivacyError, match="averages over patients"):
        check_network(network)
    network[1].requires_grad_(False).eval()
    check_network(network)


@pytest.mark.parametrize(
    ("patients", "changes"),
    [
        (4, {"batch": -1}),
        *((4, {"clip": clip}) for clip in (0.0, -1.0, np.nan, np.inf)),
    ],
)  # fmt: skip
def test_a_wrong_batch_and_a_clip_that_is_none_are_refused(patients: int, changes: dict) -> None:
    with pytest.raises(PrivacyError):
        summed(made(linear), cases(patients, 3), **{"clip": 1.0, **changes})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("batch", [0, 4])
def test_a_patient_without_a_finite_gradient_adds_nothing_and_changes_no_other(value: float, batch: int) -> None:
    own = cases(4, 3)
    own.values[5, 2] = value  # type: ignore[index]
    others = own.patients != own.patients[5]
    rest = Cases(own.values[others], own.label[others], own.patients[others], own.weight[others])
    found, wanted = (summed(made(linear), some, 1.0, batch=batch).update.arrays["gradient"] for some in (own, rest))
    if value < np.inf:  # the loss of one case is linear far out, and so its gradient is finite
        assert np.isfinite(found).all()
        assert np.linalg.norm(found - wanted) <= 1.0 + 1e-9
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_nobody_and_a_single_patient_are_summed_like_all() -> None:
    assert not summed(made(linear), cases(0, 3), 1.0).update.arrays["gradient"].any()
    alone = summed(made(linear), cases(1, 3), 1.0).update.arrays["gradient"]
    np.testing.assert_allclose(alone, one_at_a_time(made(linear), cases(1, 3), 1.0), rtol=1e-9)


def test_nothing_to_train_gives_no_sum() -> None:
    with pytest.raises(PrivacyError, match="nothing to train"):
        summed(made(linear).requires_grad_(False), cases(3, 1), 1.0)
