"""What every method sends, receives and leaves behind, byte for byte, as `golden.json` has it.

A change that should move no byte is checked here; one that should is declared in the changelog, and the file is written
anew with `pytest tests/golden --update-golden`. Each example runs through the real apps, is judged, saved and billed,
so the contract of every method is checked on the same runs. The bytes of a float depend on the processor and its
libraries: where a fixed computation gives other bytes than it did where the file was written, shapes, names and counts
are compared exactly and numbers to three digits.
"""

import hashlib
import itertools
import json
import os
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message
from safetensors.numpy import load_file

from client import gate, secure
from client.app import app as client_app
from medtl_core.config import settings
from medtl_core.federation import registry
from medtl_core.flower.grid import run_local
from medtl_core.predict.saved import is_model, load_head, load_packed
from medtl_core.privacy.ledger import Ledger
from medtl_core.privacy.noise import Entropy, insecure_entropy
from medtl_core.report.folder import write_report
from server.app import app as server_app

GOLDEN = Path(__file__).with_name("golden.json")
SMALL = {
    "data": "phantom", "sites": 5, "shots": 30, "image-size": 32, "features": "4", "bootstrap": 20, "local-epochs": 1,
}  # fmt: skip
#: What a private method needs to know.
PUBLIC = {"privacy": "auto", "public-cases": 4, "public-images": "phantom"}
#: What differs from run to run: a hash over all settings, times, and Shamir shares with their sealed parcels.
PASSING = ("agreement", "cpu-seconds", "parcels", "shares")
#: Methods whose logits depend on which cases are judged together.
BATCHED = re.compile("standardised")
#: Figures of time and place, which no two runs share.
FLEETING = re.compile(r"seconds|versions|^settings$|^cache$|^out$|^state$")

SIDES = [
    (kind.example, side)
    for kind in registry.all_methods()
    for side in ("server", "sites")
    if kind.test in ("any", side) and kind.cases == "any"  # here all cases are images
]
#: What `make test` has, on both roads of judging: one method a family. `make test-slow` has the others.
FEW = re.compile("(auto|discriminant|fedavg-20|private-auto|fusion|network-3|metric)-(server|sites)$")
RUNS = [
    pytest.param(*run, marks=[pytest.mark.slow] if not FEW.match("-".join(run)) else [], id="-".join(run))
    for run in SIDES
]
METHODS = {kind.example: kind for kind in registry.all_methods()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def recorded(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """The golden file; with --update-golden what the tests put in is written at their end."""
    update = bool(request.config.getoption("--update-golden"))
    known = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {"machine": "", "runs": {}}
    yield {**known, "update": update}
    if update:
        known["machine"] = machine()
        known["runs"] = {key: known["runs"][key] for key in sorted(known["runs"])}
        GOLDEN.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@dataclass
class Transcript:
    """A client app that writes down what passes, and gives every answer an entropy of its own that can be repeated."""

    exchanges: dict[str, dict[int, list[tuple[str, str]]]] = field(default_factory=dict)
    size: float = 0.0
    _here: threading.local = field(default_factory=threading.local)

    def __call__(self, message: Message, context: Context) -> Message:
        node, task = message.metadata.dst_node_id, message.metadata.message_type
        answers = self.exchanges.setdefault(task, {}).setdefault(node, [])
        self._here.purpose, self._here.draws = f"{node}/{task}/{len(answers)}", itertools.count()
        asked = self.content(message)
        reply = client_app(message, context)
        answers.append((asked, self.content(reply)))
        return reply

    def content(self, message: Message) -> str:
        total = hashlib.sha256()
        for name, record in sorted(message.content.items()):
            total.update(name.encode())
            for key, value in sorted(record.items()):
                if key in PASSING:
                    continue
                total.update(b"\0" + key.encode() + b"\0")
                if isinstance(record, ConfigRecord) or isinstance(value, str | int | float):
                    total.update(repr(value).encode())
                else:
                    array = value.numpy()
                    total.update(f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
        return total.hexdigest()

    def entropy(self) -> Entropy:
        seed = hashlib.sha256(self._here.purpose.encode()).digest()[:8]
        return insecure_entropy(int.from_bytes(seed, "big"))

    def random(self, count: int) -> bytes:
        if not hasattr(self._here, "draws"):
            self._here.purpose, self._here.draws = "server", itertools.count()
        return hashlib.shake_256(f"{self._here.purpose}/{next(self._here.draws)}".encode()).digest(count)

    def told(self) -> dict[str, list[Any]]:
        """Task -> number of messages, and hashes of all requests and of all replies, node by node."""
        rows = {}
        for task, nodes in self.exchanges.items():
            pairs = [pair for _, answers in sorted(nodes.items()) for pair in answers]
            rows[task] = [len(pairs), short("".join(a for a, _ in pairs)), short("".join(b for _, b in pairs))]
        return rows


def short(text: str | bytes) -> str:
    return hashlib.sha256(text if isinstance(text, bytes) else text.encode()).hexdigest()[:16]


@cache
def machine() -> str:
    """The bytes that this processor and its libraries make of a fixed computation."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((96, 96))
    image = torch.from_numpy(rng.standard_normal((2, 16, 32, 32)).astype(np.float32))
    weight = torch.from_numpy(rng.standard_normal((32, 16, 3, 3)).astype(np.float32))
    results = [
        matrix @ matrix, np.linalg.eigh(matrix @ matrix.T)[0], np.exp(matrix), np.tanh(matrix).astype(np.float32),
        torch.nn.functional.conv2d(image, weight).numpy(), (image.flatten(1) @ image.flatten(1).T).numpy(),
    ]  # fmt: skip
    torch.set_num_threads(before)
    return short(b"".join(array.tobytes() for array in results))


def steady(value: Any, where: str = "") -> Any:
    """The value without what depends on time and place."""
    if isinstance(value, Mapping):
        return {key: steady(inner, key) for key, inner in value.items() if not FLEETING.search(key)}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def simulated(app: Any, values: Mapping[str, Any]) -> None:
    nodes = [{"partition-id": part, "num-partitions": 5} for part in range(5)]
    run_local(server_app, app, node_configs=nodes, run_config=settings({**SMALL, **values}).public(), workers=1)


def run(method: str, side: str, folder: Path, more: Mapping[str, Any], patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs one method's example and returns what the golden file holds of it."""
    name = f"{method}-{side}" + ("-secure" if more.get("secure-sum") else "")
    out, state = folder / name, folder / f"{name}-state"
    places = {"out": str(out), "state": str(state)}
    transcript = Transcript()
    private = method.startswith("private-")
    if private:
        patch.setattr(gate, "system_entropy", transcript.entropy)
        patch.setattr(secure, "system_entropy", transcript.entropy)
        patch.setattr(os, "urandom", transcript.random)
        # when, and who asked, is of a run and not of a method: records as version 1 had them
        patch.setattr(Ledger, "_append", lambda ledger, body: ledger._journal.append(body))
    simulated(transcript, {**(PUBLIC if private else {}), **more, "methods": method, "test": side, **places})
    result = json.loads((out / "result.json").read_text(encoding="utf-8"))
    check_contract(result, out / "heads")
    (judged,) = result["methods"].values()
    entry = {
        "exchanges": transcript.told(),
        "heads": {path.stem: short(path.read_bytes()) for path in sorted((out / "heads").glob("*.safetensors"))},
        "kind": judged["kind"],
        "bill": [judged["cost"][key] for key in ("bytes_up", "bytes_down", "rounds")],
        "figures": {key: value for key, value in judged["figures"].items() if value is not None},
        "norms": norms(out / "heads"),
    }
    judged["cost"] = {}
    entry["result"] = short(json.dumps(steady(result), sort_keys=True))
    if private:
        lines = [path.read_bytes() for path in sorted(state.rglob("*.jsonl"))]
        assert lines, "a private run leaves a ledger"
        entry["ledger"] = [len(b"".join(lines).splitlines()), short(b"".join(lines))]
    return entry


def check_contract(result: Mapping[str, Any], heads: Path) -> None:
    """Every method is judged, saved and billed, and what is saved can be read again."""
    assert result["failures"] == []
    (judged,) = result["methods"].values()
    assert 0.0 <= judged["figures"]["balanced_accuracy"] <= 1.0
    assert judged["cost"]["bytes_up"] > 0
    assert judged["cost"]["rounds"] >= 1
    for manifest in heads.glob("*.json"):
        if is_model(manifest):
            kind, packed = load_packed(manifest)
            again = registry.unpack(kind, packed).pack()
            assert again.arrays.keys() == packed.arrays.keys()
            assert all(np.array_equal(again.arrays[key], packed.arrays[key]) for key in packed.arrays)
        else:
            assert load_head(manifest).classes == tuple(result["classes"])


def norms(heads: Path) -> dict[str, float]:
    files = sorted(heads.glob("*.safetensors"))
    return {
        f"{path.stem}/{key}{list(array.shape)}": float(f"{np.linalg.norm(array.astype(np.float64)):.6g}")
        for path in files
        for key, array in sorted(load_file(path).items())
    }


def compare(key: str, entry: dict[str, Any], recorded: dict[str, Any]) -> None:
    if recorded["update"]:
        recorded["runs"][key] = entry
        return
    known = recorded["runs"][key]
    if recorded["machine"] == machine():
        assert entry == known
        return
    counts = [{task: row[0] for task, row in one["exchanges"].items()} for one in (entry, known)]
    assert counts[0] == counts[1]
    assert entry["norms"].keys() == known["norms"].keys()
    assert entry["figures"].keys() == known["figures"].keys()
    if "ledger" in known:  # noise of a sum that differs in its last digit may differ in all
        assert entry["ledger"][0] == known["ledger"][0]
    else:
        assert entry["norms"] == pytest.approx(known["norms"], rel=1e-3, abs=1e-6)
        assert entry["figures"] == pytest.approx(known["figures"], abs=0.03)


@pytest.mark.parametrize(("method", "side"), RUNS)
def test_every_method_sends_and_leaves_the_same_bytes(
    method: str, side: str, folder: Path, recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = run(method, side, folder, {}, monkeypatch)
    compare(f"{method}/{side}", entry, recorded)
    alone = METHODS[method].test == "any" and entry["kind"] == "federated" and not BATCHED.search(method)
    if side == "sites" and alone:
        # the hospitals share out the very cases the server holds; float32 on the wire may turn a near tie
        central = recorded["runs"][f"{method}/server"]["figures"]["balanced_accuracy"]
        assert entry["figures"]["balanced_accuracy"] == pytest.approx(central, abs=0.02)


def test_a_secure_sum_sends_and_leaves_the_same_bytes(
    folder: Path, recorded: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = run("private-auto", "server", folder, {"secure-sum": True}, monkeypatch)
    compare("private-auto/server/secure", entry, recorded)


def test_a_report_of_several_methods_keeps_its_bytes(folder: Path, recorded: dict[str, Any]) -> None:
    """The page of one stored study, its seconds set to zero; on another processor only that it can be drawn."""
    methods = "local,nearest-mean,discriminant,fedavg-2,auto,ensemble-weighted"
    place = folder / "report" / "seed-0"
    simulated(client_app, {"methods": methods, "out": str(place)})
    result = json.loads((place / "result.json").read_text(encoding="utf-8"))
    (place / "result.json").write_text(json.dumps(timeless(result)), encoding="utf-8")
    write_report(place.parent)
    page = (place.parent / "report.html").read_bytes()
    if recorded["update"] or recorded["machine"] == machine():
        compare("report", {"page": short(page)}, recorded)
    assert len(page) > 10_000


def timeless(value: Any, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {
            name: {} if name == "versions" else timeless(inner, name)
            for name, inner in value.items()
            if name not in ("cache", "out", "state")
        }
    if isinstance(value, list):
        return [timeless(inner) for inner in value]
    return 0.0 if "seconds" in key else value


def test_the_golden_file_holds_these_runs_and_no_others(recorded: dict[str, Any]) -> None:
    apart = {"private-auto/server/secure", "report"}
    assert recorded["runs"].keys() == {f"{method}/{side}" for method, side in SIDES} | apart
