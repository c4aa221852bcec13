"""The table of backbones: every row is checked against the library's own network, on meta tensors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.zoo import BACKBONES, find_backbone
from medtl_core.errors import ConfigError, WeightsError


@pytest.mark.parametrize("name", BACKBONES)
def test_taps_are_modules_of_the_network_from_shallow_to_deep_with_the_announced_channels(name: str) -> None:
    backbone = BACKBONES[name]
    seen: list[tuple[str, int]] = []
    with torch.device("meta"):
        network, _ = load_network(find_backbone(f"random:{name}"))
        for tap, path in backbone.taps.items():

            def read(module: nn.Module, inputs: Any, output: torch.Tensor, tap: str = tap) -> None:
                seen.append((tap, output.shape[1]))

            network.get_submodule(path).register_forward_hook(read)
        network(torch.zeros(1, 3, backbone.size, backbone.size))
    assert seen == list(backbone.channels.items())
    assert set(backbone.rich) | set(backbone.plain) <= set(backbone.taps)
    assert len(backbone.plain) == 1


def test_lite0_is_what_the_methods_page_measured_under_timms_name_too() -> None:
    lite0, timms = find_backbone("lite0"), find_backbone("timm:tf_efficientnet_lite0")
    assert lite0.identity == timms.identity == "timm:tf_efficientnet_lite0"
    assert lite0.source == timms.source == "package"
    assert (*lite0.taps,) == (*timms.taps,) == (*map(str, range(16)), "final")
    assert (lite0.rich, lite0.plain, lite0.size, lite0.mean) == (("4", "7", "10"), ("10",), 128, (0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("lite1", "did you mean 'lite0'"),
        ("torchvision:resnet81", "did you mean 'torchvision:resnet18'"),
        ("timm:resnet81", "resnet"),
        ("random:lite1", "did you mean 'lite0'"),
        ("random:", "unknown backbone"),
        ("random", "random:NAME"),
        ("qqqq", "known: "),
        ("", "known: "),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_one(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        find_backbone(name)


def test_random_weights_need_their_name() -> None:
    assert not [name for name, backbone in BACKBONES.items() if backbone.source == "random"]
    for name in ("random:resnet18", "random:torchvision:resnet18"):
        assert find_backbone(name).identity == "torchvision:resnet18"


def test_timms_tables_give_the_maps_of_stride_8_and_16_or_three_blocks_at_most() -> None:
    backbone = find_backbone("random:timm:test_resnet")
    assert (backbone.rich, backbone.plain, backbone.size) == (("layer2", "layer3"), ("layer3",), 160)
    backbone = find_backbone("random:timm:test_vit")  # of one stride
    assert backbone.rich == ("blocks.2", "blocks.3", "blocks.5")
    assert (*backbone.taps,)[-3:] == ("blocks.5", "5.cls", "norm.cls")


def test_a_file_says_what_it_is_or_its_name_does(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"arch": "torchvision:squeezenet1_1"})
    backbone = find_backbone(f"file:{path}")
    assert (backbone.identity, backbone.source, backbone.file) == ("torchvision:squeezenet1_1", "file", str(path))
    assert backbone.taps == BACKBONES["torchvision:squeezenet1_1"].taps
    save_file({"a": torch.zeros(1)}, path)
    assert find_backbone(f"file:{path}#torchvision:resnet18").identity == "torchvision:resnet18"
    for name, error, words in (
        (f"{path}", WeightsError, r"add it to the setting: file:.*own.safetensors#timm:ARCH"),
        (f"{path}#torchvision:resnet81", ConfigError, "did you mean 'torchvision:resnet18'"),
        (f"{tmp_path}/none.safetensors", WeightsError, r"none\.safetensors does not exist"),
    ):
        with pytest.raises(error, match=words):
            find_backbone(f"file:{name}")
    path.write_text("not weights at all")
    with pytest.raises(WeightsError, match="not a safetensors file"):
        find_backbone(f"file:{path}")
