"""Per-patient gradients by Opacus against one-at-a-time autograd, and what it would not refuse by itself."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medtl_core.errors import PrivacyError
from medtl_core.methods.private.samplegrad import Cases, check_network, clipped_sum, flat, parameter_names, parted


class Block(nn.Module):
    """A residual block that trains under Opacus: GroupNorm, no ReLU in place, a sum that is a new tensor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(2, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(2, channels)

    def forward(self, images: Tensor) -> Tensor:
        middle = torch.relu(self.norm1(self.conv1(images)))
        return torch.relu(self.norm2(self.conv2(middle)) + images)


def linear() -> nn.Module:
    return nn.Linear(5, 3)


def hidden() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 1, 5)), nn.Conv2d(1, 4, 3, padding=1), Block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 3),
    )  # fmt: skip


def channels_last() -> nn.Module:
    """Maps that lie "channels last" in memory, and a depthwise convolution: Opacus' own rule is wrong on them."""
    layers = nn.Sequential(
        nn.Unflatten(1, (1, 1, 5)), nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Tanh(), Block(4),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3),
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
    return Cases(rng.standard_normal((count, width)), rng.integers(3, size=count).astype(np.int64), names)


def one_at_a_time(network: nn.Module, own: Cases, clip: float) -> np.ndarray:
    """A patient's cases by themselves through plain autograd, float64; mean loss, clip, sum."""
    network = network.double()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    total = torch.zeros(sum(parameter.numel() for parameter in trained), dtype=torch.float64)
    for name in np.unique(own.patients):
        mine = own.patients == name
        slopes = []
        for row, label in zip(own.values[mine], own.label[mine], strict=True):
            logits = network(torch.tensor(row, dtype=torch.float64)[None])
            cost = functional.cross_entropy(logits, torch.tensor([int(label)]))
            slopes.append(torch.cat([slope.ravel() for slope in torch.autograd.grad(cost, trained)]))
        mean = torch.stack(slopes).mean(dim=0)
        total += mean * min(1.0, clip / float(mean.norm()))
    return total.numpy()


@pytest.mark.parametrize("network", [linear, hidden, convolutional, channels_last, dropping, frozen_front])
@pytest.mark.parametrize("each", [1, 3])
@pytest.mark.parametrize("clip", [0.05, 1.0, 100.0])
def test_the_sum_is_that_of_one_patient_at_a_time(network: Callable[[], nn.Module], each: int, clip: float) -> None:
    own = cases(7, each)
    found = clipped_sum(made(network), own, clip)
    expected = one_at_a_time(made(network), own, clip)
    np.testing.assert_allclose(found.update.arrays["gradient"], expected, rtol=1e-5, atol=1e-12)
    assert found.sensitivity == {"gradient": clip}
    assert np.linalg.norm(found.update.arrays["gradient"]) <= 7 * clip * (1 + 1e-9)


def test_patients_of_unequal_size_count_alike_and_batches_change_nothing() -> None:
    own = cases(4, 3)
    own.patients[:] = np.array(list("aaaaaaaabbcd"))
    whole = clipped_sum(made(hidden), own, 0.1).update.arrays["gradient"]
    np.testing.assert_allclose(whole, one_at_a_time(made(hidden), own, 0.1), rtol=1e-5)
    for batch in (1, 5, 12):
        parts = clipped_sum(made(hidden), own, 0.1, batch=batch).update.arrays["gradient"]
        np.testing.assert_allclose(parts, whole, rtol=1e-10)


def test_weights_of_cases_come_before_the_mean_and_the_clip() -> None:
    own = cases(5, 3)
    plain = replace(own, patients=np.arange(15).astype(str))  # one patient a case, nothing clipped: slopes by case
    weight = np.linspace(0.0, 2.0, 15)
    slopes = np.stack([
        clipped_sum(made(hidden), Cases(own.values[[row, row]], own.label[[row, row]], np.array(["a", "b"])), 1e9)
        .update.arrays["gradient"] / 2
        for row in range(15)
    ])  # fmt: skip
    found = clipped_sum(made(hidden), replace(plain, weight=weight), 1e9).update.arrays["gradient"]
    np.testing.assert_allclose(found, weight @ slopes, rtol=1e-9)
    means = np.stack(
        [(weight[:, None] * slopes)[own.patients == name].mean(axis=0) for name in np.unique(own.patients)]
    )
    short = np.minimum(1.0, 0.1 / np.linalg.norm(means, axis=1)) @ means
    found = clipped_sum(made(hidden), replace(own, weight=weight), 0.1).update.arrays["gradient"]
    np.testing.assert_allclose(found, short, rtol=1e-9)
    assert np.linalg.norm(found) <= 5 * 0.1 * (1 + 1e-9)


def test_units_of_parameters_come_before_the_clip() -> None:
    own, units = cases(6, 2), np.linspace(0.1, 2.0, 18)
    slopes = np.stack([
        clipped_sum(made(linear), replace(own, patients=np.where(own.patients == name, name, "rest")), 1e9, batch=3)
        .update.arrays["gradient"] - one_at_a_time(made(linear), rest(own, name), 1e9)
        for name in np.unique(own.patients)
    ])  # fmt: skip
    scaled = slopes * units
    expected = np.minimum(1.0, 0.3 / np.linalg.norm(scaled, axis=1)) @ scaled
    found = clipped_sum(made(linear), own, 0.3, batch=5, units=units).update.arrays["gradient"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def rest(own: Cases, name: str) -> Cases:
    """Everybody else, as one patient."""
    others = own.patients != name
    assert isinstance(own.values, np.ndarray)
    return Cases(own.values[others], own.label[others], np.full(int(others.sum()), "rest"))


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
    found = clipped_sum(made(hidden), Cases(reader, own.label, own.patients), 0.1, batch=3).update.arrays["gradient"]
    np.testing.assert_allclose(found, one_at_a_time(made(hidden), own, 0.1), rtol=1e-5)
    assert reader.asked == [3, 3, 1, 3, 2]  # a by itself; b and c; d and e


def test_the_network_is_left_as_it_was() -> None:
    network = made(convolutional)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    clipped_sum(network, cases(3, 2), 1.0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None and not hasattr(parameter, "grad_sample") for parameter in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_names_have_no_prefix_of_opacus_and_order_the_vector() -> None:
    network = made(frozen_front)
    assert parameter_names(network) == ("2.weight", "2.bias")
    shapes = {name: tuple(network.get_parameter(name).shape) for name in parameter_names(network)}
    again = parted(flat(network), shapes)
    assert all(np.array_equal(again[name], network.get_parameter(name).detach().double().numpy()) for name in shapes)


class Subclassed(nn.BatchNorm1d):
    """As timm's BatchNormAct2d: Opacus compares exact types and does not see it."""


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(4),
        Subclassed(4),
        nn.SyncBatchNorm(4),
        nn.InstanceNorm1d(4, affine=True, track_running_stats=True),
    ],
)
@pytest.mark.parametrize("state", ["training", "frozen in training mode", "trainable in eval mode"])
def test_a_norm_over_patients_is_refused(norm: nn.Module, state: str) -> None:
    network = nn.Sequential(nn.Linear(5, 4), norm, nn.Linear(4, 3))
    network.train()
    norm.requires_grad_(state != "frozen in training mode").train(state != "trainable in eval mode")
    with pytest.raises(PrivacyError, match=r"1 \(.*averages over patients"):
        check_network(network)
    norm.requires_grad_(False).eval()
    check_network(network)


def test_timms_norm_is_refused_too() -> None:
    from timm.layers import BatchNormAct2d

    with pytest.raises(PrivacyError, match="BatchNormAct2d"):
        check_network(nn.Sequential(nn.Conv2d(3, 4, 3), BatchNormAct2d(4)))


@pytest.mark.parametrize("patients", [0, 1])
def test_nobody_and_a_single_patient_take_no_part(patients: int) -> None:
    with pytest.raises(PrivacyError, match="fewer than two patients"):
        clipped_sum(made(linear), cases(patients, 3), 1.0)


@pytest.mark.parametrize("batch", [13, 1000, -1])
def test_a_batch_beyond_the_cases_is_refused(batch: int) -> None:
    with pytest.raises(PrivacyError, match="beyond the 12 cases"):
        clipped_sum(made(linear), cases(4, 3), 1.0, batch=batch)


@pytest.mark.parametrize("clip", [0.0, -1.0, np.nan, np.inf])
def test_a_clip_that_is_none_is_refused(clip: float) -> None:
    with pytest.raises(PrivacyError, match="must be a positive number"):
        clipped_sum(made(linear), cases(4, 3), clip)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_broken_case_gives_no_sum(value: float) -> None:
    own = cases(4, 3)
    own.values[5, 2] = value
    with pytest.raises(PrivacyError, match="not finite"):
        clipped_sum(made(hidden), own, 1.0)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(PrivacyError, match="nothing to train"):
        clipped_sum(made(linear).requires_grad_(False), cases(3, 1), 1.0)


def striped() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), Block(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


def test_a_groupnorm_block_really_trains() -> None:
    """Upright and lying stripes; clipped full-batch descent with noise of the size of one patient and a half."""
    rng, network, label = np.random.default_rng(0), made(striped).double(), np.arange(30) % 2
    stripes = np.where(label[:, None, None], np.arange(6) % 2, (np.arange(6) % 2)[:, None])
    images = (stripes + 0.3 * rng.standard_normal((30, 6, 6)))[:, None] - 0.5
    own = Cases(images, label.astype(np.int64), np.array([f"p{number}" for number in range(30)]))
    before = flat(network)
    for _ in range(15):
        slope = clipped_sum(network, own, 1.0).update.arrays["gradient"]
        moved = flat(network) - 3.0 * (slope + 1.5 * rng.standard_normal(len(slope))) / 30
        nn.utils.vector_to_parameters(torch.from_numpy(moved), network.parameters())
    with torch.no_grad():
        right = network(torch.from_numpy(images)).argmax(dim=1).numpy() == label
    assert right.mean() >= 0.9
    assert (flat(network) != before).all()
