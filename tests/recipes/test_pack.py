"""`medtl backbones pack` and `unpack`: what is carried is the same, and an archive that is not ours harms nothing."""

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from medtl_core.backbones.zoo import own_names
from medtl_core.errors import ConfigError, WeightsError
from tests.recipes.conftest import Call

Recipe = Callable[..., Path]
WORDS = {"mine.json": "{}", "LICENSE.txt": ""}
NAMES = ("LICENSE.txt", "mine.json", "mine.safetensors")


@pytest.fixture
def fetched(home: Path, recipe: Recipe, call: Call) -> Path:
    """The folder of a hospital that fetched "mine"."""
    call("fetch", "mine", "--accept-licence", "Test-1.0", "--recipe", recipe())
    return home


def test_an_archive_carries_a_backbone_with_its_licence(fetched: Path, call: Call, tmp_path: Path) -> None:
    archives = [tmp_path / "one.zip", tmp_path / "two.zip"]
    for archive in archives:
        call("pack", "mine", "--out", archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as packed:
        assert sorted(packed.namelist()) == sorted(NAMES)
        assert packed.read("LICENSE.txt") == b"Do as you like."
    assert "Test-1.0" in call("unpack", archives[0], "--to", tmp_path / "there")
    for name in NAMES[1:]:
        assert (tmp_path / "there" / name).read_bytes() == (fetched / name).read_bytes()
    assert len(list((tmp_path / "there").iterdir())) == 2
    with pytest.raises(ConfigError, match="is there already"):
        call("pack", "mine", "--out", archives[0])
    with pytest.raises(ConfigError, match="is a backbone already"):
        call("unpack", archives[0])


def test_what_a_licence_does_not_allow_or_a_hash_contradicts_is_not_packed(
    fetched: Path, call: Call, tmp_path: Path
) -> None:
    manifest = fetched / "mine.json"
    facts = json.loads(manifest.read_text())
    for changes, error, words in (
        ({"redistribution": False}, ConfigError, "Test-1.0. is not known to allow passing.*every hospital fetches"),
        ({"licence_text": ""}, ConfigError, "is not known to allow"),
        ({"sha256": "0" * 64}, WeightsError, "SHA-256 differs"),
    ):
        manifest.write_text(json.dumps({**facts, **changes}))
        with pytest.raises(error, match=words):
            call("pack", "mine", "--out", tmp_path / "a.zip")
    with pytest.raises(WeightsError, match=r"manifest .*none\.json cannot be read"):
        call("pack", "none", "--out", tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def entry(name: str, mode: int = 0, kind: int = zipfile.ZIP_STORED) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, kind
    return info


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (WORDS, "nothing else"),
        ({"../mine.safetensors": "", "../mine.json": "{}", "LICENSE.txt": ""}, "cannot name a backbone"),
        ({"/mine.safetensors": "", "/mine.json": "{}", "LICENSE.txt": ""}, "cannot name a backbone"),
        ({"mine.safetensors": "", **WORDS, "../../more": ""}, "nothing else"),
        ({"mine.safetensors": stat.S_IFLNK | 0o777, **WORDS}, r"mine\.safetensors is a link"),
        ({"mine.safetensors": None, **WORDS}, r"mine\.safetensors is a link, compressed"),
        ({"mine.safetensors": "", **WORDS, "mine.json": " " * 1_000_001}, r"mine\.json is .*too large"),
        ({"mine.safetensors": "", **WORDS}, "not the manifest of a backbone"),
    ],
)
def test_an_archive_that_is_not_ours_is_refused_and_nothing_is_written(
    home: Path, call: Call, tmp_path: Path, entries: dict[str, str | int | None], words: str
) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, content in entries.items():
            kind = zipfile.ZIP_DEFLATED if content is None else zipfile.ZIP_STORED
            info = entry(name, content if isinstance(content, int) else 0, kind)
            archive.writestr(info, content if isinstance(content, str) else "0" * 100_000)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((ConfigError, WeightsError), match=words):
        call("unpack", tmp_path / "a.zip")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.is_file()] == []


def test_a_damaged_archive_and_other_weights_than_the_manifests_are_refused(
    fetched: Path, call: Call, tmp_path: Path
) -> None:
    call("pack", "mine", "--out", tmp_path / "a.zip")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.zip").write_bytes(content)
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    with zipfile.ZipFile(tmp_path / "a.zip") as good, zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        for name in NAMES[:2]:
            other.writestr(entry(name), good.read(name))
        weights = bytearray(good.read(NAMES[2]))
        weights[-1] ^= 1
        other.writestr(entry(NAMES[2]), bytes(weights))
    for name, words in (("flipped", "damaged"), ("cut", "damaged"), ("other", "another file"), ("none", "no archive")):
        with pytest.raises(WeightsError, match=words):
            call("unpack", tmp_path / f"{name}.zip", "--to", tmp_path / "there")
    assert not any(path.is_file() for path in (tmp_path / "there").rglob("*"))
    assert own_names() == ["mine"]
