import contextlib
import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from medtl_core import run_folder, store
from medtl_core.errors import RunError, WeightsError
from medtl_core.federation import saved
from medtl_core.values import Head


def head(**changes: object) -> Head:
    values: dict[str, object] = {
        "weight": np.arange(6.0).reshape(2, 3), "bias": np.array([0.5, -1.0e4]), "kind": "ridge", "classes": ("a", "b"),
        "fingerprint": "f" * 64, "facts": {"shrinkage": 0.5},
    }  # fmt: skip
    return Head(**(values | changes))  # type: ignore[arg-type]


def test_a_new_and_an_empty_folder_are_taken(tmp_path: Path) -> None:
    assert run_folder.create_run(tmp_path / "a" / "b").folder == tmp_path / "a" / "b"
    (tmp_path / "empty").mkdir()
    assert run_folder.create_run(tmp_path / "empty").events_path.exists()


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    run_folder.create_run(tmp_path / "run")
    with pytest.raises(RunError, match="already in use"):
        run_folder.create_run(tmp_path / "run")


def test_of_runs_that_start_together_one_wins(tmp_path: Path) -> None:
    barrier, won = threading.Barrier(8), []

    def claim() -> None:
        barrier.wait()
        with contextlib.suppress(RunError):
            won.append(run_folder.create_run(tmp_path / "run"))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_file_is_no_run_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--out"):
        run_folder.create_run(tmp_path / "file")
    with pytest.raises(RunError, match="--out"):
        run_folder.create_run(tmp_path / "file" / "below")


def test_a_run_leaves_its_record(tmp_path: Path) -> None:
    with run_folder.create_run(tmp_path / "run") as run:
        run.begin({"name": "x", "settings": {"shots": 5}})
        assert run.seed_folder(3).is_dir()
        run.finish({"methods": {}}, "<!doctype html>")
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "config.json", "events.jsonl", "metrics.json", "report.html", "seed-3", "versions.json",
    ]  # fmt: skip
    assert json.loads((run.folder / "config.json").read_text())["settings"] == {"shots": 5}
    assert json.loads((run.folder / "versions.json").read_text())["python"]


@pytest.mark.parametrize("error, words", [(RunError("no quorum"), "RunError: no quorum"), (KeyboardInterrupt(), "int")])
def test_a_failed_run_is_marked(tmp_path: Path, error: BaseException, words: str) -> None:
    with pytest.raises(type(error)), run_folder.create_run(tmp_path / "run"):
        raise error
    assert words in (tmp_path / "run" / "FAILED").read_text()
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_text(tmp_path / "a.json", "old")

    def broken(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError):
        store.write_text(tmp_path / "a.json", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_json_knows_numpy_and_no_nan() -> None:
    value = {
        "a": np.float32(0.5), "b": np.array([1, 2]), "c": float("nan"), "d": -np.inf, "e": Path("x"), "f": (1,),
        "g": np.array([np.nan, 1.0]), "h": {"z", "y"}, "i": True,
    }  # fmt: skip
    assert json.loads(store.to_json(value)) == {
        "a": 0.5, "b": [1, 2], "c": None, "d": "-inf", "e": "x", "f": [1], "g": [None, 1.0], "h": ["y", "z"], "i": True,
    }  # fmt: skip


@pytest.mark.parametrize("suffix", ["", ".json", ".safetensors"])
def test_a_head_comes_back_as_it_was(tmp_path: Path, suffix: str) -> None:
    manifest = saved.save_head(head(), tmp_path / "heads", "fedavg-20.adjusted@site 1")
    found = saved.load_head(tmp_path / "heads" / f"fedavg-20.adjusted@site 1{suffix or '.json'}")
    assert manifest.name == "fedavg-20.adjusted@site 1.json"
    np.testing.assert_array_equal(found.weight, head().weight)
    np.testing.assert_array_equal(found.bias, head().bias)
    assert (found.kind, found.classes, found.fingerprint, found.facts) == (
        "ridge", ("a", "b"), "f" * 64, {"shrinkage": 0.5},
    )  # fmt: skip


def test_a_head_is_found_by_the_common_name(tmp_path: Path) -> None:
    saved.save_head(head(), tmp_path, "ridge")
    assert saved.load_head(tmp_path / "ridge").kind == "ridge"


def test_a_saved_head_is_rewritten_not_mixed(tmp_path: Path) -> None:
    saved.save_head(head(), tmp_path, "ridge")
    saved.save_head(head(bias=np.array([1.0, 2.0])), tmp_path, "ridge")
    assert saved.load_head(tmp_path / "ridge").bias.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a\\b", "a\n"])
def test_a_head_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="head name"):
        saved.save_head(head(), tmp_path, name)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"weight": np.full((2, 3), np.nan)}, "not finite"),
        ({"bias": np.array([np.inf, 0.0])}, "not finite"),
        ({"bias": np.zeros(3)}, "do not fit"),
        ({"weight": np.zeros(3)}, "do not fit"),
    ],
)
def test_an_unusable_head_is_not_saved(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        saved.save_head(head(**changes), tmp_path, "bad")
    assert list(tmp_path.iterdir()) == []


def spoil_bytes(folder: Path) -> None:
    path = folder / "ridge.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def spoil_manifest(folder: Path, **changes: object) -> None:
    path = folder / "ridge.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def swap_weights(folder: Path, **arrays: np.ndarray) -> None:  # type: ignore[type-arg]
    import hashlib

    from safetensors.numpy import save

    content = save(arrays)
    (folder / "ridge.safetensors").write_bytes(content)
    spoil_manifest(folder, sha256=hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    "spoil, words",
    [
        (spoil_bytes, "SHA-256"),
        (lambda folder: (folder / "ridge.safetensors").unlink(), "cannot be read"),
        (lambda folder: (folder / "ridge.json").unlink(), "manifest"),
        (lambda folder: (folder / "ridge.json").write_text("[]"), "not the manifest"),
        (lambda folder: (folder / "ridge.json").write_text("{"), "cannot be read"),
        (lambda folder: spoil_manifest(folder, schema=2), "not the manifest"),
        (lambda folder: spoil_manifest(folder, classes="ab"), "lacks 'classes'"),
        (lambda folder: spoil_manifest(folder, classes=["a", "b", "c"]), "do not fit"),
        (lambda folder: spoil_manifest(folder, features=4), "do not fit"),
        (lambda folder: swap_weights(folder, weight=np.zeros((2, 3))), "exactly"),
        (lambda folder: swap_weights(folder, weight=np.zeros((2, 3), np.float32), bias=np.zeros(2)), "float64"),
        (lambda folder: swap_weights(folder, weight=np.full((2, 3), np.inf), bias=np.zeros(2)), "not finite"),
    ],
)
def test_a_damaged_head_is_refused(tmp_path: Path, spoil, words: str) -> None:  # type: ignore[no-untyped-def]
    saved.save_head(head(), tmp_path, "ridge")
    spoil(tmp_path)
    with pytest.raises(WeightsError, match=words):
        saved.load_head(tmp_path / "ridge.json")


def test_bytes_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    import hashlib

    saved.save_head(head(), tmp_path, "ridge")
    (tmp_path / "ridge.safetensors").write_bytes(b"pickle")
    spoil_manifest(tmp_path, sha256=hashlib.sha256(b"pickle").hexdigest())
    with pytest.raises(WeightsError, match="not a safetensors"):
        saved.load_head(tmp_path / "ridge.json")
