"""The user's own backbones: found by name in their folder, listed, and refused when damaged."""

import hashlib
from pathlib import Path

import pytest
from safetensors.torch import save

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.weights import weights_sha
from medtl_core.backbones.zoo import find_backbone, own_folder, own_names
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.extract import feature_spec


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDTL_HOME", str(tmp_path))
    (tmp_path / "backbones").mkdir()
    return tmp_path / "backbones"


def test_a_file_in_the_folder_is_found_by_name_read_listed_last_and_held_against_its_sum(home: Path) -> None:
    with pytest.raises(WeightsError, match=r"own:mine needs the file .* none is here"):
        find_backbone("own:mine")
    state = load_network(find_backbone("random:squeezenet1_1"))[0].state_dict()
    content = save({name: value.contiguous() for name, value in state.items()}, {"arch": "torchvision:squeezenet1_1"})
    path = home / "mine.safetensors"
    path.write_bytes(content)
    (home / "SHA256SUMS").write_text(f"{hashlib.sha256(content).hexdigest()}  {path.name}\n")
    backbone = find_backbone("own:mine")
    assert (backbone.name, backbone.identity, backbone.source) == ("own:mine", "torchvision:squeezenet1_1", "file")
    assert load_network(backbone)[1] == weights_sha(backbone) == hashlib.sha256(content).hexdigest()
    specs = [feature_spec(Settings(backbone=name), ("identity",)) for name in ("own:mine", f"file:{path}")]
    assert specs[0].fingerprint == specs[1].fingerprint
    assert own_names() == ["mine"]
    with pytest.raises(WeightsError, match="did you mean 'mine'"):
        find_backbone("own:mime")
    path.write_bytes(content[:-4] + b"\x00\x00\x80\x3f")
    with pytest.raises(WeightsError, match="damaged or another file"):
        weights_sha(backbone)


@pytest.mark.parametrize("name", ["a/b", "../a", "a+b", "-a", ".a", "a b"])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a backbone"):
        find_backbone(f"own:{name}")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MEDTL_HOME", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert own_folder() == tmp_path / "data" / "medtl" / "backbones"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert own_folder() == tmp_path / ".local" / "share" / "medtl" / "backbones"
