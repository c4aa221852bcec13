"""A backbone's last blocks, case by case: the agreed features at the start, autograd's gradients, and refusals."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medtl_core.backbones.grouped import Grouped
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, PrivacyError, WeightsError
from medtl_core.methods.finetune.split_backbone import open_body
from medtl_core.methods.private.block import Block, Seen, open_block
from medtl_core.methods.private.samplegrad import Cases, check_network, clipped_sum, parted
from medtl_core.privacy.patients import PublicMap
from medtl_core.values import Array
from tests.methods.pictures import SETTINGS, VIEWS, material

#: Backbone, taps: depthwise and plain convolutions; residual sums, squeeze-and-excitation and norms kept as constants;
#: no norm at all; tokens and layer norms.
BACKBONES = {
    "lite0": ("lite0", "1+4"),
    "resnet18": ("random:resnet18", "plain"),
    "mobilenet": ("random:mobilenet_v3_small", "plain"),
    "squeezenet": ("random:squeezenet1_1", "3+6"),
    "transformer": ("random:timm:test_vit", "plain"),
}
NORMED = ("lite0", "resnet18", "mobilenet")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


def settings(name: str) -> Settings:
    backbone, features = BACKBONES[name]
    return SETTINGS.replace(backbone=backbone, features=features, image_size=160 if name == "transformer" else 32)


def made(name: str, *, group: bool = False, blocks: int = 1) -> Block:
    return open_block(settings(name), VIEWS, blocks, group=group)


def public(block: Block, size: int = 4) -> PublicMap:
    """Any map at all: a row has length one under each."""
    rng, width = np.random.default_rng(0), block.body.spec.width
    basis = np.linalg.qr(rng.standard_normal((width, size)))[0]
    return PublicMap(0.1 * rng.standard_normal(width), np.full(width, 0.5), basis)


def arrays_of(block: Block, size: int = 4, seed: int = 0) -> dict[str, Array]:
    """Blocks a little away from their start, and a head that is not zero."""
    rng = np.random.default_rng(seed)
    moved = {name: array * (1 + 0.05 * rng.standard_normal(array.shape)) for name, array in block.start.items()}
    return {**moved, "head.weight": rng.standard_normal((3, size)), "head.bias": rng.standard_normal(3)}


def by_the_body(block: Block, name: str, map_: PublicMap, arrays: Mapping[str, Array], view: int, row: int) -> Array:
    """One case's gradient by another road: the body that fine-tuning uses, plain autograd, float64."""
    body = open_body(settings(name), VIEWS, "last")
    part, inputs = body.part(), body.inputs(material(9, settings(name)))
    leaves = {key: torch.tensor(array, dtype=torch.float64, requires_grad=True) for key, array in arrays.items()}
    offset = leaves.pop("head.bias")  # it is not trained
    own = zip(body.tensors, (leaf for key, leaf in leaves.items() if key.startswith("units")), strict=True)
    part.place(dict(own))
    read, shallow = inputs.batch([row], [view])
    features = part(read.double(), shallow.double())
    mean, scale, basis = (torch.from_numpy(map_.arrays[key]) for key in ("mean", "scale", "basis"))
    spread = ((features - mean) / scale) @ basis
    logits = (spread / spread.norm()) @ leaves["head.weight"].T + offset
    cost = functional.cross_entropy(logits, torch.tensor([row % 3]))
    return torch.cat([slope.ravel() for slope in torch.autograd.grad(cost, list(leaves.values()))]).numpy()


def by_itself(network: torch.nn.Module, values: Array, label: int) -> Array:
    """One case's gradient by plain autograd of the network itself."""
    logits: Tensor = network(torch.from_numpy(values[None].astype(np.float64)))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    slopes = torch.autograd.grad(functional.cross_entropy(logits, torch.tensor([label])), trained)
    return torch.cat([slope.ravel() for slope in slopes]).numpy()


def summed(slopes: list[Array], patients: Array, clip: float) -> Array:
    total = np.zeros(len(slopes[0]))
    for name in np.unique(patients):
        mean = np.mean([slope for slope, own in zip(slopes, patients, strict=True) if own == name], axis=0)
        total += mean * min(1.0, clip / float(np.linalg.norm(mean)))
    return total


# --- the features


@pytest.mark.parametrize("name", BACKBONES)
def test_at_the_start_the_features_are_the_agreed_ones(name: str) -> None:
    own = material(3, settings(name))
    agreed = open_body(settings(name), VIEWS, "head").features(own)
    block = made(name)
    np.testing.assert_allclose(block.features(own, block.start), agreed, atol=1e-5 * np.abs(agreed).max())


@pytest.mark.parametrize("name", NORMED)
def test_a_groupnorms_features_are_near_them(name: str) -> None:
    own = material(12, settings(name))
    block = made(name, group=True)
    agreed, found = open_body(settings(name), VIEWS, "head").features(own), block.features(own, block.start)
    changed = np.abs(agreed - found).max(axis=0) > 1e-4
    assert changed.any()
    if name == "lite0":  # the others are untrained: their norms never saw an image
        likeness = [np.corrcoef(agreed[:, one], found[:, one])[0, 1] for one in np.flatnonzero(changed)]
        assert np.median(likeness) > 0.8


def test_no_case_has_no_features_and_diverged_blocks_are_named() -> None:
    block = made("lite0")
    assert block.features(material(0, settings("lite0")), block.start).shape == (0, block.body.spec.width)
    broken = {name: np.full_like(array, np.nan) for name, array in block.start.items()}
    with pytest.raises(DataError, match="training diverged"):
        block.features(material(2, settings("lite0")), broken)


def test_two_blocks_begin_one_block_earlier() -> None:
    one, two = made("lite0").start, made("lite0", blocks=2)
    assert len(two.start) == 2 * len(one)
    own = material(2, settings("lite0"))
    np.testing.assert_allclose(two.features(own, two.start), made("lite0").features(own, one), atol=1e-4)


# --- the gradients


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("each", [1, 3])
def test_a_clipped_sum_is_that_of_the_body_one_patient_at_a_time(name: str, each: int) -> None:
    block = made(name)
    map_, arrays = public(block), arrays_of(block)
    view = len(block.body.spec.views) - 1  # "plain" features have one
    seen = Seen(block.body.inputs(material(9, settings(name))), view)
    label, patients = np.arange(9) % 3, np.array([f"p{row // each}" for row in range(9)])
    network = block.network(map_, arrays, seen.shape)
    slopes = [by_the_body(block, name, map_, arrays, view, row) for row in range(9)]
    middle = float(np.median([np.linalg.norm(slope) for slope in slopes]))
    for clip in (0.3 * middle, 10 * middle):
        found = clipped_sum(network, Cases(seen, label, patients), clip, batch=4).update.arrays["gradient"]
        expected = summed(slopes, patients, clip)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("each", [1, 3])
def test_with_groupnorm_it_is_autograds_and_reaches_every_parameter(name: str, each: int) -> None:
    block = made(name, group=True)
    map_, arrays = public(block), arrays_of(block)
    seen = Seen(block.body.inputs(material(9, settings(name))), 0)
    label, patients = np.arange(9) % 3, np.array([f"p{row // each}" for row in range(9)])
    network = block.network(map_, arrays, seen.shape)
    values = seen[np.arange(9)]
    slopes = [by_itself(network, values[row], int(label[row])) for row in range(9)]
    clip = 0.5 * float(np.median([np.linalg.norm(slope) for slope in slopes]))
    found = clipped_sum(network, Cases(seen, label, patients), clip, batch=5).update.arrays["gradient"]
    expected = summed(slopes, patients, clip)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * np.abs(expected).max())
    parts = parted(found, {key: array.shape for key, array in arrays.items() if key != "head.bias"})
    norms = [key for key in parts if ".norm." in key]
    assert len(norms) >= 2
    assert all(np.abs(parts[key]).max() > 0 for key in parts)
    assert any(isinstance(module, Grouped) for module in network.modules())


# --- refusals


@pytest.mark.parametrize("state", ["training", "frozen in training mode"])
def test_a_batchnorm_in_training_mode_is_never_trained_past(state: str) -> None:
    block = made("lite0")
    seen = Seen(block.body.inputs(material(4, settings("lite0"))), 0)
    network = block.network(public(block), arrays_of(block), seen.shape)
    norm = torch.nn.BatchNorm2d(block.body.spec.width).double().requires_grad_(state == "training").train()
    network.units.append(norm)
    with pytest.raises(PrivacyError, match=r"units\.1 \(BatchNorm2d\) averages over patients"):
        clipped_sum(network, Cases(seen, np.arange(4) % 3, np.array(list("abcd"))), 1.0)
    check_network(block.network(public(block), arrays_of(block), seen.shape))


@pytest.mark.parametrize("name", ["squeezenet", "transformer"])
def test_without_a_batchnorm_there_is_nothing_to_replace(name: str) -> None:
    with pytest.raises(ConfigError, match="has no BatchNorm that GroupNorm could replace; leave out -group"):
        made(name, group=True)


def test_more_blocks_than_there_are_and_tables_are_refused() -> None:
    with pytest.raises(ConfigError, match="asks for 9 blocks, but only 6"):
        open_block(SETTINGS, VIEWS, 9, group=False)
    with pytest.raises(ConfigError, match="backbone=table has no network"):
        open_block(SETTINGS.replace(backbone="table"), VIEWS, 1, group=False)


def test_arrays_of_another_block_are_refused() -> None:
    block = made("lite0")
    arrays, shape = arrays_of(block), Seen(block.body.inputs(material(2, settings("lite0"))), 0).shape
    less = {name: array for name, array in arrays.items() if name != "head.bias"}
    other = {**arrays, "units.0.conv_pw.weight": np.zeros((1, 1, 1, 1))}
    for wrong in (less, other, {**arrays, "units.7.weight": np.zeros(1)}):
        with pytest.raises(WeightsError, match="not those of the blocks"):
            block.network(public(block), wrong, shape)
    with pytest.raises(WeightsError, match="not those of the blocks"):
        block.network(public(block, 5), arrays, shape)
