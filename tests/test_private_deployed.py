"""Privacy with real processes: hospitals that own their cases, their policy, their ledger and their secrets."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.federation.secure_sum import STAGES, parted
from medtl_core.flower.processes.loopback import Deployment
from medtl_core.predict.saved import load_packed
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.gate import unscaled
from medtl_core.privacy.identity import PEERS, public_identity
from medtl_core.privacy.ledger_report import balance, ledgers
from medtl_core.privacy.masking import Secrets
from medtl_core.privacy.policy import Policy
from medtl_core.privacy.receipt import read_receipts
from medtl_core.privacy.witnesses import FILE
from simulations.secure_sight import opened, secrets_of
from tests.deployed import HOLD, copy_app, kill_node, listening_app, wait_for
from tests.hospital import made_hospital, peers_of
from tests.privacy.made import write_tables

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

NAMES = ("east", "north", "south")
#: Three are the fewest of which one may collude; of four one may also be lost, if nobody is taken for a colluder.
FOUR = (*NAMES, "west")
RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": 3, "shots": 40, "privacy": "mean", "epsilon": 1.0, "public-cases": 40,
    "bootstrap": 20, "deadline": 300.0, "secure-sum": True, "study": "wards",
}  # fmt: skip
POLICY = Policy(
    max_epsilon=1.2, mechanisms=("private-mean",), require_private=True, public_patients=40, secure_sum=True
)
PATIENCE = 400.0


class Place:
    """Hospitals with 40 patients each, and the server's own test cases: everybody's folders."""

    def __init__(self, folder: Path, names: Sequence[str] = NAMES, policy: Policy = POLICY) -> None:
        write_tables(folder, *names)
        self.names, self.secrets = names, dict[str, Secrets]()
        self.folder, self.states, self.home, self.out = (folder / name for name in ("", "states", "flower", "out"))
        peers = peers_of(self.states / name for name in names)
        self.nodes = [
            made_hospital(self.states / name, name, folder / f"{name}.csv", policy=policy, peers=peers)
            for name in names
        ]
        places = {"test-path": folder / "test.csv", "out": self.out, "state": folder / "srv"}
        self.config = {**RUN, "sites": len(names), **{name: str(path) for name, path in places.items()}}
        self.plan = find_method("private-mean").plan(terms_of(settings(self.config), 4, 2))  # type: ignore[attr-defined]

    def run(self, last: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        """One run, during which the server stays at one reply, TASK--SITE, while something happens."""
        hold = self.folder / "hold"
        hold.write_text(last, encoding="utf-8")
        os.environ[HOLD] = str(hold)
        with Deployment(self.nodes, home=self.home) as deployment, ThreadPoolExecutor(1) as pool:
            running = pool.submit(deployment.run, listening_app(self.folder), self.config, timeout=PATIENCE)
            wait_for(self.out / "transcript" / f"{last}.npz", PATIENCE)
            self.secrets = secrets_of(self.states)  # when the masks come off they go
            meanwhile()
            hold.unlink()
            assert running.result() == "finished:completed"

    def failures(self) -> list[str]:
        stored = json.loads((self.out / "result.json").read_text(encoding="utf-8"))
        return [row["site"] for row in stored["failures"]]

    def check_sum(self, stayed: Sequence[str]) -> None:
        """With every hospital's secrets the masks come off: the head is that of the sum of those who stayed."""
        masked = {}
        for name in stayed:
            with np.load(self.out / "transcript" / f"secure_masked--{name}.npz") as arrays:
                masked[name] = arrays["masked"]
        integers = np.sum(list(opened(masked, self.secrets, self.names, self.plan).values()), axis=0)
        sums = unscaled(parted(integers, {"counts": (2,), "sums": (2, 4)}), self.plan.steps[0])
        (manifest,) = (self.out / "heads").glob("*.json")
        weight = load_packed(manifest)[1].arrays["weight"]
        np.testing.assert_array_equal(weight, sums["sums"] / np.maximum(sums["counts"], 12.0)[:, None])


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_deployed_secure_sum_is_paid_for_and_remembered(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the house, which leads nowhere, does not catch what stays on this machine."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    place.run("secure_masked--south")
    assert place.failures() == []
    place.check_sum(NAMES)
    books = {book.site: book for book in map(balance, ledgers(place.states))}
    assert {name: (book.reserved, book.released) for name, book in books.items()} == dict.fromkeys(NAMES, (1, 1))
    for book in books.values():
        assert book.spent == pytest.approx(epsilon(place.plan.events, book.delta), rel=1e-9)
        assert 0.9 < book.spent <= 1.0
    remembered = json.loads((place.folder / "srv" / FILE).read_text(encoding="utf-8"))
    assert {name: row["witness-seq"] for name, row in remembered.items()} == {n: b.witness[0] for n, b in books.items()}
    for name in NAMES:  # each message was answered by a process of its own
        receipts = read_receipts(place.states / name)
        bodies = [record.body for record in receipts.records]
        assert [body["task"] for body in bodies] == ["join", *STAGES] and receipts.signed == len(bodies)
        assert {body["asked"]["study"] for body in bodies} == {"wards"} and len(
            {body["asked"]["run"] for body in bodies}
        ) == 1
        for body in bodies[1:]:
            with np.load(place.out / "transcript" / f"{body['task']}--{name}.npz") as arrays:
                assert body["arrays"] == {key: [str(arrays[key].dtype), *arrays[key].shape] for key in arrays}
    for path in place.states.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    for log in [
        *place.home.glob("*.log"),
        *place.states.rglob("sent/*"),
        place.out / "events.jsonl",
        place.out / "result.json",
    ]:
        assert "patient-" not in log.read_text(encoding="utf-8", errors="replace"), log


@pytest.mark.door
def test_a_second_node_under_a_bound_name_is_refused_and_the_hospital_takes_part(place: Place) -> None:
    (place.folder / "srv").mkdir()
    bound = {"north": public_identity(place.states / "north")}  # a person wrote it before the first run
    (place.folder / "srv" / PEERS).write_text(json.dumps(bound), encoding="utf-8")
    fake = made_hospital(place.folder / "impostor", "north", place.folder / "east.csv", policy=POLICY)
    config = {**place.config, "secure-sum": False, "sites": 4, "quorum": 0.75, "epsilon": 0.9}
    with Deployment([fake, *place.nodes], home=place.home) as deployment:
        assert deployment.run(copy_app(place.folder), config, timeout=PATIENCE) == "finished:completed"
    stored = json.loads((place.out / "result.json").read_text(encoding="utf-8"))
    assert [(row["site"], row["code"]) for row in stored["failures"]] == [("north", "identity")]
    assert list(stored["sites"]) == [*NAMES]
    keys = {name: public_identity(place.states / name) for name in NAMES}
    assert json.loads((place.folder / "srv" / PEERS).read_text(encoding="utf-8")) == keys
    books = {book.site: (book.reserved, book.released) for book in map(balance, ledgers(place.states))}
    assert books == dict.fromkeys(NAMES, (1, 1))


# Half a minute goes by before a SuperNode that is gone is noticed
@pytest.mark.parametrize(
    ("last", "gone"),
    [pytest.param("secure_shares", ("south",), marks=pytest.mark.door), ("secure_masked", ())],
)
def test_a_hospital_killed_between_two_stages_changes_nothing_but_who_is_in_the_sum(
    tmp_path: Path, last: str, gone: Sequence[str]
) -> None:
    place = Place(tmp_path, FOUR, replace(POLICY, minimum_colluders=0))
    place.run(f"{last}--south", lambda: kill_node(place.home, place.states / "south"))
    stayed = [name for name in FOUR if name not in gone]
    assert {*place.failures()} == {"south"}
    place.check_sum(stayed)
    books = {book.site: (book.reserved, book.released) for book in map(balance, ledgers(place.states))}
    assert books == {name: (1, 1) if name in stayed else (0, 0) for name in FOUR}
