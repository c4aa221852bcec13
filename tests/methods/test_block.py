"""A backbone's last blocks, case by case: the agreed features at the start, autograd's gradients, and refusals."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch.nn import functional

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.split_backbone import SplitBackbone, open_backbone
from medtl_core.methods.finetune.trainable_suffix import TrainableSuffix
from medtl_core.methods.private.block import Seen, network_of, open_blocks, placed, start_of
from medtl_core.methods.private.samplegrad import Cases, clipped_sum
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.suffix import Suffix
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

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def settings(name: str) -> Settings:
    backbone, features = BACKBONES[name]
    return SETTINGS.replace(backbone=backbone, features=features, image_size=160 if name == "transformer" else 32)


def opened(name: str, scope: str = "last") -> SplitBackbone:
    return open_blocks(settings(name), VIEWS, scope)


def public(body: SplitBackbone, size: int = 4) -> PublicMap:
    """Any map at all: a row has length one under each."""
    rng, width = np.random.default_rng(0), body.spec.width
    basis = np.linalg.qr(rng.standard_normal((width, size)))[0]
    return PublicMap(0.1 * rng.standard_normal(width), np.full(width, 0.5), basis)


def arrays_of(body: SplitBackbone, size: int = 4, seed: int = 0) -> dict[str, Array]:
    """Blocks a little away from their start, and a head that is not zero."""
    rng = np.random.default_rng(seed)
    moved = {name: array * (1 + 0.05 * rng.standard_normal(array.shape)) for name, array in start_of(body).items()}
    return {**moved, "head.weight": rng.standard_normal((3, size)), "head.bias": rng.standard_normal(3)}


def by_the_body(name: str, map_: PublicMap, arrays: Mapping[str, Array], view: int) -> list[Array]:
    """Each case's gradient by another road: the body that fine-tuning uses, plain autograd, float64."""
    body = open_backbone(settings(name), VIEWS, "last")
    part, inputs = TrainableSuffix(body), Inputs(body, material(9, settings(name)))
    leaves = {key: torch.tensor(array, dtype=torch.float64, requires_grad=True) for key, array in arrays.items()}
    offset = leaves.pop("head.bias")  # it is not trained
    own = zip(body.tensors, (leaf for key, leaf in leaves.items() if key.startswith("units")), strict=True)
    part.place(dict(own))
    mean, scale, basis = (torch.from_numpy(map_.arrays[key]) for key in ("mean", "scale", "basis"))
    slopes = []
    for row in range(9):
        read, shallow = inputs.batch([row], [view])
        spread = ((part(read.double(), shallow.double()) - mean) / scale) @ basis
        logits = (spread / spread.norm()) @ leaves["head.weight"].T + offset
        cost = functional.cross_entropy(logits, torch.tensor([row % 3]))
        gradients = torch.autograd.grad(cost, list(leaves.values()))
        slopes.append(torch.cat([slope.ravel() for slope in gradients]).numpy())
    return slopes


def summed(slopes: list[Array], patients: Array, clip: float) -> Array:
    total = np.zeros(len(slopes[0]))
    for name in np.unique(patients):
        mean = np.mean([slope for slope, own in zip(slopes, patients, strict=True) if own == name], axis=0)
        total += mean * min(1.0, clip / float(np.linalg.norm(mean)))
    return total


@pytest.mark.parametrize(
    "name", [name if name == "lite0" else pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES]
)
def test_a_clipped_sum_is_that_of_the_body_one_patient_at_a_time(name: str) -> None:
    body = opened(name)
    map_, arrays = public(body), arrays_of(body)
    view = len(body.spec.views) - 1  # "plain" features have one
    seen = Seen(Inputs(body, material(9, settings(name))), view)
    label, patients = np.arange(9) % 3, np.array(list("aabbcccde"))
    network = network_of(body, map_, arrays, seen.shape)
    slopes = by_the_body(name, map_, arrays, view)
    middle = float(np.median([np.linalg.norm(slope) for slope in slopes]))
    for clip in (0.3 * middle, 10 * middle):
        own, units = Cases(seen, label, patients, np.ones(9)), np.ones(len(slopes[0]))
        found = clipped_sum(network, own, clip, units, batch=4).update.arrays["gradient"]
        expected = summed(slopes, patients, clip)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9 * np.abs(expected).max())


def test_a_row_of_zeros_stays_one() -> None:
    constants = {"mean": torch.zeros(3), "scale": torch.ones(3), "basis": torch.eye(3)}
    network = Suffix([torch.nn.Identity()], (2, 1, 1), {0: [lambda output: output.flatten(1)]}, constants, 2)
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([0.0, 10.0]))
    assert network(torch.zeros(1, 3)).tolist() == [[0.0, 10.0]]


def test_arrays_of_another_block_are_refused() -> None:
    body = opened("lite0")
    arrays = arrays_of(body)
    less = {name: array for name, array in arrays.items() if name != "head.bias"}
    other = {**arrays, "units.0.conv_pw.weight": np.zeros((1, 1, 1, 1))}
    for wrong, size in ((less, 4), (other, 4), ({**arrays, "units.7.weight": np.zeros(1)}, 4), (arrays, 5)):
        with pytest.raises(WeightsError, match="not those of the blocks"):
            network_of(body, public(body, size), wrong, ())
    with pytest.raises(WeightsError, match="not those of the blocks"):
        placed(body, arrays)
