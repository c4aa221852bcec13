"""`medtl pretrain`: public data only, a file that is read like any other backbone, and orders that cannot be done."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

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
from medtl_core.cli.trainer import Lesson, sides, train
from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.data.manifest import write_manifest
from medtl_core.data.source import Source
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, RunError, WeightsError
from medtl_core.features.extract import extract, feature_spec
from medtl_core.values import Examples

SMALL = Lesson("random:squeezenet1_1", epochs=1, size=32, batch_size=8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDTL_HOME", str(tmp_path / "home"))
    return tmp_path


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


# --- the file


def test_equal_settings_give_equal_bytes_and_another_seed_others(source: Source, home: Path) -> None:
    made = [
        pretrain(source, replace(SMALL, seed=seed), home / f"{name}.safetensors")["sha256"]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert made[0] == made[1] != made[2]
    assert hashlib.sha256((home / "a.safetensors").read_bytes()).hexdigest() == made[0]


def test_the_source_is_read_by_file_and_by_name_and_keeps_its_classifier(source: Source, home: Path) -> None:
    out = home / "mine.safetensors"
    manifest = pretrain(source, SMALL, out)
    by_file, by_name = find_backbone(f"file:{out}"), find_backbone("own:mine")
    assert by_file.identity == by_name.identity == "torchvision:squeezenet1_1" == manifest["arch"]
    assert load_network(by_name)[1] == load_network(by_file)[1] == manifest["sha256"]
    assert load_file(out)["classifier.1.weight"].shape[0] == 2
    chosen = Settings(backbone="own:mine", image_size=32, cache="off")
    values = extract(source.examples, feature_spec(chosen, ("identity",)), chosen).values
    assert values.shape == (28, 2304) and np.isfinite(values).all()


def test_the_manifest_says_what_it_was_made_from(source: Source, home: Path) -> None:
    pretrain(source, SMALL, home / "mine.safetensors")
    for folder in (home, own_folder()):
        manifest = json.loads((folder / "mine.json").read_text())
        assert manifest["data"]["licence"] == catalog()["phantom"].licence
        assert (manifest["classes"], manifest["cases"]) == (["dark", "bright"], {"train": 20, "test": 8})
        assert manifest["start"]["backbone"] == "random:squeezenet1_1"
        assert manifest["settings"]["seed"] == 0 and "weights" not in manifest["settings"]
        assert [row["epoch"] for row in manifest["history"]] == [1]
        assert "as public as the cases" in manifest["warning"]


# --- what is trained


def test_norm_layers_keep_their_statistics_and_all_else_may_move(source: Source, home: Path) -> None:
    pretrain(source, Lesson("lite0", epochs=1, size=32, batch_size=10), home / "mine.safetensors")
    before, after = load_weights(find_backbone("lite0"))[0], load_file(home / "mine.safetensors")
    assert before.keys() == after.keys()
    kept = {
        name for name in before if before[name].shape == after[name].shape and torch.equal(before[name], after[name])
    }
    statistics = {name for name in before if "running_" in name or "num_batches" in name}
    assert kept == statistics
    assert after["classifier.weight"].shape == (2, 1280)


def test_what_is_not_deeper_than_the_tap_stays(source: Source, home: Path) -> None:
    pretrain(source, Lesson("lite0", epochs=1, size=32, after="10"), home / "mine.safetensors")
    before, after = load_weights(find_backbone("lite0"))[0], load_file(home / "mine.safetensors")
    moved = {
        name.split(".")[1]
        for name in before
        if name.startswith("blocks.") and not torch.equal(before[name], after[name])
    }
    assert moved == {"5", "6"}  # tap 10 is the last block of stage 4
    assert torch.equal(before["conv_stem.weight"], after["conv_stem.weight"])


def test_it_learns_and_tells_after_each_epoch(source: Source) -> None:
    from medtl_core.backbones.networks import new_classifier

    backbone = find_backbone("lite0")
    network = new_classifier(backbone, "", 2, 0).eval()
    told: list[tuple[int, float, float | None]] = []
    history = train(
        network, backbone, source, Lesson("lite0", epochs=8, size=32, batch_size=5, learning_rate=1e-3),
        lambda epoch, loss, accuracy: told.append((epoch, loss, accuracy)),
    )  # fmt: skip
    assert [row["loss"] for row in history] == [loss for _, loss, _ in told]
    assert told[-1][1] < told[0][1]
    assert told[-1][2] == 1.0
    assert not network.training


def test_without_held_out_cases_nothing_is_judged(source: Source) -> None:
    from medtl_core.backbones.networks import new_classifier

    rows = sides(source.examples)["train"]
    bare = replace(source, examples=source.examples.take(rows))
    backbone = find_backbone(SMALL.backbone)
    network = new_classifier(backbone, "", 2, 0).eval()
    assert train(network, backbone, bare, SMALL, lambda *told: None)[0]["held_out_balanced_accuracy"] is None


# --- what may be used


def test_own_data_must_be_declared_public(tmp_path: Path) -> None:
    write_manifest(phantom(size=32, patients=40), tmp_path / "ward")
    with pytest.raises(ConfigError, match=r"not a known public set.* add --public only if"):
        open_public(str(tmp_path / "ward"), declared=False)
    assert open_public(str(tmp_path / "ward"), declared=True).entry.name == "own"


def test_one_class_is_refused(tmp_path: Path) -> None:
    pool = phantom(size=32, patients=40)
    write_manifest(pool.take(pool["label"] == 1), tmp_path / "alike")
    with pytest.raises(DataError, match=r"show 1 class\(es\); a source needs at least two"):
        open_public(str(tmp_path / "alike"), declared=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"after": "99"}, "has no tap '99'"),
        ({"backbone": "lite1"}, "unknown backbone 'lite1'"),
        ({"weights": "/nowhere"}, "contradicts backbone"),
    ],
)
def test_lessons_that_cannot_be_given(source: Source, home: Path, changes: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        pretrain(source, replace(SMALL, **changes), home / "mine.safetensors")  # type: ignore[arg-type]
    assert not (home / "mine.safetensors").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"size": 16}, "image-size=16 is too small"),
        ({"learning_rate": 0.0}, "learning-rate=0.0"),
        ({"weight_decay": -1.0}, "weight-decay=-1.0 must not be negative"),
    ],
)
def test_numbers_out_of_range(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **changes)  # type: ignore[arg-type]


def test_missing_weights_are_named(source: Source, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(home))
    with pytest.raises(WeightsError, match="the weights of 'torchvision:resnet18' are not here"):
        pretrain(source, replace(SMALL, backbone="torchvision:resnet18"), home / "mine.safetensors")


def test_files_in_the_way_and_names_that_are_none(source: Source, home: Path) -> None:
    (home / "there.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="is there already"):
        pretrain(source, SMALL, home / "there.safetensors")
    with pytest.raises(RunError, match="does not exist; make it first"):
        pretrain(source, SMALL, home / "nowhere" / "mine.safetensors")
    with pytest.raises(ConfigError, match=r"must end in \.safetensors, e\.g\. mine\.safetensors"):
        pretrain(source, SMALL, home / "mine.pth")
    with pytest.raises(ConfigError, match="cannot name a backbone"):
        pretrain(source, SMALL, home / "a b.safetensors")


def test_training_that_diverges_is_an_error(source: Source, home: Path) -> None:
    with pytest.raises(RunError, match="lower --learning-rate"):
        pretrain(source, replace(SMALL, learning_rate=1e30, epochs=2), home / "mine.safetensors")
    assert not (home / "mine.safetensors").exists()
    assert not torch.are_deterministic_algorithms_enabled()


# --- the command


def test_the_command_warns_and_prints_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = phantom(size=32, patients=40)
    write_manifest(pool.take(np.arange(24)), tmp_path / "ward")
    words = ["pretrain", "--data", "ward", "--backbone", "random:squeezenet1_1", "--epochs", "1", "--image-size", "32"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["medtl", *words, "--out", "mine.safetensors", "--public"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    shown = capsys.readouterr()
    assert "WARNING: for public cases only" in shown.err and "licence" in shown.err and "epoch 1 of 1" in shown.err
    digest = hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    assert f"sha256    {digest}\nbackbone  own:mine\n" in shown.out
