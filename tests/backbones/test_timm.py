"""timm's networks: any image size, class tokens, constructor arguments, a repository's own config; never a socket."""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from medtl_core.backbones.extractor import load_extractor
from medtl_core.backbones.networks import load_network
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.spec import feature_spec

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def images(size: int, n: int = 2) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [100, 224])
def test_a_transformer_reads_any_size_as_timm_does_with_resampled_positions(size: int) -> None:
    import timm

    backbone = find_backbone("random:timm:test_vit")
    network, _ = load_network(backbone)
    oracle = timm.create_model("test_vit", pretrained=False, dynamic_img_size=True, dynamic_img_pad=True)
    oracle.load_state_dict(network.state_dict())
    taps = ("blocks.3", "5.cls", "norm.cls")
    extractor = load_extractor(backbone, "", taps, "mean+std+centre")
    with torch.no_grad():
        blocks = oracle.eval().get_intermediate_layers(images(size), n=[3, 5], return_prefix_tokens=True)
        final = oracle.forward_features(images(size))
    rows = extractor(images(size))
    assert rows.shape == (2, 64 * 3 + 64 + 64)
    torch.testing.assert_close(rows[:, :64], blocks[0][0].mean(dim=1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows[:, 192:256], blocks[1][1][:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rows[:, 256:], final[:, 0], atol=1e-5, rtol=1e-5)


def test_a_class_token_is_one_group_of_its_width_in_the_features_record() -> None:
    settings = Settings(backbone="random:timm:test_vit", features="blocks.3+5.cls+norm.cls", image_size=64)
    spec = feature_spec(settings, ("identity",))
    assert spec.groups == (("blocks.3", 0, 192), ("5.cls", 192, 256), ("norm.cls", 256, 320))
    with pytest.raises(ConfigError, match=r"no tap '6\.cls'"):
        feature_spec(settings.replace(features="6.cls"), ("identity",))


def test_networks_of_any_stride_have_taps_in_their_middle_and_a_sane_size() -> None:
    backbone = find_backbone("timm:vit_small_patch14_dinov2.lvd142m")  # its own stride is 14, its own side 518
    assert (backbone.rich, backbone.plain, backbone.size) == (
        ("blocks.5", "blocks.8", "blocks.11"),
        ("blocks.11",),
        224,
    )
    assert (backbone.licence, (*backbone.taps,)[-1]) == ("apache-2.0", "norm.cls")


def test_constructor_arguments_are_part_of_a_networks_identity_and_the_odd_ones_refused(tmp_path: Path) -> None:
    name = "timm:test_vit:init_values=0.5:reg_tokens=2"
    backbone = find_backbone(f"random:{name}")
    assert backbone.identity == name
    network, _ = load_network(backbone)
    assert network.num_prefix_tokens == 3 and float(network.get_parameter("blocks.0.ls1.gamma")[0]) == 0.5
    save_file(network.state_dict(), tmp_path / "a.safetensors")
    load_network(find_backbone(f"file:{tmp_path}/a.safetensors#{name}"))
    with pytest.raises(WeightsError, match="not those of 'timm:test_vit'"):
        load_network(find_backbone(f"file:{tmp_path}/a.safetensors#timm:test_vit"))
    for words in ("bogus=1", "depth=many", "checkpoint_path=/etc/passwd", "pretrained=True", "embed_dim=7"):
        with pytest.raises(ConfigError, match=f"timm cannot build 'test_vit' with {words.replace('true', 'True')}"):
            find_backbone(f"timm:test_vit:{words}")
    with pytest.raises(ConfigError, match="not of the form key=value"):
        find_backbone("timm:test_vit:reg_tokens")
    with pytest.raises(ConfigError, match="bogus"):
        find_backbone("timm:test_vit.bogus")


def test_a_repository_of_the_hub_says_itself_what_it_is_and_no_socket_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"config\.json of lab/net is not in the hub's cache.*hf download lab/net"):
        find_backbone("timm:hf-hub:lab/net")
    folder = tmp_path / "models--lab--net" / "snapshots" / "0"
    folder.mkdir(parents=True)
    facts = {
        "architecture": "test_vit", "model_args": {"init_values": 0.1},
        "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1], "license": "mit"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(facts))
    backbone = find_backbone("timm:hf-hub:lab/net:reg_tokens=1")
    assert backbone.identity == "timm:test_vit:init_values=0.1:reg_tokens=1"
    assert (backbone.size, backbone.mean, backbone.licence) == (96, (0.1, 0.2, 0.3), "mit")
    with pytest.raises(WeightsError, match=r"model\.safetensors of lab/net in"):
        load_network(backbone)
    network, _ = load_network(find_backbone("random:timm:hf-hub:lab/net:reg_tokens=1"))
    save_file(network.state_dict(), folder / "model.safetensors")
    assert load_network(backbone)[1] != ""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    (folder / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="does not say which of timm's networks"):
        find_backbone("timm:hf-hub:lab/net:reg_tokens=3")


def test_a_network_that_reads_grey_gives_the_luma_of_colours_to_its_first_layer(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    oracle = timm.create_model("test_resnet", pretrained=False, in_chans=1).eval()
    save_file(oracle.state_dict(), tmp_path / "grey.safetensors")
    backbone = find_backbone(f"file:{tmp_path}/grey.safetensors#timm:test_resnet:in_chans=1")
    assert backbone.identity == "timm:test_resnet:in_chans=1"
    network, _ = load_network(backbone)
    colour = images(64)
    luma = (colour * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(
            network.forward_features(colour), oracle.forward_features(luma), atol=1e-4, rtol=1e-4
        )
    with pytest.raises(WeightsError, match="size mismatch"):
        load_network(find_backbone(f"file:{tmp_path}/grey.safetensors#timm:test_resnet"))


@pytest.mark.slow
def test_torchvisions_own_files_of_densenet_are_read(tmp_path: Path) -> None:
    backbone = find_backbone("random:densenet121")
    state = load_network(backbone)[0].state_dict()
    old = {name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for name, value in state.items()}
    assert set(old) != set(state)
    save_file(old, tmp_path / "a.safetensors")
    network, _ = load_network(find_backbone(f"file:{tmp_path}/a.safetensors#torchvision:densenet121"))
    torch.testing.assert_close(dict(network.state_dict()), dict(state), rtol=0, atol=0)
