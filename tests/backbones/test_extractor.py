"""The frozen extractor against timm's own network, and its promises: no BatchNorm, no training mode, no waste."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl_core.backbones.extractor import Extractor, load_extractor
from medtl_core.backbones.frozen import FrozenNorm, freeze
from medtl_core.backbones.lite import Lite0
from medtl_core.backbones.networks import load_network
from medtl_core.backbones.weights import load_weights
from medtl_core.backbones.zoo import find_backbone
from medtl_core.errors import ConfigError

RICH = ("4", "7", "10")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def oracle() -> nn.Module:
    """timm's own network with the package's weights, BatchNorm and all."""
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(load_weights(find_backbone("lite0"))[0], strict=True)
    return network.eval().requires_grad_(False)


def images(n: int = 2, size: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def outputs(network: nn.Module, paths: list[str], x: Tensor) -> list[Tensor]:
    """Returns the output of each module, run without any shortcut."""
    seen: dict[str, Tensor] = {}
    hooks = []
    for path in paths:

        def read(module: nn.Module, inputs: Any, output: Tensor, path: str = path) -> None:
            seen[path] = output.clone()

        hooks.append(network.get_submodule(path).register_forward_hook(read))
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return [seen[path] for path in paths]


def jumbled(network: nn.Module) -> nn.Module:
    """Gives every BatchNorm statistics that are worth folding."""
    rng = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            for value, low in ((module.running_mean, -0.3), (module.running_var, 0.5), (module.weight, 0.7)):
                assert value is not None
                value.data.copy_(low + torch.rand(value.shape, generator=rng) * 0.6)
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=rng) * 0.2)
    return network.eval()


# --- against timm


@pytest.mark.parametrize("size", [64, 33, 47])
def test_lite0s_taps_are_the_outputs_of_timms_blocks(oracle: nn.Module, size: int) -> None:
    lite0 = find_backbone("lite0")
    extractor = load_extractor(lite0, "", tuple(lite0.taps), "mean")
    expected = [map_.mean(dim=(2, 3)) for map_ in outputs(oracle, list(lite0.taps.values()), images(size=size))]
    torch.testing.assert_close(extractor(images(size=size)), torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4)


def test_lite0s_own_module_is_timms_network_position_by_position(oracle: nn.Module) -> None:
    # It stands beside timm for one reason: importing timm costs seconds. So it must never differ.
    own = Lite0()
    own.load_state_dict({k: v for k, v in oracle.state_dict().items() if not k.startswith("classifier")}, strict=True)
    own.eval()
    paths = list(find_backbone("lite0").taps.values())
    for mine, timms in zip(outputs(own, paths, images()), outputs(oracle, paths, images()), strict=True):
        torch.testing.assert_close(mine, timms, atol=1e-5, rtol=1e-4)
    shapes = {name: tensor.shape for name, tensor in own.state_dict().items()}
    assert shapes == {k: v.shape for k, v in oracle.state_dict().items() if not k.startswith("classifier")}


def test_tokens_are_pooled_without_the_class_token() -> None:
    backbone = find_backbone("random:timm:test_vit")
    extractor = load_extractor(backbone, "", backbone.plain, "mean")
    network, _ = load_network(backbone)
    (tokens,) = outputs(network, [backbone.taps[backbone.plain[0]]], images(size=backbone.size))
    assert network.num_prefix_tokens == 1
    torch.testing.assert_close(extractor(images(size=backbone.size)), tokens[:, 1:].mean(dim=1))


# --- pooling


def test_pooling_by_hand() -> None:
    network = nn.Sequential(nn.Identity(), nn.Identity())
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[2.0, 2.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 4.0]]]])
    mean = Extractor(network, {"first": "0"}, "mean", {"first": 3})
    assert mean(x).tolist() == [[4.0, 2.0, 1.0]]
    both = Extractor(nn.Sequential(nn.Identity()), {"first": "0"}, "mean+std", {"first": 3})
    assert both.width == 6
    np.testing.assert_allclose(both(x).numpy(), [[4.0, 2.0, 1.0, 5**0.5, 0.0, 3**0.5]], rtol=1e-6)


def test_taps_stand_side_by_side_each_mean_then_deviation(oracle: nn.Module) -> None:
    lite0 = find_backbone("lite0")
    maps = outputs(oracle, [lite0.taps[tap] for tap in RICH], images())
    expected = [part for m in maps for part in (m.mean(dim=(2, 3)), m.flatten(2).std(dim=2, correction=0))]
    found = load_extractor(lite0, "", RICH, "mean+std")(images())
    assert found.dtype == torch.float32
    assert found.shape == (2, 2 * (40 + 80 + 112))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4)


# --- frozen


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "densenet121", "efficientnet_b0", "squeezenet1_1"])
def test_the_folded_network_is_the_unfolded_one(arch: str) -> None:
    backbone = find_backbone(f"random:{arch}")
    network = jumbled(load_network(backbone)[0])
    folded = freeze(network, images(1))
    paths = list(backbone.taps.values())
    assert not any(isinstance(module, _BatchNorm) for module in folded.modules())
    for mine, theirs in zip(outputs(folded, paths, images()), outputs(network, paths, images()), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=1e-3)


def test_a_convolution_that_feeds_two_is_not_folded() -> None:
    class Fork(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            middle = self.conv(x)
            out: Tensor = self.norm(middle) + 2 * middle
            return out

    network = jumbled(Fork())
    frozen = freeze(network, images(1, 8))
    assert isinstance(frozen.norm, FrozenNorm)
    torch.testing.assert_close(frozen(images(2, 8, seed=5)), network(images(2, 8, seed=5)))


def test_a_norm_without_statistics_cannot_be_frozen() -> None:
    for front in (nn.Conv2d(3, 3, 1), nn.Identity()):
        with pytest.raises(ValueError, match="without running statistics"):
            freeze(nn.Sequential(front, nn.BatchNorm2d(3, track_running_stats=False)).eval(), images(1, 8))


@pytest.mark.parametrize("name", ["lite0", "random:resnet18"])
def test_train_changes_neither_buffers_nor_output(name: str) -> None:
    backbone = find_backbone(name)
    extractor = load_extractor(backbone, "", backbone.rich, "mean+std")
    before = {key: tensor.clone() for key, tensor in extractor.state_dict().items()}
    first = extractor(images())
    assert extractor.train() is extractor
    assert not extractor.training
    extractor.network.train()  # even behind its back
    second = extractor(images(4, seed=9))[:0], extractor(images())
    assert torch.equal(second[1], first)
    assert all(torch.equal(tensor, before[key]) for key, tensor in extractor.state_dict().items())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not any(isinstance(module, _BatchNorm) for module in extractor.modules())
    assert not first.requires_grad


def test_nothing_runs_behind_the_deepest_tap() -> None:
    lite0 = find_backbone("random:lite0")
    extractor = load_extractor(lite0, "", ("4", "7"), "mean")
    ran: list[str] = []
    for path, module in extractor.network.named_modules():
        if not any(True for _ in module.children()):
            module.register_forward_pre_hook(lambda module, inputs, path=path: ran.append(path))
    extractor(images())
    assert "blocks.3.2.conv_pwl" in ran
    assert [path for path in ran if path.startswith(("blocks.4", "blocks.5", "blocks.6", "conv_head"))] == []


def test_threads_share_one_extractor() -> None:
    lite0 = find_backbone("random:lite0")
    extractor = load_extractor(lite0, "", RICH, "mean")
    batches = [images(1, 32, seed) for seed in range(12)]
    expected = [extractor(batch) for batch in batches]
    gate = threading.Barrier(3)

    def work(batch: Tensor) -> Tensor:
        gate.wait(timeout=20)
        torch.set_num_threads(1)
        found: Tensor = extractor(batch)
        return found

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(work, batches))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# --- refusals


def test_unknown_words_are_refused_with_the_nearest_one() -> None:
    lite0 = find_backbone("random:lite0")
    with pytest.raises(ConfigError, match="has no tap 'finale'; did you mean 'final'"):
        load_extractor(lite0, "", ("finale",), "mean")
    with pytest.raises(ConfigError, match=r"pooling 'mean\+sd' is not known; did you mean 'mean\+std'"):
        load_extractor(lite0, "", ("4",), "mean+sd")
    for taps in ((), ("4", "4")):
        with pytest.raises(ConfigError, match="must name each tap once"):
            load_extractor(lite0, "", taps, "mean")


def test_images_a_network_cannot_read_and_wrong_announcements_are_refused() -> None:
    extractor = load_extractor(find_backbone("random:squeezenet1_1"), "", ("12",), "mean")
    with pytest.raises(ConfigError, match="failed on images of 4x4 pixels"):
        extractor(images(1, 4))
    with pytest.raises(ConfigError, match="the taps gave 3 features where 5 were announced"):
        Extractor(nn.Sequential(nn.Identity()), {"a": "0"}, "mean", {"a": 5})(images(1, 4))
    silent = nn.Sequential(nn.Identity())
    silent.add_module("spare", nn.Identity())
    silent.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="never ran its tap 'spare'"):
        Extractor(silent, {"spare": "spare"}, "mean", {"spare": 3})(images(1, 4))
