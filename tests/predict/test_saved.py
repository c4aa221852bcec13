"""Heads on disk: back by any of their names, and refused where they are no head; damaged files: tests/test_store.py."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from medtl_core.errors import RunError, WeightsError
from medtl_core.predict.saved import load_head, save_head
from medtl_core.values import Head

WEIGHT, BIAS = np.arange(6.0).reshape(2, 3), np.array([0.5, -1.0e4])


def head(weight: np.ndarray = WEIGHT, bias: np.ndarray = BIAS) -> Head:
    return Head(weight, bias, "ridge", ("a", "b"), "f" * 64, {"shrinkage": 0.5})


@pytest.mark.parametrize("name", ["ridge", "ridge.json", "ridge.safetensors", "fedavg-20.adjusted@site 1.json"])
def test_a_head_comes_back_as_it_was_by_any_name(tmp_path: Path, name: str) -> None:
    manifest = save_head(head(), tmp_path / "heads", name.removesuffix(".json").removesuffix(".safetensors"))
    loaded = load_head(manifest.parent / name)
    np.testing.assert_array_equal(loaded.weight, WEIGHT)
    np.testing.assert_array_equal(loaded.bias, BIAS)
    assert (loaded.kind, loaded.classes, loaded.fingerprint) == ("ridge", ("a", "b"), "f" * 64)
    assert loaded.facts == {"shrinkage": 0.5}


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a\\b", "a\n"])
def test_a_head_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="head name"):
        save_head(head(), tmp_path, name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": np.full((2, 3), np.nan)}, "not finite"),
        ({"bias": np.array([np.inf, 0.0])}, "not finite"),
        ({"bias": np.zeros(3)}, "do not fit"),
        ({"weight": np.zeros(3)}, "do not fit"),
    ],
)
def test_an_unusable_head_is_not_saved(tmp_path: Path, changes: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        save_head(head(**changes), tmp_path, "bad")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arrays", "changes", "words"),
    [
        ({}, {"classes": "ab"}, "lacks 'classes'"),
        ({}, {"classes": ["a", "b", "c"]}, "do not fit"),
        ({}, {"features": 4}, "do not fit"),
        ({"weight": WEIGHT}, {}, "do not fit"),
        ({"weight": WEIGHT.astype(np.float32), "bias": BIAS}, {}, "do not fit"),
        ({"weight": WEIGHT + np.inf, "bias": BIAS}, {}, "not finite"),
    ],
)
def test_files_that_are_no_head_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], changes: dict[str, object], words: str
) -> None:
    path = save_head(head(), tmp_path, "ridge")
    content = save(arrays or {"weight": WEIGHT, "bias": BIAS})
    path.with_suffix(".safetensors").write_bytes(content)
    sealed = {**json.loads(path.read_text()), "sha256": hashlib.sha256(content).hexdigest(), **changes}
    path.write_text(json.dumps(sealed))
    with pytest.raises(WeightsError, match=words):
        load_head(path)


@pytest.mark.parametrize("place", ["autoo", "auto.json.bak", ".", "..", "../.."])
def test_a_head_that_is_not_there_is_told_with_those_that_are(tmp_path: Path, place: str) -> None:
    save_head(head(), tmp_path / "seed-0" / "heads", "auto")
    with pytest.raises(WeightsError, match=r"there is no head .*; in .* are (seed-0/heads/|heads/|)auto$"):
        load_head(tmp_path / "seed-0" / "heads" / place)
    with pytest.raises(WeightsError, match=r"there is no head .*nothing; a run keeps its own in"):
        load_head(tmp_path / "far" / "nothing")
