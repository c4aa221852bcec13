"""`medtl adapt` from a real run's files to a new hospital's own: on the command line, in a process, and refused."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.cli.adapt import AdaptOrder, adapt
from medtl_core.config import Settings, settings
from medtl_core.data.manifest import write_manifest
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, MedtlError, RunError, WeightsError
from medtl_core.features.spec import feature_facts
from medtl_core.federation.saved import load_head, load_packed, save_head
from medtl_core.flower.run import RunPlan
from medtl_core.methods.models.metric import Metric
from medtl_core.values import Examples, Task

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The heads of a tiny federation of the real apps."""
    from medtl_core.cli.simulate import simulate

    out = tmp_path_factory.mktemp("federation") / "run"
    values = {
        "data": "phantom", "sites": 3, "shots": 16, "image-size": 32, "features": "4", "bootstrap": 5,
        "methods": "metric,discriminant,network-1",
    }  # fmt: skip
    simulate(RunPlan(settings(values), 1, 1, False, out, ROOT, "tiny"))
    return out / "seed-0" / "heads"


def hospital(folder: Path, *, names: tuple[str, ...] = ("normal", "consolidation", "interstitial"),
             test: bool = True, cases: int = 60) -> Path:  # fmt: skip
    """A folder with a manifest: phantom images of another seed, its classes called `names`."""
    drawn = phantom(seed=5, size=32, patients=120).take(np.arange(cases))
    patients = np.unique(drawn["patient"])
    split = np.where(np.isin(drawn["patient"], patients[::3]) & test, "test", "train")
    kept = np.flatnonzero(drawn["label"] < len(names))
    columns = {**drawn.columns, "split": split, "site": np.full(cases, "new")}
    write_manifest(Examples(columns, Task("new-hospital", names)).take(kept), folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return hospital(tmp_path / "hospital")


def test_a_metric_becomes_the_hospitals_own(heads: Path, data: Path, tmp_path: Path) -> None:
    found = adapt(AdaptOrder(heads / "metric.json", str(data), shots=4, out=tmp_path / "own"))
    assert found.kind == "metric" and found.new == () and set(found.cases.values()) == {4}
    assert found.judged == sum("test" in line for line in (data / "manifest.csv").read_text().splitlines()[1:])
    assert found.judged_on == "its test split"
    assert all(0 <= value <= 1 for side in (found.before, found.after) for value in side.values() if value is not None)
    kind, packed = load_packed(found.saved)
    assert kind == "metric" and packed.classes == found.classes
    assert packed.facts["features"]["image_size"] == 32  # so that it can be adapted again
    again = adapt(AdaptOrder(found.saved, str(data), shots=2, out=tmp_path / "again"))
    assert again.classes == found.classes


@pytest.mark.parametrize("shots", [3, 25])
def test_an_affine_head_is_kept_or_pulled_to_the_hospital(heads: Path, tmp_path: Path, shots: int) -> None:
    federated = load_head(heads / "discriminant")
    names = ("normal", "consolidation", "interstitial")
    data = hospital(tmp_path / "hospital", names=names if shots == 3 else names[::-1], cases=140)
    found = adapt(AdaptOrder(heads / "discriminant.safetensors", str(data), shots, out=tmp_path / "own.json"))
    own = load_head(found.saved)
    assert (found.kind, own.fingerprint, own.classes) == ("discriminant", federated.fingerprint, found.classes)
    kept = np.array_equal(own.weight[[own.classes.index(name) for name in names]], federated.weight)
    assert kept == (own.facts["pull"] is None) == (shots == 3)  # two of three classes bear each other's names at 25


@pytest.mark.parametrize("name", ["metric", "discriminant"])
def test_a_class_that_the_federation_never_saw(heads: Path, tmp_path: Path, name: str) -> None:
    data = hospital(tmp_path / "hospital", names=("normal", "effusion", "interstitial"))
    found = adapt(AdaptOrder(heads / name, str(data), shots=5, out=tmp_path / "own"))
    assert found.new == ("effusion",) and found.classes == ("normal", "effusion", "interstitial")
    assert found.after["balanced_accuracy"] > 1 / 3


def test_classes_that_are_all_new_have_no_figure_before(heads: Path, tmp_path: Path) -> None:
    data = hospital(tmp_path / "hospital", names=("a", "b", "c"))
    found = adapt(AdaptOrder(heads / "metric", str(data), out=tmp_path / "own"))
    assert found.before == {} and len(found.after) == 2 and found.new == ("a", "b", "c")
    with pytest.raises(DataError, match="no class in common"):
        adapt(AdaptOrder(heads / "discriminant", str(data), out=tmp_path / "other"))


def test_without_a_test_split_unused_patients_are_judged(heads: Path, tmp_path: Path) -> None:
    data = hospital(tmp_path / "hospital", test=False)
    found = adapt(AdaptOrder(heads / "metric", str(data), shots=2, out=tmp_path / "own"))
    assert found.judged_on == "its labelled cases that were not used"
    assert 0 < found.judged <= 60 - sum(found.cases.values())
    every = adapt(AdaptOrder(heads / "metric", str(data), shots=99, out=tmp_path / "all"))
    assert every.judged == 0 and every.after == {} and every.judged_on.startswith("nothing")


def test_the_draw_depends_on_the_seed_alone(heads: Path, data: Path, tmp_path: Path) -> None:
    files = []
    for number, seed in enumerate((1, 1, 2)):
        adapt(AdaptOrder(heads / "metric", str(data), 2, seed, tmp_path / f"own-{number}"))
        files.append((tmp_path / f"own-{number}.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


def unlabelled(data: Path) -> None:
    lines = (data / "manifest.csv").read_text().splitlines()
    column = lines[0].split(",").index("label")
    rows = [line.split(",") for line in lines]
    (data / "manifest.csv").write_text("\n".join(",".join(row[:column] + row[column + 1 :]) for row in rows))


def only_test(data: Path) -> None:
    text = (data / "manifest.csv").read_text()
    (data / "manifest.csv").write_text(text.replace(",train", ",test"))


def one_more_class(data: Path) -> None:
    task = json.loads((data / "task.json").read_text())
    (data / "task.json").write_text(json.dumps({**task, "classes": [*task["classes"], "effusion"]}))


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (unlabelled, DataError, "label"),
        (only_test, DataError, "no labelled training case"),
        (one_more_class, DataError, "'effusion' is new to the federation .* no labelled case"),
        (shutil.rmtree, DataError, "no folder or file"),
    ],
)
def test_a_hospital_that_cannot_be_used(
    heads: Path, data: Path, tmp_path: Path, spoil: object, error: type[MedtlError], message: str
) -> None:
    spoil(data)  # type: ignore[operator]
    for name in ("metric", "discriminant"):
        with pytest.raises(error, match=message):
            adapt(AdaptOrder(heads / name, str(data), out=tmp_path / "own"))
    assert not list(tmp_path.glob("own*"))


def test_a_head_of_other_features_is_refused(heads: Path, data: Path, tmp_path: Path) -> None:
    head = load_head(heads / "discriminant")
    save_head(replace(head, fingerprint="0" * 64), tmp_path, "other")
    with pytest.raises(WeightsError, match="not those the head reads"):
        adapt(AdaptOrder(tmp_path / "other", str(data), out=tmp_path / "own"))
    save_head(replace(head, facts={}), tmp_path, "silent")
    with pytest.raises(WeightsError, match="does not say how its features are made"):
        adapt(AdaptOrder(tmp_path / "silent", str(data), out=tmp_path / "own"))
    assert not list(tmp_path.glob("own*"))


def test_what_does_not_adapt_and_what_is_in_the_way(heads: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="kind 'network', which does not adapt"):
        adapt(AdaptOrder(heads / "network-1", str(data), out=tmp_path / "own"))
    with pytest.raises(WeightsError, match="cannot be read"):
        adapt(AdaptOrder(tmp_path / "nowhere.json", str(data), out=tmp_path / "own"))
    with pytest.raises(ConfigError, match="shots=0"):
        adapt(AdaptOrder(heads / "metric", str(data), 0, out=tmp_path / "own"))
    (tmp_path / "own.json").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        adapt(AdaptOrder(heads / "metric", str(data), out=tmp_path / "own"))
    assert (tmp_path / "own.json").read_text() == "mine" and not (tmp_path / "own.safetensors").exists()


def test_a_damaged_metric_is_refused(heads: Path, data: Path, tmp_path: Path) -> None:
    for suffix in (".json", ".safetensors"):
        shutil.copy(heads / f"metric{suffix}", tmp_path)
    content = bytearray((tmp_path / "metric.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "metric.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="SHA-256 differs"):
        adapt(AdaptOrder(tmp_path / "metric", str(data), out=tmp_path / "own"))


def test_the_manifest_says_how_features_are_made_and_no_path() -> None:
    told = feature_facts(Settings(data_path="/secret/place", weights="/secret/weights"), ("identity",))
    assert told == {
        "backbone": "lite0", "features": "rich", "image_size": 0, "views": "auto", "entry_views": ["identity"],
    }  # fmt: skip


def test_the_command_prints_before_and_after(heads: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["adapt", str(heads / "metric.json"), "--data", str(data), "--shots", "3"]
    shown = CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "own")])
    assert shown.exit_code == 0, shown.output
    assert all(
        word in shown.stdout for word in ("before", "after", "balanced accuracy", "AUROC", "seconds", "own.json")
    )
    assert isinstance(Metric.unpack(load_packed(tmp_path / "own")[1]), Metric)


def test_a_process_of_its_own_prints_json_and_one_line_for_an_error(heads: Path, data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "medtl_core.cli.app", "adapt", str(heads / "metric"), "--data", str(data)]
    done = subprocess.run(
        [*command, "--shots", "2", "--seed", "3", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cases"] == {"normal": 2, "consolidation": 2, "interstitial": 2}
    assert Path(found["saved"]).name == "metric-hospital.json" and (tmp_path / "metric-hospital.safetensors").exists()
    only_test(data)
    failed = subprocess.run(
        [*command, "--out", "other"], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.count("\n") == 1 and failed.stderr.startswith("error: the hospital has no labelled")
