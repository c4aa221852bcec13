"""The frozen extractor against timm's own network, and its promises: no BatchNorm, no training mode, no waste."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl_core.backbones.extractor import Extractor, load_extractor
from medtl_core.backbones.frozen import FrozenNorm, freeze
from medtl_core.backbones.networks import load_network
from medtl_core.backbones.weights import load_weights
from medtl_core.backbones.zoo import find_backbone
from medtl_core.errors import ConfigError

RICH = ("4", "7", "10")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


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
                value.data.copy_(low + torch.rand(value.shape, generator=rng) * 0.6)  # type: ignore[union-attr]
            module.bias.data.copy_(torch.randn(module.bias.shape, generator=rng) * 0.2)
    return network.eval()


@pytest.mark.slow  # timm is imported
def test_lite0s_taps_are_the_outputs_of_timms_blocks() -> None:
    import timm

    lite0 = find_backbone("lite0")
    oracle: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    oracle.load_state_dict(load_weights(lite0)[0], strict=True)
    extractor = load_extractor(lite0, "", tuple(lite0.taps), "mean")
    for size in (64, 33, 47):
        expected = [map_.mean(dim=(2, 3)) for map_ in outputs(oracle.eval(), [*lite0.taps.values()], images(size=size))]
        torch.testing.assert_close(extractor(images(size=size)), torch.cat(expected, dim=1), atol=1e-4, rtol=1e-4)


def test_tokens_are_pooled_without_the_class_token() -> None:
    backbone = find_backbone("random:timm:test_vit")
    extractor = load_extractor(backbone, "", backbone.plain, "mean")
    network, _ = load_network(backbone)
    (tokens,) = outputs(network, [backbone.taps[backbone.plain[0]]], images(size=backbone.size))
    assert network.num_prefix_tokens == 1
    torch.testing.assert_close(extractor(images(size=backbone.size)), tokens[:, 1:].mean(dim=1))


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_the_folded_network_is_the_unfolded_one(arch: str) -> None:
    backbone = find_backbone(f"random:{arch}")
    network = jumbled(load_network(backbone)[0])
    folded = freeze(network, images(1))
    paths = list(backbone.taps.values())
    assert not any(isinstance(module, _BatchNorm) for module in folded.modules())
    for mine, theirs in zip(outputs(folded, paths, images()), outputs(network, paths, images()), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=1e-3)


class Twice(nn.Sequential):
    """A network whose output is no tensor."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (super().forward(x),) * 2


def test_what_cannot_be_compared_is_not_folded() -> None:
    network = Twice(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    frozen = freeze(network, images(1, 8))
    assert isinstance(frozen[1], FrozenNorm)
    torch.testing.assert_close(frozen(images(2, 8)), network(images(2, 8)))


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


def test_train_changes_neither_buffers_nor_output() -> None:
    backbone = find_backbone("random:densenet121")  # some of its norms cannot be folded
    extractor = load_extractor(backbone, "", backbone.rich, "mean+std")
    before = {key: tensor.clone() for key, tensor in extractor.state_dict().items()}
    first = extractor(images())
    assert extractor.train() is extractor and not extractor.training
    extractor.network.train()  # even behind its back
    extractor(images(4, seed=9))
    assert torch.equal(extractor(images()), first) and not first.requires_grad
    assert all(torch.equal(tensor, before[key]) for key, tensor in extractor.state_dict().items())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not any(isinstance(module, _BatchNorm) for module in extractor.modules())


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


def test_images_a_network_cannot_read_and_wrong_announcements_are_refused() -> None:
    extractor = load_extractor(find_backbone("random:squeezenet1_1"), "", ("12",), "mean")
    with pytest.raises(ConfigError, match="4x4 pixels"):
        extractor(images(1, 4))
    network = nn.Sequential(nn.Identity())
    with pytest.raises(ConfigError, match="5 were announced"):
        Extractor(network, {"a": "0"}, "mean", {"a": 5})(images(1, 4))
    network.forward = lambda x: x  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="never ran its tap 'a'"):
        Extractor(network, {"a": "0"}, "mean", {"a": 3})(images(1, 4))
