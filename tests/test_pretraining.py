"""`medtl pretrain`: public data only, a file that is read like any other backbone, and orders that cannot be done."""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from medtl_core.backbones.networks import load_network
from medtl_core.backbones.own import own_folder
from medtl_core.backbones.weights import load_weights
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cli import app as cli
from medtl_core.cli.pretrain import open_public, pretrain
from medtl_core.cli.trainer import Lesson, sides
from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.data.source import Source
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, MedtlError, RunError, WeightsError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.values import Examples
from tests.manifest import write_manifest

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL = Lesson("random:squeezenet1_1", epochs=1, size=32, batch_size=8)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where files are written; registered backbones lie in a folder of their own."""
    folder = tmp_path_factory.mktemp("pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDTL_HOME", str(folder / "home"))
        yield folder


@pytest.fixture(scope="module")
def source() -> Source:
    """Two classes told apart by their brightness: 20 cases train, 8 are held out."""
    rng = np.random.default_rng(0)
    label = np.arange(28) % 2
    image = (60 + 130 * label[:, None, None, None] + rng.integers(0, 20, (28, 32, 32, 3))).astype(np.uint8)
    names = np.array([f"p{number}" for number in range(28)])
    split = np.where(np.arange(28) < 20, "train", "test")
    columns = {"label": label.astype(np.int64), "patient": names, "site": np.full(28, "a"), "split": split}
    task = replace(catalog()["phantom"].task, classes=("dark", "bright"))
    return Source(replace(catalog()["phantom"], task=task), Examples({**columns, "image": image}, task), ("made up",))


@pytest.fixture(scope="module")
def mine(source: Source, home: Path) -> dict[str, Any]:
    """The manifest of a small source, own:mine."""
    return pretrain(source, SMALL, home / "mine.safetensors")


@pytest.fixture(scope="module")
def ward(home: Path) -> Path:
    """A folder of two dozen cases of the phantom."""
    write_manifest(phantom(size=32, patients=40).take(np.arange(24)), home / "ward")
    return home / "ward"


# --- the file


def test_equal_settings_give_equal_bytes_and_another_seed_others(source: Source, home: Path, mine: dict) -> None:
    again, other = (
        pretrain(source, replace(SMALL, seed=seed), home / f"seed-{seed}.safetensors")["sha256"] for seed in (0, 1)
    )
    assert mine["sha256"] == again != other
    assert hashlib.sha256((home / "mine.safetensors").read_bytes()).hexdigest() == again


def test_the_source_is_read_by_file_and_by_name_and_keeps_its_classifier(
    source: Source, home: Path, mine: dict
) -> None:
    by_file, by_name = find_backbone(f"file:{home / 'mine.safetensors'}"), find_backbone("own:mine")
    assert by_file.identity == by_name.identity == "torchvision:squeezenet1_1" == mine["arch"]
    assert load_network(by_name)[1] == load_network(by_file)[1] == mine["sha256"]
    assert load_file(home / "mine.safetensors")["classifier.1.weight"].shape[0] == 2
    chosen = Settings(backbone="own:mine", image_size=32, cache="off")
    values = extract(source.examples, feature_spec(chosen, ("identity",)), chosen).values
    assert values.shape == (28, 2304) and np.isfinite(values).all()


def test_the_manifest_says_what_it_was_made_from(home: Path, mine: dict) -> None:
    for folder in (home, own_folder()):
        manifest = json.loads((folder / "mine.json").read_text())
        assert manifest["data"]["licence"] == catalog()["phantom"].licence
        assert (manifest["classes"], manifest["cases"]) == (["dark", "bright"], {"train": 20, "test": 8})
        assert manifest["start"]["backbone"] == "random:squeezenet1_1"
        assert manifest["settings"]["seed"] == 0 and "weights" not in manifest["settings"]
        assert [row["epoch"] for row in manifest["history"]] == [1]
        assert "as public as the cases" in manifest["warning"]


# --- what is trained


def test_it_learns_tells_after_each_epoch_and_leaves_the_statistics_of_norm_layers(source: Source, home: Path) -> None:
    told: list[tuple[int, float, float | None]] = []
    lesson = Lesson("lite0", epochs=8, size=32, batch_size=5, learning_rate=1e-3)
    history = pretrain(
        source, lesson, home / "learnt.safetensors", progress=lambda *epoch: told.append(epoch)
    )["history"]  # fmt: skip
    assert [row["loss"] for row in history] == [loss for _, loss, _ in told]
    assert told[-1][1] < told[0][1]
    assert told[-1][2] == 1.0
    before, after = load_weights(find_backbone("lite0"))[0], load_file(home / "learnt.safetensors")
    assert before.keys() == after.keys()
    shared = {name for name in before if before[name].shape == after[name].shape}
    kept = {name for name in shared if torch.equal(before[name], after[name])}
    assert kept == {name for name in before if "running_" in name or "num_batches" in name}
    assert after["classifier.weight"].shape == (2, 1280)


def test_what_is_not_deeper_than_the_tap_stays(source: Source, home: Path) -> None:
    pretrain(source, Lesson("lite0", epochs=1, size=32, after="10"), home / "deep.safetensors")
    before, after = load_weights(find_backbone("lite0"))[0], load_file(home / "deep.safetensors")
    blocks = [name for name in before if name.startswith("blocks.")]
    moved = {name.split(".")[1] for name in blocks if not torch.equal(before[name], after[name])}
    assert moved == {"5", "6"}  # tap 10 is the last block of stage 4
    assert torch.equal(before["conv_stem.weight"], after["conv_stem.weight"])


def test_without_held_out_cases_nothing_is_judged(source: Source, home: Path) -> None:
    bare = replace(source, examples=source.examples.take(sides(source.examples)["train"]))
    assert pretrain(bare, SMALL, home / "bare.safetensors")["history"][0]["held_out_balanced_accuracy"] is None


# --- what may be used


def test_own_data_must_be_declared_public_and_show_two_classes(ward: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"add --public only if"):
        open_public(str(ward), declared=False)
    assert open_public(str(ward), declared=True).entry.name == "own"
    pool = phantom(size=32, patients=40)
    write_manifest(pool.take(pool["label"] == 1), tmp_path / "alike")
    with pytest.raises(DataError, match="at least two"):
        open_public(str(tmp_path / "alike"), declared=True)


@pytest.mark.parametrize(
    ("changes", "out", "error", "words"),
    [
        ({"after": "99"}, "new.safetensors", ConfigError, "has no tap '99'"),
        ({"backbone": "lite1"}, "new.safetensors", ConfigError, "unknown backbone 'lite1'"),
        ({"weights": "/nowhere"}, "new.safetensors", ConfigError, "contradicts backbone"),
        ({"backbone": "torchvision:resnet18"}, "new.safetensors", WeightsError, "resnet18' are not here"),
        ({}, "there.safetensors", RunError, "is there already"),
        ({}, "nowhere/new.safetensors", RunError, "make it first"),
        ({}, "new.pth", ConfigError, r"must end in \.safetensors"),
        ({}, "a b.safetensors", ConfigError, "cannot name a backbone"),
        ({"learning_rate": 1e30, "epochs": 2}, "new.safetensors", RunError, "lower --learning-rate"),
    ],
)
def test_lessons_that_cannot_be_given(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], out: str,
    error: type[MedtlError], words: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "there.safetensors").write_bytes(b"")
    with pytest.raises(error, match=words):
        pretrain(source, replace(SMALL, **changes), tmp_path / out)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["there.safetensors"]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"size": 16}, "image-size=16"),
        ({"learning_rate": 0.0}, "learning-rate=0.0"),
        ({"weight_decay": -1.0}, "weight-decay=-1.0"),
    ],
)
def test_numbers_out_of_range(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **changes)


# --- the command


def test_the_command_warns_and_prints_the_digest(
    ward: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", "--data", "ward", "--backbone", "random:squeezenet1_1", "--epochs", "1", "--image-size", "32"]
    monkeypatch.chdir(ward.parent)
    monkeypatch.setattr(sys, "argv", ["medtl", *words, "--out", "typed.safetensors", "--public"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    shown = capsys.readouterr()
    assert "WARNING: for public cases only" in shown.err and "licence" in shown.err and "epoch 1 of 1" in shown.err
    digest = hashlib.sha256((ward.parent / "typed.safetensors").read_bytes()).hexdigest()
    assert f"sha256    {digest}\nbackbone  own:typed\n" in shown.out
