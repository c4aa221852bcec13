"""Arrays and JSON on disk: whole or not at all, back as they were, and every damage one clear error."""

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medtl_core import store
from medtl_core.errors import WeightsError
from medtl_core.store import ArrayStore

THINGS = ArrayStore("thing", {"round": int}, "fetch it again", mode=0o600)


def write(stem: Path, value: float = 1.0) -> Path:
    arrays = {"head": np.full((2, 3), value, np.float32), "bias": np.full(2, value)}
    return THINGS.write(stem, arrays, {"round": 3})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_text(tmp_path / "a.json", "old")

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError):
        store.write_text(tmp_path / "a.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_private_file_is_on_disk_with_its_name_and_never_taken_for_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[bool, list[str]]] = []

    def fsync(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), sorted(path.name for path in tmp_path.glob("[a-z]*"))))

    monkeypatch.setattr(os, "fsync", fsync)
    store.write_bytes(tmp_path / "key", b"one", mode=0o600)
    assert synced == [(False, []), (True, ["key"])]
    with pytest.raises(FileExistsError):
        store.write_bytes(tmp_path / "key", b"two", mode=0o600, new=True)
    store.write_bytes(tmp_path / "other", b"two", mode=0o600, new=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"key": b"one", "other": b"two"}


def test_json_knows_numpy_and_no_nan() -> None:
    value = {
        "a": np.float32(0.5), "b": np.array([1, 2]), "c": float("nan"), "d": -np.inf, "e": Path("x"), "f": (1,),
        "g": np.array([np.nan, 1.0]), "h": {"z", "y"}, "i": True,
    }  # fmt: skip
    assert json.loads(store.to_json(value)) == {
        "a": 0.5, "b": [1, 2], "c": None, "d": "-inf", "e": "x", "f": [1], "g": [None, 1.0], "h": ["y", "z"], "i": True,
    }  # fmt: skip


def test_arrays_come_back_as_they_were_and_only_their_owner_may_read(tmp_path: Path) -> None:
    stem = tmp_path / "made" / "fedavg-20.adjusted@site 1"
    write(stem)
    assert write(stem, 2.0) == stem.with_name("fedavg-20.adjusted@site 1.json")  # rewritten, not mixed
    manifest, arrays = THINGS.read(stem)
    assert manifest["round"] == 3
    assert (arrays["head"].tolist(), arrays["bias"].tolist()) == ([[2.0] * 3] * 2, [2.0] * 2)
    assert (arrays["head"].dtype, arrays["bias"].dtype) == (np.float32, np.float64)
    assert stat.S_IMODE(stem.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in stem.parent.iterdir()} == {0o600}


def flip(folder: Path) -> None:
    content = (folder / "x.safetensors").read_bytes()
    (folder / "x.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def edit(folder: Path, **changes: object) -> None:
    manifest = json.loads((folder / "x.json").read_text())
    (folder / "x.json").write_text(json.dumps({**manifest, **changes}))


def swap(folder: Path) -> None:
    (folder / "x.safetensors").write_bytes(b"not tensors")
    edit(folder, sha256=hashlib.sha256(b"not tensors").hexdigest())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (flip, "SHA-256"),
        (lambda folder: (folder / "x.safetensors").write_bytes(b""), "SHA-256"),
        (lambda folder: (folder / "x.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "x.json").unlink(), "cannot be read"),
        (lambda folder: (folder / "x.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "x.json").write_text("[]"), "not the manifest"),
        (lambda folder: edit(folder, schema=99), "version"),
        (lambda folder: edit(folder, sha256=3), "lacks 'sha256'"),
        (lambda folder: edit(folder, round="3"), "lacks 'round'"),
        (swap, "not a safetensors"),
    ],
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    write(tmp_path / "x")
    spoil(tmp_path)
    with pytest.raises(WeightsError, match=f"{words}.*fetch it again"):
        THINGS.read(tmp_path / "x")


def test_what_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not finite"):
        write(tmp_path / "folder" / "x", np.nan)
    assert not (tmp_path / "folder").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match=r"cannot be written.*make room"):
        write(tmp_path / "file" / "x")
