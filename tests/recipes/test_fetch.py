"""`medtl backbones fetch` against a real server: what it keeps, what it refuses; nothing is ever half there."""

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.zoo import find_backbone, own_names
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.recipes.recipe import recipes
from tests.backbones.test_weights import Trap
from tests.recipes.conftest import ARCH, Call
from tests.recipes.server import FileServer

Recipe = Callable[..., Path]
ACCEPT = ("--accept-licence", "Test-1.0")


def left(home: Path) -> list[str]:
    """What lies in the folder of backbones, but for the lock."""
    return sorted(path.name for path in home.glob("*") if path.name != ".fetching") if home.exists() else []


def test_a_safetensors_file_is_kept_as_it_is_with_its_manifest(
    home: Path, server: FileServer, recipe: Recipe, call: Call
) -> None:
    shown = call("fetch", "mine", *ACCEPT, "--recipe", recipe(size=96, mean=[0.5], trained_on=["phantom"]))
    assert "backbone=own:mine" in shown and "Test-1.0" in shown
    assert left(home) == ["mine.json", "mine.safetensors"]
    assert (home / "mine.safetensors").read_bytes() == server.files["/a.safetensors"]
    facts = json.loads((home / "mine.json").read_text())
    assert facts["sha256"] == facts["source_sha256"] == hashlib.sha256(server.files["/a.safetensors"]).hexdigest()
    backbone = find_backbone("own:mine")
    assert (backbone.identity, backbone.size, backbone.mean) == (ARCH, 96, (0.5, 0.5, 0.5))
    assert (backbone.licence, backbone.trained_on) == ("Test-1.0", ("phantom",))
    asked = len(server.asked)
    call("fetch", "mine", *ACCEPT, "--recipe", recipe())
    assert len(server.asked) == asked  # it is here
    assert "own:mine" in call("list")


@pytest.mark.parametrize(("path", "facts"), [("/a.pth", {}), ("/inside.pth", {"inside": "model"})])
def test_a_pickle_of_the_known_hash_becomes_safetensors_of_equal_values(
    home: Path, server: FileServer, recipe: Recipe, call: Call, path: str, facts: dict[str, object]
) -> None:
    call("fetch", "mine", *ACCEPT, "--recipe", recipe(path, **facts), "--quiet")
    assert left(home) == ["mine.json", "mine.safetensors"]
    expected, sha = load_network(find_backbone("own:mine"))
    assert sha == hashlib.sha256((home / "mine.safetensors").read_bytes()).hexdigest()
    random = load_network(find_backbone(f"random:{ARCH}"))[0].state_dict()
    torch.testing.assert_close(dict(expected.state_dict()), dict(random), rtol=0, atol=0)
    asked = len(server.asked)
    call("fetch", "mine", *ACCEPT, "--recipe", recipe(path, **facts))
    assert len(server.asked) == asked


@pytest.mark.parametrize(
    ("facts", "error", "words"),
    [
        ({"sha256": "0" * 64}, WeightsError, "not the one that is known: SHA-256 [0-9a-f]{64}, expected 0000"),
        ({"path": "/none"}, WeightsError, "answers 404"),
        ({"bytes": 100}, WeightsError, "more than the 100 bytes"),
        ({"architecture": "timm:test_resnet"}, WeightsError, "not those of 'timm:test_resnet'"),
        ({"architecture": "own:mine"}, ConfigError, "architecture is not timm:NAME or torchvision:NAME"),
        ({"size": "big"}, WeightsError, "another form"),
        ({"path": "/a.pth", "inside": "model"}, WeightsError, "plain table of tensors"),
        ({"url": "http://127.0.0.1/a"}, ConfigError, "must begin with https"),
        ({"licence": None}, ConfigError, "must say 'licence'"),
        ({"sha256": "12"}, ConfigError, "64 small hexadecimal"),
        ({"bytes": "many"}, ConfigError, "must say 'bytes', of type int"),
        ({"gate": "NO_TOKEN_IS_SET", "gate_url": "https://ask.here"}, ConfigError, "ask.here.*NO_TOKEN_IS_SET"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused_and_nothing_stays(
    home: Path, recipe: Recipe, call: Call, facts: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call("fetch", "mine", *ACCEPT, "--recipe", recipe(**facts))
    assert left(home) == []


def test_a_licence_must_be_accepted_by_its_name_before_anything_is_asked(
    home: Path, server: FileServer, recipe: Recipe, call: Call
) -> None:
    for words in ((), ("--accept-licence", "MIT")):
        with pytest.raises(ConfigError, match=r"come under Test-1\.0.*--accept-licence Test-1\.0"):
            call("fetch", "mine", *words, "--recipe", recipe())
    assert (server.asked, left(home)) == ([], [])


def test_a_gates_token_is_shown_to_its_host_alone(
    home: Path, server: FileServer, recipe: Recipe, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GATE", "wrong")
    server.token = "Bearer secret"
    with pytest.raises(WeightsError, match=r"closed to this call .401.: the token in GATE does not open it") as caught:
        call("fetch", "mine", *ACCEPT, "--recipe", recipe(gate="GATE"))
    assert "wrong" not in str(caught.value)
    monkeypatch.delenv("GATE")
    (tmp_path / "token").write_text("secret\n")
    monkeypatch.setenv("GATE_FILE", str(tmp_path / "token"))
    call("fetch", "mine", *ACCEPT, "--recipe", recipe(gate="GATE"))
    assert own_names() == ["mine"]
    server.token, server.moved["/b.safetensors"] = "", server.address("/a.safetensors", "localhost")
    moved = recipe(gate="GATE", url=server.address("/b.safetensors"))
    call("fetch", "mine", *ACCEPT, "--to", tmp_path / "other", "--recipe", moved)
    assert server.asked[-2:] == [("/b.safetensors", "", "Bearer secret"), ("/a.safetensors", "", "")]


def test_a_connection_that_breaks_off_is_gone_on_with(
    home: Path, server: FileServer, recipe: Recipe, call: Call
) -> None:
    server.cut["/a.safetensors"] = 200_000
    with pytest.raises(WeightsError, match="ChunkedEncodingError; call again to go on"):
        call("fetch", "mine", *ACCEPT, "--recipe", recipe())
    assert own_names() == []
    call("fetch", "mine", *ACCEPT, "--recipe", recipe())
    assert server.asked[-1][1] == f"bytes={3 << 16}-"
    assert left(home) == ["mine.json", "mine.safetensors"]


def test_plain_http_and_an_unknown_certificate_are_refused(
    home: Path, server: FileServer, recipe: Recipe, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.moved["/b.safetensors"] = server.address("/a.safetensors").replace("https", "http")
    with pytest.raises(WeightsError, match="sent on to plain HTTP"):
        call("fetch", "mine", *ACCEPT, "--recipe", recipe(url=server.address("/b.safetensors")))
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(WeightsError, match="SSLError"):
        call("fetch", "mine", *ACCEPT, "--recipe", recipe())
    assert left(home) == []


def test_a_pickle_with_code_is_not_run_even_where_its_hash_is_the_recipes(
    home: Path, server: FileServer, recipe: Recipe, call: Call, tmp_path: Path
) -> None:
    server.files["/evil.pth"] = pickle.dumps({"a": Trap(tmp_path / "opened")})
    with pytest.raises(WeightsError, match="plain table of tensors"):
        call("fetch", "mine", *ACCEPT, "--recipe", recipe("/evil.pth"))
    assert not (tmp_path / "opened").exists() and left(home) == []


def test_another_backbone_of_that_name_stays(home: Path, recipe: Recipe, call: Call) -> None:
    home.mkdir(parents=True)
    (home / "mine.safetensors").write_bytes(b"mine")
    (home / "mine.json").write_text(json.dumps({"schema": 1, "architecture": ARCH, "sha256": "0"}))
    with pytest.raises(ConfigError, match="is a backbone already"):
        call("fetch", "mine", *ACCEPT, "--recipe", recipe())
    assert (home / "mine.safetensors").read_bytes() == b"mine"


def test_the_recipes_that_come_with_medtl_are_whole_and_listed(home: Path, call: Call) -> None:
    from timm.models import is_model

    shown = call("list")
    for name, each in recipes().items():
        assert name in shown and each.licence_url.startswith("https://")
        library, _, arch = str(each.facts["architecture"]).partition(":")
        if library == "timm":
            assert is_model(arch) and each.url.endswith(f"{each.facts['revision']}/model.safetensors")
        else:
            backbone = find_backbone(f"{library}:{arch}")
            assert each.sha256.startswith(backbone.file.rpartition("-")[2].removesuffix(".pth"))
            assert each.url.endswith(backbone.file)
    with pytest.raises(ConfigError, match="did you mean 'resnet18'"):
        call("fetch", "resnet81")
