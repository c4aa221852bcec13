"""The body against the agreed features, and its promises: what is trained, what stays, what is refused."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medtl_core.backbones.frozen import FrozenNorm, freeze
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.extract import FeatureSpec, extract, feature_spec
from medtl_core.methods.finetune.activations import tuned_features
from medtl_core.methods.finetune.layer_order import find_layer_order
from medtl_core.methods.finetune.split_backbone import Scope, SplitBackbone, open_backbone, split
from medtl_core.methods.finetune.trainable_suffix import TrainableSuffix
from tests.methods.pictures import SETTINGS, VIEWS, material

LAST = [f"blocks.2.1.{layer}.{part}" for layer in ("conv_pw", "conv_dw", "conv_pwl") for part in ("weight", "bias")]


pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Toy(nn.Module):
    """Every trap in a few channels: in-place layers, a norm no convolution feeds, dropout, layers behind the tap."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.stage = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5)))
        self.last = nn.Sequential(norm, nn.Conv2d(4, 5, 1))
        self.classifier = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        deep = self.last(self.stage(self.act(self.stem(x))))
        return self.classifier(deep.mean(dim=(2, 3)))  # type: ignore[no-any-return]


def spec(taps: dict[str, int], size: int = 8) -> FeatureSpec:
    third = (0.5, 0.5, 0.5)
    return FeatureSpec("toy", "", tuple(taps), tuple(taps.values()), "mean+std", size, third, third, ("identity",))


def toy_body(scope: str, network: nn.Module) -> SplitBackbone:
    places = {"a": "act", "b": "last"}
    chain = find_layer_order(network, places, torch.zeros(1, 3, 8, 8))
    return split(network, chain, spec({"a": 4, "b": 5}), Scope.parse(scope))


def batch(count: int = 3) -> Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def normed() -> nn.Module:
    """A toy with statistics worth keeping, frozen."""
    norm = nn.BatchNorm2d(4)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean += 0.3
    norm.running_var *= 2.0
    return freeze(Toy(norm).eval(), torch.randn(2, 3, 8, 8))


# --- the agreed features


@pytest.mark.parametrize("scope", ["head", "last", "last4", "all"])
@pytest.mark.parametrize(
    ("backbone", "features"),
    [
        ("lite0", "4"),
        ("lite0", "1+4"),
        ("lite0", "plain"),
        ("random:squeezenet1_1", "3+6"),
        ("random:resnet18", "plain"),
    ],
)
def test_an_untrained_body_gives_the_agreed_features(backbone: str, features: str, scope: str) -> None:
    settings = SETTINGS.replace(backbone=backbone, features=features)
    ours = tuned_features(open_backbone(settings, VIEWS, scope), material(3, settings))
    agreed = extract(material(3).examples, feature_spec(settings, VIEWS), settings).values
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, agreed, atol=1e-5 * np.abs(agreed).max())


def test_a_transformers_body_gives_the_agreed_features_and_trains_its_tokens_under_all() -> None:
    settings = Settings(backbone="random:timm:test_vit", image_size=160, cache="off")
    agreed = extract(material(2).examples, feature_spec(settings, VIEWS), settings).values
    for scope, count in (("last2", 24), ("all", 76)):
        body = open_backbone(settings, VIEWS, scope)
        np.testing.assert_allclose(tuned_features(body, material(2, settings)), agreed, atol=1e-5)
        assert len(body.tensors) == count
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= body.tensors.keys()
    assert (body.depth("pos_embed"), body.depth("blocks.0.norm1.weight"), body.depth("blocks.5.norm1.weight")) == (
        6,
        5,
        0,
    )


def test_no_case_has_no_features() -> None:
    assert tuned_features(open_backbone(SETTINGS, VIEWS, "last"), material(0)).shape == (0, 80)


# --- what a scope trains


def test_scopes_name_their_tensors_by_module_path() -> None:
    assert list(open_backbone(SETTINGS, VIEWS, "head").tensors) == []
    assert list(open_backbone(SETTINGS, VIEWS, "last").tensors) == LAST
    body = open_backbone(SETTINGS, VIEWS, "last2")
    assert list(body.tensors)[-6:] == LAST
    assert sorted({body.depth(name) for name in body.tensors}) == [0, 1]
    assert body.depth("blocks.2.0.conv_pw.weight") == 1
    whole = open_backbone(SETTINGS, VIEWS, "all")
    assert list(whole.tensors)[:2] == ["conv_stem.weight", "conv_stem.bias"]
    assert whole.depth("conv_stem.weight") == 5
    assert not [name for name in whole.tensors if name.startswith(("blocks.3", "conv_head"))]  # behind the deepest tap


def test_blocks_are_found_through_layers_that_work_in_place() -> None:
    body = toy_body("last2", normed())
    assert body.order.units == ("stem", "act", "stage.0", "stage.1.0", "stage.1.1", "last.0", "last.1")
    assert body.units == ("stage.0", "stage.1.0", "stage.1.1", "last.0", "last.1")
    assert body.shallow == ("a",)
    assert list(body.tensors) == ["stage.0.weight", "stage.0.bias", "last.1.weight", "last.1.bias"]


def test_a_scope_deeper_than_the_chain_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'last9' asks for 9 blocks, but only 6 .* did you mean 'last6' or 'all'"):
        open_backbone(SETTINGS, VIEWS, "last9")


def test_unknown_scopes_taps_and_tables_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown scope 'lst'; did you mean 'last'"):
        open_backbone(SETTINGS, VIEWS, "lst")
    with pytest.raises(ConfigError, match="no tap '44'; did you mean '4'"):
        open_backbone(SETTINGS.replace(features="44"), VIEWS, "last")
    with pytest.raises(ConfigError, match=r"backbone=table has no network .* lpft-head-5"):
        open_backbone(SETTINGS.replace(backbone="table"), VIEWS, "last")
    with pytest.raises(ConfigError, match="joins several networks"):
        open_backbone(SETTINGS.replace(backbone="lite0+random:squeezenet1_1"), VIEWS, "last")


def test_taps_that_do_not_come_in_order_of_depth_are_refused() -> None:
    network = normed()
    chain = find_layer_order(network, {"b": "stage", "a": "act", "c": "last"}, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ConfigError, match="out of order"):
        split(network, chain, spec({"b": 4, "a": 4, "c": 5}), Scope.parse("last2"))


def test_a_tap_that_runs_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x))  # type: ignore[no-any-return]

    with pytest.raises(ConfigError, match="tap 'a' must run exactly once"):
        find_layer_order(Twice(), {"a": "conv"}, torch.zeros(1, 3, 4, 4))


# --- norms and modes


@pytest.mark.parametrize(("mode", "where"), [(False, "in the trained part"), (True, "in training mode")])
def test_a_batch_norm_that_was_not_frozen_is_refused(mode: bool, where: str) -> None:
    network = Toy(nn.BatchNorm2d(4)).train(mode)
    with pytest.raises(ConfigError, match=f"BatchNorm 'last.0' is {where}"):
        toy_body("last", network) if mode else toy_body("last2", network)


def test_frozen_norms_stay_bit_for_bit_whatever_train_says() -> None:
    network = normed()
    norm = network.get_submodule("last.0")
    assert isinstance(norm, FrozenNorm)
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    body = toy_body("last2", network)
    first = TrainableSuffix(body)(batch(), torch.zeros(3, 8))
    network.train()
    part = TrainableSuffix(body)
    tensors = {name: tensor.clone().requires_grad_() for name, tensor in body.tensors.items()}
    part.place(tensors)
    second = part(batch(), torch.zeros(3, 8))
    second.sum().backward()
    assert torch.equal(first, second)  # dropout is off too
    assert all(tensor.grad is not None for tensor in tensors.values())
    assert not [name for name in tensors if name.startswith("last.0")]
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, before[name]), name


# --- the private copy


def test_a_part_equals_the_network_and_leaves_it_alone() -> None:
    network = normed()
    body, part = toy_body("last", network), TrainableSuffix(toy_body("last", network))
    weight = torch.ones(5, 4, 1, 1)
    part.place({"last.1.weight": weight})
    with torch.no_grad():
        x = batch()
        maps = nn.functional.conv2d(x, weight, body.tensors["last.1.bias"]).flatten(2)
        expected = torch.cat([maps.mean(2), maps.std(2, unbiased=False)], dim=1)
        torch.testing.assert_close(part(x, torch.zeros(3, 0)), expected)
    assert not torch.equal(network.get_parameter("last.1.weight"), weight)


def test_a_part_refuses_what_is_not_its_own() -> None:
    part = TrainableSuffix(toy_body("last", normed()))
    assert toy_body("last", normed()).units == ("last.1",)
    for name, shape in (("stem.weight", (4, 3, 3, 3)), ("last.1.weight", (5, 4)), ("last.1.gain", (5,))):
        with pytest.raises(WeightsError):
            part.place({name: torch.zeros(shape)})


def test_a_constant_map_has_a_finite_slope() -> None:
    body = toy_body("last", normed())
    part, weight = TrainableSuffix(body), torch.zeros(5, 4, 1, 1, requires_grad=True)
    part.place({"last.1.weight": weight})
    part(batch(), torch.zeros(3, 0)).sum().backward()
    assert weight.grad is not None and bool(weight.grad.isfinite().all())


def test_impossible_input_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="trained part of the backbone cannot run"):
        TrainableSuffix(toy_body("last", normed()))(torch.zeros(1, 9, 8, 8), torch.zeros(1, 0))
    with pytest.raises(ConfigError, match="failed on images of 1x1 pixels"):
        find_layer_order(nn.Conv2d(3, 3, 5), {"a": ""}, torch.zeros(1, 3, 1, 1))


def test_the_layout_of_networks_with_their_channels_last_is_known() -> None:
    class Last(nn.Module):
        output_fmt = "NHWC"

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Any:
            return self.linear(x.permute(0, 2, 3, 1))

    network = Last().eval()
    chain = find_layer_order(network, {"a": "linear"}, torch.zeros(1, 3, 4, 4))
    body = split(network, chain, spec({"a": 2}, 4), Scope.parse("last"))
    maps = torch.randn(2, 4, 4, 3)
    with torch.no_grad():
        expected = network.linear(maps).flatten(1, 2)
        found = TrainableSuffix(body)(maps, torch.zeros(2, 0))
    torch.testing.assert_close(found, torch.cat([expected.mean(1), expected.std(1, unbiased=False)], dim=1))
