"""Adapters: the identity at the start, exact under averaging, and refused where they have nothing to adapt."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.methods.finetune.activations import tuned_features
from medtl_core.methods.finetune.adapters import ADAPTERS, Adapter, LowRank, find_adapter
from medtl_core.methods.finetune.layer_order import find_layer_order
from medtl_core.methods.finetune.split_backbone import Scope, SplitBackbone, open_backbone, split
from tests.methods.pictures import SETTINGS, VIEWS, material
from tests.methods.test_body import spec


def body(scope: str = "last") -> SplitBackbone:
    return open_backbone(SETTINGS, VIEWS, scope)


def drawn(adapter: Adapter, seed: int) -> dict[str, torch.Tensor]:
    """Trained arrays that are anything but the identity."""
    rng = np.random.default_rng(seed)
    return {
        name: torch.tensor(value + rng.standard_normal(value.shape), dtype=torch.float64)
        for name, value in adapter.start().items()
    }


def in_double(adapter: Adapter) -> Adapter:
    """The same adapter over the same frozen values, in double precision: what is tested is the algebra."""
    tensors = {name: tensor.double() for name, tensor in adapter.backbone.tensors.items()}
    adapter.backbone = replace(adapter.backbone, tensors=tensors)
    if isinstance(adapter, LowRank):
        adapter._factors = {path: factor.double() for path, factor in adapter._factors.items()}
    return adapter


def small(*layers: nn.Module) -> SplitBackbone:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(*layers)).eval().requires_grad_(False)
    chain = find_layer_order(network, {"a": "1"}, torch.zeros(1, 3, 8, 8))
    return split(network, chain, spec({"a": 4}), Scope.parse("last"))


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_starts_as_the_identity(name: str) -> None:
    adapter = find_adapter(name, body())
    start = {key: torch.tensor(value) for key, value in adapter.start().items()}
    effective = {key: tensor.numpy() for key, tensor in adapter.effective(start).items()}
    np.testing.assert_array_equal(tuned_features(body(), material(2), effective), tuned_features(body(), material(2)))


@pytest.mark.parametrize("kind", ADAPTERS.values())
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.95))
@settings(max_examples=15, deadline=None)
def test_averaging_what_travels_is_averaging_the_merged_weights(kind: type[Adapter], seed: int, share: float) -> None:
    adapter = in_double(kind(small(nn.Conv2d(4, 6, 3, bias=False))))
    first, second = drawn(adapter, seed), drawn(adapter, seed + 1)
    mean = {name: share * first[name] + (1 - share) * second[name] for name in first}
    merged, one, other = (adapter.effective(arrays) for arrays in (mean, first, second))
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, share * one[name] + (1 - share) * other[name], rtol=1e-6, atol=1e-6)


def test_averaging_both_factors_would_not_be_exact() -> None:
    rng = np.random.default_rng(0)
    (b1, a1), (b2, a2) = ((rng.standard_normal((4, 2)), rng.standard_normal((2, 5))) for _ in range(2))
    gap = (b1 + b2) / 2 @ (a1 + a2) / 2 - (b1 @ a1 + b2 @ a2) / 2
    assert np.abs(gap).max() > 0.1


def test_lora_trains_dense_convolutions_and_leaves_depthwise_ones() -> None:
    adapter = find_adapter("lora", body())
    shapes = {name: array.shape for name, array in adapter.start().items()}
    assert shapes == {"blocks.2.1.conv_pw.lora": (240, 8), "blocks.2.1.conv_pwl.lora": (40, 8)}
    start = {name: torch.tensor(array) for name, array in adapter.start().items()}
    assert set(adapter.effective(start)) == {"blocks.2.1.conv_pw.weight", "blocks.2.1.conv_pwl.weight"}


def test_lora_adapts_a_kernel_as_one_low_rank_map() -> None:
    adapter = in_double(LowRank(small(nn.Conv2d(4, 6, 3, padding=1))))
    arrays = drawn(adapter, 0)
    change = adapter.effective(arrays)["1.0.weight"] - adapter.backbone.tensors["1.0.weight"]
    assert change.shape == (6, 4, 3, 3)
    assert np.linalg.matrix_rank(change.reshape(6, -1).numpy()) == 6  # min(8, 6 outputs, 36 inputs)
    narrow = LowRank(small(nn.Conv2d(4, 32, 1)))
    assert narrow.start()["1.0.lora"].shape == (32, 4)


def test_loras_frozen_factor_is_the_same_everywhere() -> None:
    first, second = (LowRank(body())._factors for _ in range(2))
    assert {path: factor.numpy().tobytes() for path, factor in first.items()} == {
        path: factor.numpy().tobytes() for path, factor in second.items()
    }
    lengths = torch.cat([factor.norm(dim=1) for factor in first.values()])
    assert float(lengths.min()) > 0.6 and float(lengths.max()) < 1.4


def test_lora_on_a_transformer_adapts_its_linear_layers() -> None:
    chosen = Settings(backbone="random:timm:test_vit", image_size=160, cache="off")
    adapter = find_adapter("lora", open_backbone(chosen, VIEWS, "last"))
    names = [f"blocks.5.{layer}.lora" for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    assert list(adapter.start()) == names
    assert {adapter.backbone.depth(name) for name in names} == {0}


def test_lora_where_nothing_is_dense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"scope 'last' holds none \(Conv2d\); name a deeper scope"):
        find_adapter("lora", small(nn.Conv2d(4, 4, 3, groups=4)))


def test_unknown_adapters_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown adapter 'lorra'; did you mean 'lora'"):
        find_adapter("lorra", body())
