"""A tiny transformer of timm as files, a server that has them, and the command line."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medtl_core.cli.app import app
from medtl_core.errors import MedtlError
from tests.recipes.server import FileServer, serve

ARCH = "timm:test_vit"
Call = Callable[..., str]


@pytest.fixture(scope="session")
def weights() -> dict[str, bytes]:
    """The same tensors as safetensors, as a plain `.pth` and as one with a table inside."""
    import torch
    from safetensors.torch import save

    from medtl_core.backbones.networks import load_network
    from medtl_core.backbones.zoo import find_backbone

    state = load_network(find_backbone(f"random:{ARCH}"))[0].state_dict()
    tables: dict[str, Any] = {"/a.pth": dict(state), "/inside.pth": {"model": dict(state)}}
    files = {"/a.safetensors": save({name: value.contiguous() for name, value in state.items()})}
    for path, table in tables.items():
        buffer = io.BytesIO()
        torch.save(table, buffer)
        files[path] = buffer.getvalue()
    return files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of backbones."""
    monkeypatch.setenv("MEDTL_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "backbones"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, bytes]) -> Iterator[FileServer]:
    """A server of these files, trusted by whatever this process fetches."""
    state = FileServer(files=dict(weights))
    running = serve(state, tmp_path / "trusted.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "trusted.pem"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield state
    running.shutdown()
    running.server_close()


@pytest.fixture
def recipe(tmp_path: Path, server: FileServer) -> Callable[..., Path]:
    """Writes a recipe "mine" for a file of the server; facts given change it, None takes one away."""

    def write(path: str = "/a.safetensors", **facts: Any) -> Path:
        known = {
            "url": server.address(path), "sha256": hashlib.sha256(server.files.get(path, b"")).hexdigest(),
            "architecture": ARCH, "licence": "Test-1.0", "licence_text": "Do as you like.", "redistribution": True,
        }  # fmt: skip
        rows = {key: value for key, value in {**known, **facts}.items() if value is not None}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())
        file = tmp_path / "recipes.toml"
        file.write_text(f"[mine]\n{text}")
        return file

    return write


@pytest.fixture
def call() -> Call:
    """Runs `medtl backbones ...` and returns its standard output; an error is raised as it is."""

    def run(*words: str | Path) -> str:
        done = CliRunner().invoke(app, ["backbones", *map(str, words)], catch_exceptions=True)
        if isinstance(done.exception, MedtlError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    return run
