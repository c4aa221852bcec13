"""The split backbone against the agreed features: what is trained, what stays, adapters, and stored activations."""

from dataclasses import replace
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from medtl_core.backbones.frozen import FrozenNorm, freeze
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.dataset import DerivedStore
from medtl_core.features.extract import FeatureSpec, extract, feature_spec
from medtl_core.methods.finetune.activations import Inputs, tuned_features
from medtl_core.methods.finetune.adapters import ADAPTERS, Adapter, find_adapter
from medtl_core.methods.finetune.layer_order import find_layer_order
from medtl_core.methods.finetune.split_backbone import SplitBackbone, open_backbone, split
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
    return split(network, chain, spec({"a": 4, "b": 5}), scope)


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


@pytest.mark.parametrize(
    ("backbone", "features", "scopes"),
    [
        ("lite0", "1+4", ("head", "last", "last4", "all")),
        pytest.param("random:squeezenet1_1", "3+6", ("last4",), marks=pytest.mark.slow),
        pytest.param("random:resnet18", "plain", ("last", "all"), marks=pytest.mark.slow),
    ],
)
def test_an_untrained_backbone_gives_the_agreed_features(backbone: str, features: str, scopes: tuple[str, ...]) -> None:
    settings = SETTINGS.replace(backbone=backbone, features=features)
    agreed = material(3, settings).features().values
    for scope in scopes:
        body = open_backbone(settings, VIEWS, scope)
        ours = tuned_features(body, material(3, settings))
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, agreed, atol=1e-5 * np.abs(agreed).max(), err_msg=scope)
        assert tuned_features(body, material(0, settings)).shape == (0, agreed.shape[1])


@pytest.mark.slow
def test_a_transformers_body_gives_the_agreed_features_and_trains_its_tokens_under_all() -> None:
    settings = Settings(backbone="random:timm:test_vit", image_size=160, cache="off")
    agreed = extract(material(2).examples, feature_spec(settings, VIEWS), settings).values
    for scope, count in (("last2", 24), ("all", 76)):
        body = open_backbone(settings, VIEWS, scope)
        np.testing.assert_allclose(tuned_features(body, material(2, settings)), agreed, atol=1e-5)
        assert len(body.tensors) == count
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= body.tensors.keys()
    names = ("pos_embed", "blocks.0.norm1.weight", "blocks.5.norm1.weight")
    assert [body.depth(name) for name in names] == [6, 5, 0]


# --- what a scope trains


def test_scopes_name_their_tensors_by_module_path() -> None:
    assert list(open_backbone(SETTINGS, VIEWS, "head").tensors) == []
    assert list(open_backbone(SETTINGS, VIEWS, "last").tensors) == LAST
    body = open_backbone(SETTINGS, VIEWS, "last2")
    assert list(body.tensors)[-6:] == LAST
    assert {name[:10]: body.depth(name) for name in body.tensors} == {"blocks.2.0": 1, "blocks.2.1": 0}
    whole = open_backbone(SETTINGS, VIEWS, "all")
    assert list(whole.tensors)[:2] == ["conv_stem.weight", "conv_stem.bias"]
    assert whole.depth("conv_stem.weight") == 5
    assert not [name for name in whole.tensors if name.startswith(("blocks.3", "conv_head"))]  # behind the deepest tap


@pytest.mark.parametrize(
    ("change", "scope", "words"),
    [
        ({}, "lst", "did you mean 'last'"),
        ({}, "last9", "did you mean 'last6' or 'all'"),
        ({"features": "44"}, "last", "did you mean '4'"),
        ({"backbone": "table"}, "last", "backbone='table' is not one network"),
        ({"backbone": "lite0+random:squeezenet1_1"}, "last", "is not one network"),
    ],
)
def test_unknown_scopes_taps_and_tables_are_refused(change: dict[str, str], scope: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_backbone(SETTINGS.replace(**change), VIEWS, scope)


def test_taps_out_of_order_or_run_twice_are_refused() -> None:
    network, images = normed(), torch.zeros(1, 3, 8, 8)
    chain = find_layer_order(network, {"b": "stage", "a": "act", "c": "last"}, images)
    with pytest.raises(ConfigError, match="out of order"):
        split(network, chain, spec({"b": 4, "a": 4, "c": 5}), "last2")
    twice = nn.Sequential(nn.Conv2d(3, 3, 1))
    twice.append(twice[0])
    with pytest.raises(ConfigError, match="must run exactly once"):
        find_layer_order(twice, {"a": "0"}, images)


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
    torch.testing.assert_close(dict(norm.named_buffers()), before, rtol=0, atol=0)


# --- the private copy


def test_constant_maps_have_a_finite_slope() -> None:
    part, weight = TrainableSuffix(toy_body("last", normed())), torch.zeros(5, 4, 1, 1, requires_grad=True)
    part.place({"last.1.weight": weight})
    part(batch(), torch.zeros(3, 0)).sum().backward()
    assert weight.grad is not None and bool(weight.grad.isfinite().all())


def test_a_part_refuses_what_is_not_its_own_and_impossible_input() -> None:
    part = TrainableSuffix(toy_body("last", normed()))
    for name, shape in (("stem.weight", (4, 3, 3, 3)), ("last.1.weight", (5, 4)), ("last.1.gain", (5,))):
        with pytest.raises(WeightsError):
            part.place({name: torch.zeros(shape)})
    with pytest.raises(ConfigError, match="1x1 pixels"):
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
    body = split(network, chain, spec({"a": 2}, 4), "last")
    maps = torch.randn(2, 4, 4, 3)
    with torch.no_grad():
        expected = network.linear(maps).flatten(1, 2)
        found = TrainableSuffix(body)(maps, torch.zeros(2, 0))
    torch.testing.assert_close(found, torch.cat([expected.mean(1), expected.std(1, unbiased=False)], dim=1))


# --- adapters


def last() -> SplitBackbone:
    return open_backbone(SETTINGS, VIEWS, "last")


def drawn(adapter: Adapter, seed: int) -> dict[str, torch.Tensor]:
    """Trained arrays that are anything but the identity."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.tensor(value + rng.standard_normal(value.shape), dtype=torch.float64)
        for name, value in adapter.start.items()
    }


def sequence(*layers: nn.Module) -> SplitBackbone:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(*layers)).eval().requires_grad_(False)
    chain = find_layer_order(network, {"a": "1"}, torch.zeros(1, 3, 8, 8))
    return split(network, chain, spec({"a": 4}), "last")


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_starts_as_the_identity(name: str) -> None:
    adapter = find_adapter(name, last())
    start = {key: torch.tensor(value) for key, value in adapter.start.items()}
    effective = {key: tensor.numpy() for key, tensor in adapter.effective(start).items()}
    np.testing.assert_array_equal(tuned_features(last(), material(2), effective), tuned_features(last(), material(2)))


@pytest.mark.parametrize("name", ADAPTERS)
@hypothesis.given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.95))
@hypothesis.settings(max_examples=15, deadline=None)
def test_averaging_what_travels_is_averaging_the_merged_weights(name: str, seed: int, share: float) -> None:
    adapter = find_adapter(name, sequence(nn.Conv2d(4, 6, 3, bias=False)))
    first, second = drawn(adapter, seed), drawn(adapter, seed + 1)
    mean = {name: share * first[name] + (1 - share) * second[name] for name in first}
    merged, one, other = (adapter.effective(arrays) for arrays in (mean, first, second))
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, share * one[name] + (1 - share) * other[name], rtol=1e-6, atol=1e-6)


def test_lora_trains_dense_convolutions_each_kernel_as_one_low_rank_map() -> None:
    adapter = find_adapter("lora", last())
    start = {name: torch.tensor(array) for name, array in adapter.start.items()}
    assert {name: tuple(array.shape) for name, array in start.items()} == {
        "blocks.2.1.conv_pw.lora": (240, 8),
        "blocks.2.1.conv_pwl.lora": (40, 8),
    }
    assert set(adapter.effective(start)) == {"blocks.2.1.conv_pw.weight", "blocks.2.1.conv_pwl.weight"}
    body = sequence(nn.Conv2d(4, 6, 3, padding=1))
    adapter = find_adapter("lora", body)
    change = adapter.effective(drawn(adapter, 0))["1.0.weight"] - body.tensors["1.0.weight"]
    assert change.shape == (6, 4, 3, 3)
    assert np.linalg.matrix_rank(change.reshape(6, -1).numpy()) == 6  # min(8, 6 outputs, 36 inputs)
    assert find_adapter("lora", sequence(nn.Conv2d(4, 32, 1))).start["1.0.lora"].shape == (32, 4)


def test_lora_where_nothing_is_dense_and_unknown_adapters_are_refused() -> None:
    with pytest.raises(ConfigError, match="name a deeper scope"):
        find_adapter("lora", sequence(nn.Conv2d(4, 4, 3, groups=4)))
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        find_adapter("lorra", last())


# --- activations


def test_a_store_drops_the_least_recently_used_beyond_its_limit() -> None:
    store = DerivedStore(limit=100)
    for key, floats in (("a", 10), ("b", 10)):
        store.put(key, (torch.zeros(floats), torch.zeros(0)))
    assert store.get("a") is not None
    for key, floats in (("c", 10), ("a", 3), ("large", 26)):  # "a" is known: nothing changes
        store.put(key, (torch.zeros(floats), torch.zeros(0)))
    assert [key for key in ("a", "b", "c", "large") if store.get(key) is not None] == ["a", "c"]
    assert store.bytes == 80


def test_a_store_without_room_gives_the_same_features() -> None:
    body, whole = open_backbone(SETTINGS, VIEWS, "last"), material(4)
    expected = tuned_features(body, whole)
    cramped = replace(whole, store=DerivedStore(limit=0))
    np.testing.assert_array_equal(tuned_features(body, cramped), expected)
    np.testing.assert_array_equal(tuned_features(body, whole), expected)  # what is stored is taken again
    assert cramped.store.bytes == 0 < whole.store.bytes


def test_one_view_of_each_case_is_a_row_of_all_views() -> None:
    inputs = Inputs(open_backbone(SETTINGS.replace(features="1+4"), VIEWS, "last"), material(3))
    every, wide = inputs.batch([0, 2])
    one, narrow = inputs.batch([2, 0], [1, 0])
    assert every.shape == (4, 40, 4, 4)
    torch.testing.assert_close(one, every[[3, 0]], rtol=0, atol=0)
    torch.testing.assert_close(narrow, wide[[3, 0]], rtol=0, atol=0)
