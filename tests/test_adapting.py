"""`medtl adapt` from a real run's files to a new hospital's own: on the command line, in a process, and refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.cli import app as cli
from medtl_core.cli.adapt import adapt
from medtl_core.cli.simulate import simulate
from medtl_core.config import Settings, settings
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.errors import ConfigError, DataError, MedtlError, RunError, WeightsError
from medtl_core.features.spec import feature_facts
from medtl_core.flower.run import RunPlan
from medtl_core.methods.models.metric import Metric
from medtl_core.predict import load
from medtl_core.predict.saved import load_head, load_packed, save_head, save_model
from medtl_core.values import Examples, Task
from tests.manifest import write_manifest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The heads of a tiny federation of the real apps."""
    out = tmp_path_factory.mktemp("federation") / "run"
    values = {
        "data": "phantom", "sites": 3, "shots": 16, "image-size": 32, "features": "4", "bootstrap": 1,
        "methods": "metric,discriminant",
    }  # fmt: skip
    simulate(RunPlan(settings(values), 1, 1, False, out, ROOT, "tiny"))
    return out / "seed-0" / "heads"


NAMES = ("normal", "consolidation", "interstitial")


def hospital(folder: Path, *, names: tuple[str, ...] = NAMES, test: bool = True, cases: int = 60) -> Path:
    """A folder with a manifest: phantom images of another seed, its classes called `names`."""
    drawn = phantom(seed=5, size=32, patients=120).take(np.arange(cases))
    split = np.where(np.isin(drawn["patient"], np.unique(drawn["patient"])[::3]) & test, "test", "train")
    columns = {**drawn.columns, "split": split, "site": np.full(cases, "new")}
    examples = Examples(columns, Task("new-hospital", names))
    write_manifest(examples.take(np.flatnonzero(drawn["label"] < len(names))), folder)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return hospital(tmp_path / "hospital")


def test_a_metric_becomes_the_hospitals_own_again_and_again(heads: Path, data: Path, tmp_path: Path) -> None:
    found = adapt(heads / "metric.json", str(data), shots=4, out=tmp_path / "own")
    assert found["kind"] == "metric" and found["new"] == () and set(found["cases"].values()) == {4}
    assert found["judged"] == sum("test" in line for line in (data / "manifest.csv").read_text().splitlines()[1:])
    assert found["judged_on"] == "its test split"
    for side in (found["before"], found["after"]):
        assert all(0 <= value <= 1 for value in side.values() if value is not None)
    kind, packed = load_packed(found["saved"])
    assert kind == "metric" and packed.classes == found["classes"]
    assert adapt(found["saved"], str(data), shots=2, out=tmp_path / "again")["classes"] == found["classes"]


@pytest.mark.parametrize("shots", [3, 25])
def test_an_affine_head_is_kept_or_pulled_to_the_hospital(heads: Path, tmp_path: Path, shots: int) -> None:
    federated = load_head(heads / "discriminant")
    data = hospital(tmp_path / "hospital", names=NAMES if shots == 3 else NAMES[::-1], cases=140)
    found = adapt(heads / "discriminant.safetensors", str(data), shots, out=tmp_path / "own.json")
    own = load_head(found["saved"])
    assert (found["kind"], own.fingerprint, own.classes) == ("discriminant", federated.fingerprint, found["classes"])
    kept = np.array_equal(own.weight[[own.classes.index(name) for name in NAMES]], federated.weight)
    assert kept == (own.facts["pull"] is None) == (shots == 3)  # two of three classes bear each other's names at 25


@pytest.mark.parametrize("name", ["metric", "discriminant"])
def test_what_judges_said_stays_with_the_federations_head(heads: Path, tmp_path: Path, name: str) -> None:
    for number, names in enumerate((NAMES, NAMES[::-1], ("normal", "effusion", "interstitial"))):
        data = hospital(tmp_path / str(number), names=names)
        found = adapt(heads / name, str(data), shots=3, out=tmp_path / f"own{number}")
        predictor = load(found["saved"])  # floors in another order, or of another number, would be others' or refused
        assert (predictor.conformal is not None) == (found["kept"] and names == NAMES)


def test_one_class_alone_moves_no_head(heads: Path, tmp_path: Path) -> None:
    data = hospital(tmp_path / "hospital", names=("normal",))
    edit(data / "task.json", '"normal"', '"normal", "consolidation", "interstitial"')
    found = adapt(heads / "discriminant", str(data), out=tmp_path / "own")
    assert found["kept"] and found["judged_on"] == "its test split, of normal only"
    assert np.array_equal(load_head(tmp_path / "own").weight, load_head(heads / "discriminant").weight)


@pytest.mark.parametrize("name", ["metric", "discriminant"])
def test_classes_that_the_federation_never_saw(heads: Path, tmp_path: Path, name: str) -> None:
    data = hospital(tmp_path / "hospital", names=("normal", "effusion", "interstitial"))
    found = adapt(heads / name, str(data), shots=5, out=tmp_path / "own")
    assert found["new"] == ("effusion",) and found["classes"] == ("normal", "effusion", "interstitial")
    assert found["after"]["balanced_accuracy"] > 1 / 3
    data = hospital(tmp_path / "other", names=("a", "b", "c"))
    if name == "discriminant":
        with pytest.raises(DataError, match="no class in common"):
            adapt(heads / name, str(data), out=tmp_path / "other")
    else:
        found = adapt(heads / name, str(data), out=tmp_path / "other")
        assert found["before"] == {} and len(found["after"]) == 2 and found["new"] == ("a", "b", "c")


def test_without_a_test_split_unused_patients_are_judged(heads: Path, tmp_path: Path) -> None:
    data = hospital(tmp_path / "hospital", test=False)
    found = adapt(heads / "metric", str(data), shots=2, out=tmp_path / "own")
    assert found["judged_on"] == "its labelled cases that were not used"
    assert 0 < found["judged"] <= 60 - sum(found["cases"].values())
    every = adapt(heads / "metric", str(data), shots=99, out=tmp_path / "all")
    assert every["judged"] == 0 and every["after"] == {} and every["judged_on"].startswith("nothing")


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: edit(data / "manifest.csv", "label", "diagnosis"), "label"),
        (lambda data: edit(data / "manifest.csv", ",train", ",test"), "no labelled training case"),
        (lambda data: edit(data / "task.json", '"normal"', '"effusion", "normal"'), "'effusion' is new .* no labelled"),
        (shutil.rmtree, "no folder or file"),
    ],
)
def test_a_hospital_that_cannot_be_used(
    heads: Path, data: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    spoil(data)
    for name in ("metric", "discriminant"):
        with pytest.raises(DataError, match=words):
            adapt(heads / name, str(data), out=tmp_path / "own")
    assert not list(tmp_path.glob("own*"))


@pytest.mark.parametrize(
    ("name", "changes", "error", "words"),
    [
        ("network", {}, ConfigError, "give a `metric`"),
        ("nowhere.json", {}, WeightsError, "there is no head .*nowhere"),
        ("metric", {"shots": 0}, ConfigError, "shots=0"),
        ("other", {}, WeightsError, "not those the head reads"),
        ("silent", {}, WeightsError, "does not say how its features are made"),
        ("damaged", {}, WeightsError, "SHA-256"),
    ],
)
def test_a_head_that_cannot_be_adapted(
    heads: Path, data: Path, tmp_path: Path, name: str, changes: dict[str, int], error: type[MedtlError], words: str
) -> None:
    folder = shutil.copytree(heads, tmp_path / "heads")
    head = load_head(heads / "discriminant")
    save_head(replace(head, fingerprint="0" * 64), folder, "other")
    save_head(replace(head, facts={}), folder, "silent")
    save_head(head, folder, "damaged")
    save_model(load_packed(heads / "metric")[1], "network", folder, "network")
    (folder / "damaged.safetensors").write_bytes((folder / "other.safetensors").read_bytes()[:-1])
    with pytest.raises(error, match=words):
        adapt(folder / name, str(data), out=tmp_path / "own", **changes)
    assert not list(tmp_path.glob("own*"))


def test_a_foreign_manifest_cannot_ask_for_what_is_no_setting(heads: Path, data: Path, tmp_path: Path) -> None:
    head = load_head(heads / "discriminant")
    for number, (name, value) in enumerate([
        ("image_size", "large"), ("image_size", 10**9), ("image_size", True), ("backbone", 3.5), ("features", {}),
        ("views", "all"), ("entry_views", 3), ("entry_views", [["identity"]]),
    ]):  # fmt: skip
        facts = {**head.facts, "features": {**head.facts["features"], name: value}}
        save_head(replace(head, facts=facts), tmp_path, f"foreign-{number}")
        with pytest.raises((ConfigError, WeightsError)):
            adapt(tmp_path / f"foreign-{number}", str(data), out=tmp_path / "own")
    assert not list(tmp_path.glob("own*"))


def test_what_is_in_the_way_stays(heads: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text("mine")
    with pytest.raises(RunError, match="exists already"):
        adapt(heads / "metric", str(data), out=tmp_path / "own")
    assert (tmp_path / "own.json").read_text() == "mine" and not (tmp_path / "own.safetensors").exists()


def test_the_manifest_says_how_features_are_made_and_no_path() -> None:
    told = feature_facts(Settings(data_path="/secret/place", weights="/secret/weights"), ("identity",))
    assert told == {
        "backbone": "lite0", "features": "rich", "image_size": 0, "views": "auto", "version": 3,
        "entry_views": ["identity"],
    }  # fmt: skip


def test_the_command_prints_before_and_after(heads: Path, data: Path, tmp_path: Path) -> None:
    arguments = ["adapt", str(heads / "metric.json"), "--data", str(data), "--shots", "3"]
    shown = CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "own")])
    assert shown.exit_code == 0, shown.output
    for word in ("before", "after", "balanced accuracy", "AUROC", "own.json"):
        assert word in shown.stdout
    assert isinstance(Metric.unpack(load_packed(tmp_path / "own")[1]), Metric)


@pytest.mark.slow
def test_a_process_of_its_own_prints_json_and_one_line_for_an_error(heads: Path, data: Path, tmp_path: Path) -> None:
    def adapted(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "medtl_core.cli.app", "adapt", str(heads / "metric"), "--data", str(data)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True, env=environment)

    done = adapted("--shots", "2", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cases"] == dict.fromkeys(NAMES, 2)
    assert Path(found["saved"]).name == "metric-hospital.json" and (tmp_path / "metric-hospital.safetensors").exists()
    edit(data / "manifest.csv", ",train", ",test")
    failed = adapted("--out", "other")
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.count("\n") == 1 and failed.stderr.startswith("error: the hospital has no labelled")
