"""What commit 8906598 left on disk is read by today's code; how the samples were made is in README.md beside this."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from flwr.app import Message
from safetensors.numpy import load_file

# Everything of the house that this file touches, in one place: names move, samples do not.
from client.app import app as client_app
from medtl_core.cli.app import app as command_line
from medtl_core.config import settings
from medtl_core.data.source import open_source
from medtl_core.features.dataset import Material
from medtl_core.features.extract import extract, feature_spec
from medtl_core.federation.registry import unpack
from medtl_core.flower.grid import run_local
from medtl_core.predict.saved import is_model, load_head, load_packed
from medtl_core.privacy.identity import PEERS
from medtl_core.privacy.policy import POLICY
from server.app import app as server_app
from tests.hospital import made_hospital
from tests.manifest import write_manifest

SAMPLES = Path(__file__).parent / "8906598"
PHANTOM: Mapping[str, Any] = {
    "data": "phantom", "sites": 2, "shots": 24, "image-size": 32, "features": "0@2", "folds": 2, "bootstrap": 20,
}  # fmt: skip
PERSONAL = ("fedper-3", "fedbn-3", "ditto-3", "interpolated", "prior-own")
TABLES: Mapping[str, Any] = {
    "data": "", "backbone": "table", "features": "rich@2", "sites": 3, "shots": 20, "privacy": "prototypes",
    "epsilon": 1.0, "public-cases": 20, "bootstrap": 20,
}  # fmt: skip
#: Hospital -> epsilon allowed (north's was raised), records of its ledger, first digits of the last one's hash.
BOOKS = {"east": ("3", 6, "c81bfcfbeba7"), "north": ("5", 7, "80ad0e64dac9"), "south": ("3", 6, "f66ab97df4be")}
HEADS = sorted(path.stem for path in (SAMPLES / "heads").glob("*.json"))

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def stored(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but the empty locks."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith("lock")]
    paths = [path for path in files if path.parent.name != "phantom"]  # drawings are kept since
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def close(found: Any, wanted: Any, where: str = "") -> None:
    """Both JSON values have the same keys and words, and the same numbers but for rounding."""
    if isinstance(wanted, dict):
        assert found.keys() - wanted.keys() <= {"confusion"}, where  # counted since
        assert wanted.keys() <= found.keys(), where
        for key in wanted:
            close(found[key], wanted[key], f"{where}/{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            close(one, other, f"{where}/{number}")
    elif isinstance(wanted, float):
        bins = dict.fromkeys(("auroc", "auprc"), 2e-2).get(
            where.rpartition("/")[2], 1e-7
        )  # of sums, whose bins are narrower since
        assert found == pytest.approx(wanted, rel=1e-5, abs=bins), where
    else:
        assert found == wanted, where


def medtl(*words: str | Path) -> str:
    """What a command prints."""
    done = CliRunner().invoke(command_line, [str(word) for word in words])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


class Cases(NamedTuple):
    """Four held-out cases of the first hospital, as features and as images."""

    values: np.ndarray
    fingerprint: str
    material: Material


def four_cases(cache: str) -> Cases:
    """Reads the cases with a cache folder, or "off"."""
    chosen = settings({**PHANTOM, "cache": cache})
    source = open_source(chosen)
    examples, views = source.examples, source.entry.views
    held_out = np.flatnonzero((examples["split"] == "test") & (examples["site"] == "phantom-a"))
    four = examples.take(held_out[:4])
    found = extract(four, feature_spec(chosen, views, source.columns), chosen)
    # a head that looks at the images writes nothing beside the stored features
    material = Material(four, settings({**PHANTOM, "cache": "off"}), views, source.columns, source.entry.modality)
    return Cases(found.values, found.fingerprint, material)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(SAMPLES / "cache", tmp_path_factory.mktemp("stored") / "cache"))


@pytest.fixture(scope="module")
def cases(cache: Path) -> Cases:
    return four_cases(str(cache))


def test_cached_features_are_found_and_are_what_the_backbone_gives_today(cache: Path, cases: Cases) -> None:
    wanted = stored("features.json")
    assert cases.fingerprint == wanted["fingerprint"]
    np.testing.assert_allclose(cases.values, wanted["values"], atol=1e-5)
    assert bytes_below(cache) == bytes_below(SAMPLES / "cache")  # a miss would have written its row
    np.testing.assert_allclose(four_cases("off").values, cases.values, atol=1e-4)


@pytest.mark.parametrize("name", HEADS)
def test_a_stored_head_answers_as_it_did(name: str, cases: Cases) -> None:
    path, wanted = SAMPLES / "heads" / f"{name}.json", stored("logits.json")[name]
    classifier = unpack(*load_packed(path)) if is_model(path) else load_head(path)
    assert (classifier.kind, list(classifier.classes)) == (wanted["kind"], wanted["classes"])
    assert classifier.fingerprint == cases.fingerprint
    assert dict(classifier.facts) == stored(f"heads/{name}.json")["facts"]
    logits = classifier.logits(cases.values, cases.material)
    np.testing.assert_allclose(logits, wanted["logits"], rtol=1e-3, atol=1e-4)


def test_a_new_hospital_starts_from_a_stored_metric(tmp_path: Path) -> None:
    examples = open_source(settings(PHANTOM)).examples
    there, held_out = examples["site"] == "phantom-e", examples["split"] == "test"
    rows = [np.flatnonzero(there & side)[:8] for side in (~held_out, held_out)]
    write_manifest(examples.take(np.concatenate(rows)), tmp_path / "hospital")
    places = ("--data", tmp_path / "hospital", "--out", tmp_path / "own")
    told = json.loads(medtl("adapt", SAMPLES / "heads" / "metric", *places, "--json"))
    assert told["judged"] == 8
    assert 0.0 < told["before"]["balanced_accuracy"] < 1.0
    assert list(unpack(*load_packed(tmp_path / "own.json")).classes) == told["classes"]


class PutBack:
    """Before every message, hospitals' disks hold what the commit had written by then, and nothing of this run."""

    def __init__(self, state: Path) -> None:
        self.state, self.used = state, set[str]()

    def __call__(self, node: int, message: Message) -> None:
        config = message.content.config_records.get("config", {})
        method, task = str(config.get("method", "")), message.metadata.message_type.partition(".")[2]
        judged = task == "evaluate_personal"
        if method not in PERSONAL or not (judged or int(config["round"]) > 2):
            return
        for path in self.state.rglob(f"{method}.*"):
            path.unlink()
        for path in (SAMPLES / "personal" / "state").rglob(f"{method}.*"):
            what = path.name.removeprefix(f"{method}.").partition(".")[0]
            if judged or (what != "final" and int(what.removeprefix("round-")) < int(config["round"])):
                place = self.state / path.relative_to(SAMPLES / "personal" / "state")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)
                self.used.add(path.name)


class Continued(NamedTuple):
    result: Mapping[str, Any]
    state: Path
    used: frozenset[str]


@pytest.fixture(scope="module")
def continued(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Continued:
    """The personal run again, over the stored cache, by hospitals that restart with the stored state."""
    folder = tmp_path_factory.mktemp("personal")
    places = {"cache": str(cache), "out": str(folder / "out"), "state": str(folder / "state")}
    values = settings({**PHANTOM, "test": "sites", "methods": ",".join(PERSONAL), **places}).public()
    back = PutBack(folder / "state")
    nodes = [{"partition-id": part, "num-partitions": 2} for part in range(2)]
    run_local(server_app, client_app, node_configs=nodes, run_config=values, fault=back)
    result = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
    return Continued(result, folder / "state", frozenset(back.used))


def test_hospitals_go_on_from_their_stored_personal_state(continued: Continued, cache: Path) -> None:
    wanted = stored("personal/figures.json")
    assert continued.result["failures"] == wanted["failures"]
    for name, row in continued.result["methods"].items():
        shown = {"figures": row["figures"], "by_site": row["by_site"], "began_late": row["facts"]["began_late"]}
        close(shown, wanted["methods"][name], name)
    assert continued.result["methods"].keys() == wanted["methods"].keys()
    files = {path.name for path in (SAMPLES / "personal" / "state").rglob("*") if path.is_file()}
    assert continued.used == files  # every stored file was on a disk when it was needed
    assert sum(continued.result["sites"].values()) == 48
    assert bytes_below(cache) == bytes_below(SAMPLES / "cache")  # and no feature was computed anew


def test_personal_state_lies_where_it_lay(continued: Continued) -> None:
    ours, theirs = continued.state, SAMPLES / "personal" / "state"
    assert bytes_below(ours).keys() == bytes_below(theirs).keys()
    for path in theirs.rglob("*.safetensors"):
        found, wanted = load_file(ours / path.relative_to(theirs)), load_file(path)
        assert found.keys() == wanted.keys()
        for name, array in wanted.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-5, err_msg=f"{path.name}: {name}")


class Ward:
    """The stored hospitals with their ledgers, and the server that remembers them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hospitals, self.runs = folder, folder / "hospitals", 0
        task = {"name": "stored", "classes": ["0", "1"]}
        (folder / "data" / "task.json").write_text(json.dumps(task), encoding="utf-8")
        for name in BOOKS:  # from the folder of an older medtl
            made_hospital(self.hospitals / name, name, folder / "data" / f"{name}.csv", cache="off")
            file = self.hospitals / name / "hospital.toml"
            text = file.read_text(encoding="utf-8").replace("public_patients = 0", "public_patients = 20")
            file.write_text(text.replace("secure_sum = false", "secure_sum = true"), encoding="utf-8")

    def run(self, **changes: Any) -> Path:
        """One run of everybody; returns its folder."""
        self.runs += 1
        out = self.folder / f"out-{self.runs}"
        places = {"test-path": self.folder / "data" / "server.csv", "state": self.folder / "server", "out": out}
        values = settings({**TABLES, **{key: str(path) for key, path in places.items()}, **changes}).public()
        nodes = [{"hospital": str(self.hospitals / name)} for name in BOOKS]
        run_local(server_app, client_app, node_configs=nodes, run_config=values, wire=True)
        assert json.loads((out / "result.json").read_text(encoding="utf-8"))["failures"] == []
        return out

    def remembered(self) -> dict[str, tuple[int, str]]:
        """The last record the server has seen of every hospital."""
        content = json.loads((self.folder / "server" / "witnesses.json").read_text(encoding="utf-8"))
        return {name: (row["witness-seq"], row["witness-hash"][:12]) for name, row in content.items()}

    def books(self) -> dict[str, list[str]]:
        """Hospital -> the words of its line in `medtl ledger show`."""
        rows = [line.split() for line in medtl("ledger", "show", self.hospitals).splitlines()]
        return {row[0]: row for row in rows if row and row[0] in BOOKS}


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(Path(shutil.copytree(SAMPLES / "ledger", tmp_path / "ledger")))


def test_the_commands_read_stored_ledgers(ward: Ward) -> None:
    for name, row in ward.books().items():
        allowed, records, digest = BOOKS[name]
        assert row == [name, f"{name}/privacy", "1", allowed, "1e-05", "2", "2", str(records), digest]
    lines = medtl("ledger", "verify", ward.hospitals).splitlines()
    assert [line.split()[1:3] for line in lines] == [[f"{name}/privacy:", str(BOOKS[name][1])] for name in BOOKS]
    assert all(line.rpartition(" ")[2].startswith(BOOKS[name][2]) for name, line in zip(BOOKS, lines, strict=True))
    peers = stored("ledger/hospitals/south/peers.json")
    assert {name: medtl("site", "identity", ward.hospitals / name).strip() for name in BOOKS} == peers
    raised = medtl("ledger", "raise", ward.hospitals / "east" / "privacy", "--epsilon", "4", "--reason", "a test")
    assert raised.split() == ["east:", "1", "of", "4", "spent"]


def test_the_same_run_sends_the_sealed_replies_again_and_spends_nothing(ward: Ward) -> None:
    out = ward.run()
    ours = bytes_below(ward.hospitals)
    for name, content in bytes_below(SAMPLES / "ledger" / "hospitals").items():
        assert ours[f"{name}.old" if name.endswith((POLICY, PEERS)) else name] == content
    assert ward.remembered() == {name: row[1:] for name, row in BOOKS.items()}
    path = Path("heads") / "private-prototypes.safetensors"
    found, wanted = load_file(out / path), load_file(SAMPLES / "ledger" / "out" / path)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


def test_another_run_goes_on_with_ledger_identity_and_peers(ward: Ward) -> None:
    ward.run(folds=3, **{"secure-sum": True})
    for name, row in ward.books().items():
        allowed, records, _ = BOOKS[name]
        assert 1.3 < float(row[2]) < 2.0  # both runs together, at epsilon 1 each
        assert row[3:7] == [allowed, "1e-05", "4", "4"]
        assert int(row[7]) == ward.remembered()[name][0] == records + 5
    theirs = bytes_below(SAMPLES / "ledger" / "hospitals")
    ours = bytes_below(ward.hospitals)
    for name in BOOKS:
        assert ours[f"{name}/privacy/ledger.jsonl"].startswith(theirs[f"{name}/privacy/ledger.jsonl"])


def test_the_report_of_a_stored_run_is_made_anew(tmp_path: Path) -> None:
    run = Path(shutil.copytree(SAMPLES / "run", tmp_path / "run"))
    (run / "metrics.json").unlink()
    shown = medtl("report", run)
    assert all(name in shown for name in ("local", "discriminant", "3 hospitals"))
    wanted = stored("run/metrics.json")
    for ends in (value for method in wanted["methods"].values() for value in method.values()):
        if isinstance(ends, dict) and ends.get("high") is not None:  # no interval leaves what its figure can be
            ends["low"], ends["high"] = max(ends["low"], 0.0), min(ends["high"], 1.0)
    close(json.loads((run / "metrics.json").read_text(encoding="utf-8")), wanted)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("local", "discriminant", "east", "north", "south"))
