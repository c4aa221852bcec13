"""The user's own backbones: found by name in their folder, listed, and refused when damaged."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.weights import weights_sha
from medtl_core.backbones.zoo import find_backbone, own_folder, own_names
from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.recipes.contamination import contamination
from medtl_core.values import Examples, Task


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


@pytest.fixture
def described(home: Path) -> Callable[..., None]:
    """Writes own:mine, a tiny transformer, with a manifest; facts given change it."""
    state = load_network(find_backbone("random:timm:test_vit"))[0].state_dict()
    content = save({name: value.contiguous() for name, value in state.items()})

    def write(**facts: object) -> None:
        (home / "mine.safetensors").write_bytes(content)
        known = {"schema": 1, "architecture": "timm:test_vit", "sha256": hashlib.sha256(content).hexdigest()}
        (home / "mine.json").write_text(json.dumps({**known, **facts}))

    return write


def test_a_manifest_says_how_a_backbone_is_read(described: Callable[..., None], home: Path) -> None:
    described(
        size=96, mean=[0.5], std=[0.1, 0.2, 0.3], taps=["blocks.3", "norm.cls"], pooling="mean", licence="MIT",
        trained_on=["phantom"],
    )  # fmt: skip
    spec = feature_spec(Settings(backbone="own:mine"), ("identity",))
    assert (spec.size, spec.pooling, spec.taps, spec.width) == (96, "mean", ("blocks.3", "norm.cls"), 128)
    assert (spec.mean, spec.std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))
    plain = feature_spec(Settings(backbone="own:mine", features="plain"), ("identity",))
    assert (plain.taps, plain.pooling) == (("norm.cls",), "mean")
    examples = Examples({"image": np.zeros((1, 9, 9, 3), np.uint8)}, Task("t", ("a",)))
    assert extract(examples, spec, Settings(backbone="own:mine", cache="off")).values.shape == (1, 128)
    assert find_backbone(f"file:{home}/mine.safetensors").size == 96
    described(channels=1, mean=[0.5], std=[0.000488])
    assert find_backbone("own:mine").identity == "timm:test_vit:in_chans=1"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"taps": "norm.cls"}, "is no list"),
        ({"trained_on": "phantom"}, "is no list"),
        ({"mean": [0.5, 0.5]}, "is not one number a channel"),
        ({"std": [float("inf")]}, "is not one number a channel"),
        ({"std": [0]}, "std must be above 0"),
        ({"channels": 2}, "channels must be 3, or 1"),
        ({"pooling": "max"}, "pooling must be one of mean, mean"),
        ({"licenses": "MIT"}, "unknown fact 'licenses'; did you mean 'licence'"),
        ({"modules": {"a": ["blocks.0", 64]}}, "unknown fact 'modules'"),
        ({"architecture": "own:mine"}, "architecture must be timm:NAME or torchvision:NAME"),
        ({"architecture": 3}, "lacks 'architecture' as str"),
        ({"schema": 2}, "not the manifest of a backbone"),
        ({"sha256": "0" * 64}, "damaged or another file"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused(
    described: Callable[..., None], facts: dict[str, object], words: str
) -> None:
    described(**facts)
    with pytest.raises(WeightsError, match=words):
        feature_spec(Settings(backbone="own:mine"), ("identity",))


def test_a_tap_that_is_not_there_is_named_with_the_nearest(described: Callable[..., None]) -> None:
    described(taps=["blocks.9"])
    with pytest.raises(ConfigError, match=r"no tap 'blocks\.9'; did you mean"):
        feature_spec(Settings(backbone="own:mine"), ("identity",))


def test_data_that_a_backbone_learnt_from_are_named_contaminated(described: Callable[..., None]) -> None:
    entry = catalog()["nih_cxr64"]
    for sets, backbone, seen in (
        (["NIH-CXR64", "other"], "own:mine", True),
        (["nih_cxr64"], "lite0+own:mine+table", True),
        ([entry.title], "own:mine", True),
        (["kermany_cxr224"], "own:mine", False),
        (["nih_cxr64"], "lite0", False),
        (["nih_cxr64"], "table", False),
    ):
        described(trained_on=sets)
        words = contamination(Settings(backbone=backbone), entry)
        assert (words != "") == seen
        assert not seen or ("own:mine learnt from nih_cxr64" in words and "lite0" not in words)
    for name, sets in (("lite0", ("ImageNet-1k",)), ("random:lite0", ())):
        assert find_backbone(name).trained_on == sets
