"""The user's own backbones: registered, found, listed, and refused when damaged."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save

from medtl_core.backbones.networks import load_network, new_classifier
from medtl_core.backbones.own import check_name, own_folder, own_names, register
from medtl_core.backbones.weights import weights_sha
from medtl_core.backbones.zoo import find_backbone, table
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, RunError, WeightsError
from medtl_core.features.extract import feature_spec


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDTL_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def content() -> bytes:
    network = new_classifier(find_backbone("random:squeezenet1_1"), "", 3, 7)
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    return save(state, {"arch": "torchvision:squeezenet1_1"})


def test_a_registered_backbone_is_found_by_name_read_and_listed_last(content: bytes) -> None:
    assert own_names() == ()
    path = register("mine", content, {"data": "phantom"})
    backbone = find_backbone("own:mine")
    assert (backbone.name, backbone.identity, backbone.source) == ("own:mine", "torchvision:squeezenet1_1", "file")
    assert backbone.rich == find_backbone("torchvision:squeezenet1_1").rich
    network, sha = load_network(backbone)
    assert sha == weights_sha(backbone) == weights_sha(find_backbone(f"file:{path}"))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert json.loads(path.with_suffix(".json").read_text()) == {"data": "phantom", "sha256": sha}
    specs = [feature_spec(Settings(backbone=name), ("identity",)) for name in ("own:mine", f"file:{path}")]
    assert specs[0].fingerprint == specs[1].fingerprint
    row = table()[-1]
    assert (row["name"], row["arch"], row["available"]) == ("own:mine", "squeezenet1_1", True)
    path.write_bytes(content[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(WeightsError, match="damaged or another file"):
        weights_sha(find_backbone("own:mine"))


def test_a_name_may_be_used_anew_and_others_stay(content: bytes) -> None:
    for name in ("b", "a", "b"):
        register(name, content, {})
    assert own_names() == ("a", "b")
    lines = (own_folder() / "SHA256SUMS").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["a.safetensors", "b.safetensors"]
    (own_folder() / "a.safetensors").unlink()
    register("c", content, {})
    assert "a.safetensors" not in (own_folder() / "SHA256SUMS").read_text()


def test_an_unknown_name_says_what_is_there(content: bytes) -> None:
    with pytest.raises(WeightsError, match=r"own:mine is not registered .* none is registered"):
        find_backbone("own:mine")
    register("mine", content, {})
    with pytest.raises(WeightsError, match="did you mean 'mine'"):
        find_backbone("own:mime")


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a+b", "-a", ".a", "a b"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a backbone"):
        check_name(name)


def test_a_folder_that_cannot_be_written_is_named(home: Path, content: bytes) -> None:
    (home / "backbones").write_text("a file in the way")
    with pytest.raises(RunError, match=r"cannot be written .* set MEDTL_HOME"):
        register("mine", content, {})


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDTL_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert own_folder() == tmp_path / "data" / "medtl" / "backbones"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert own_folder() == tmp_path / ".local" / "share" / "medtl" / "backbones"
