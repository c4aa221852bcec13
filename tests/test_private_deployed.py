"""Privacy with real processes: hospitals that own their cases, their policy, their ledger and their secrets."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.config import settings
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.federation.saved import load_packed
from medtl_core.federation.secure_sum import STAGES, parted
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.gate import unscaled
from medtl_core.privacy.identity import PEERS, public_identity
from medtl_core.privacy.ledger_report import Balance, balance, ledgers
from medtl_core.privacy.plan import Plan
from medtl_core.privacy.witnesses import FILE
from simulations.secure_sight import opened, secrets_of
from tests.deployed import HOLD, kill_node, listening_app, wait_for
from tests.harness.processes import Deployment
from tests.privacy.made import write_tables

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

NAMES = ("east", "north", "south")
#: Three are the fewest of which one may collude.
RUN: Mapping[str, Any] = {
    "data": "", "backbone": "table", "sites": 3, "shots": 40, "privacy": "mean", "epsilon": 1.0, "public-cases": 40,
    "bootstrap": 20, "deadline": 300.0,
}  # fmt: skip
POLICY = "max_epsilon = 1.2\nmechanisms = ['private-mean']\nrequire_private = true\n"
PATIENCE = 400.0


@dataclass(frozen=True)
class Place:
    """Where everybody's folders lie, and the hospitals' node configs."""

    folder: Path
    nodes: tuple[Mapping[str, str], ...]

    @property
    def states(self) -> Path:
        return self.folder / "states"

    def config(self, name: str, **changes: Any) -> dict[str, Any]:
        places = {"test-path": str(self.folder / "test.csv"), "cache": str(self.folder / "cache")}
        return {**RUN, **places, **changes, "out": str(self.folder / name)}

    def plan(self, **changes: Any) -> Plan:
        chosen = settings(self.config("", **changes))
        return find_method("private-mean").plan(terms_of(chosen, 4, 2))  # type: ignore[attr-defined,no-any-return]

    def books(self) -> dict[str, Balance]:
        return {found.site: found for found in map(balance, ledgers(self.states))}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Three hospitals with 40 patients each, and the server's own test cases."""
    write_tables(tmp_path, *NAMES)
    nodes = []
    for name in NAMES:
        home = tmp_path / "states" / name
        home.mkdir(parents=True)
        (home / "policy.toml").write_text(POLICY, encoding="utf-8")
        nodes.append({"data-path": str(tmp_path / f"{name}.csv"), "site-name": name, "state-dir": str(home)})
    peers = {name: public_identity(tmp_path / "states" / name) for name in NAMES}
    for name in NAMES:
        (tmp_path / "states" / name / PEERS).write_text(json.dumps(peers), encoding="utf-8")
    return Place(tmp_path, tuple(nodes))


def transcript(out: Path) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Task -> hospital -> arrays, as the server got them."""
    found: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for path in sorted((out / "transcript").glob("*.npz")):
        task, _, site = path.stem.partition("--")
        with np.load(path) as arrays:
            found.setdefault(task, {})[site] = dict(arrays)
    return found


def head(out: Path) -> Mapping[str, np.ndarray]:
    (manifest,) = (out / "heads").glob("*.json")
    return load_packed(manifest)[1].arrays


def result(out: Path) -> dict[str, Any]:
    return json.loads((out / "result.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def check_paid(place: Place, plan: Plan) -> None:
    for name, book in place.books().items():
        assert (book.reserved, book.released) == (1, 1), name
        assert book.spent == pytest.approx(epsilon(plan.events, book.delta), rel=1e-9)
        assert 0.9 < book.spent <= 1.0
        assert book.records[0]["site"] == name
    assert set(place.books()) == set(NAMES)
    for path in place.states.rglob("*"):
        if path.is_file() and path.name not in ("policy.toml", PEERS):
            assert path.stat().st_mode & 0o077 == 0, path


def check_sum(place: Place, out: Path, plan: Plan, stayed: Sequence[str], helped: Sequence[str] = ()) -> None:
    """With every hospital's secrets the masks come off: the head is that of the sum, and no message held a summand.

    `stayed` sent masked sums; `helped`, the same if not given, lived to take the masks off.
    """
    heard = transcript(out)
    assert list(heard) == ["join", *sorted(STAGES)]
    masked = {name: sent["masked"] for name, sent in heard["secure_masked"].items()}
    assert sorted(masked) == sorted(stayed)
    assert sorted(heard["secure_unmask"]) == sorted(helped or stayed)
    own = opened(masked, secrets_of(place.states), NAMES, plan)
    sums = unscaled(parted(np.sum(list(own.values()), axis=0), {"counts": (2,), "sums": (2, 4)}), plan.steps[0])
    np.testing.assert_array_equal(head(out)["weight"], sums["sums"] / np.maximum(sums["counts"], 12.0)[:, None])
    summands = {int(number) for vector in own.values() for number in vector}
    assert all(abs(number) < 2**40 for number in summands)
    for arrays in (arrays for sites in heard.values() for arrays in sites.values()):
        told = {int(word) for array in arrays.values() for word in np.ascontiguousarray(array).view("<i8").ravel()}
        assert not told & (summands - {0})
    for log in [*(place.folder / "flower").glob("*.log"), out / "events.jsonl", out / "result.json"]:
        assert "patient-" not in log.read_text(encoding="utf-8", errors="replace"), log


def test_a_deployed_secure_sum_is_paid_for_and_a_ledger_that_is_deleted_then_is_noticed(place: Place) -> None:
    """The server sees nothing but the sum, and its memory and the hospitals' ledgers meet again in another run."""
    known = {"secure-sum": True, "state": str(place.folder / "server")}
    app, plan = listening_app(place.folder), place.plan(**{"secure-sum": True})
    with Deployment(place.nodes, home=place.folder / "flower") as deployment:
        assert deployment.run(app, place.config("secure", **known), timeout=PATIENCE) == "finished:completed"
        assert result(place.folder / "secure")["failures"] == []
        check_paid(place, plan)
        check_sum(place, place.folder / "secure", plan, NAMES)
        shutil.rmtree(place.states / "north" / "privacy")
        other = place.config("open", epsilon=0.4, state=known["state"])
        assert deployment.run(app, other, timeout=PATIENCE) == "finished:completed"
    failures = [(row["site"], row["text"].partition(":")[0]) for row in result(place.folder / "open")["failures"]]
    assert failures == [("north", "PrivacyError")]
    books = place.books()
    assert {name: book.reserved for name, book in books.items()} == {"east": 2, "north": 0, "south": 2}
    remembered = json.loads((place.folder / "server" / FILE).read_text(encoding="utf-8"))
    assert remembered["south"]["witness-seq"] == books["south"].witness[0]


@pytest.mark.slow  # Flower takes a minute to notice a SuperNode that is gone
@pytest.mark.parametrize(("last", "stayed"), [("secure_shares", NAMES[:2]), ("secure_masked", NAMES)])
def test_a_hospital_killed_between_two_stages_changes_nothing_but_who_is_in_the_sum(
    place: Place, last: str, stayed: Sequence[str]
) -> None:
    changes, home, out = {"secure-sum": True}, place.folder / "flower", place.folder / "secure"
    hold = place.folder / "hold"
    hold.write_text(f"{last}--south", encoding="utf-8")
    os.environ[HOLD] = str(hold)
    with Deployment(place.nodes, home=home) as deployment, ThreadPoolExecutor(1) as pool:
        app, run_config = listening_app(place.folder), place.config("secure", **changes)
        running = pool.submit(deployment.run, app, run_config, timeout=PATIENCE)
        wait_for(out / "transcript" / f"{last}--south.npz", PATIENCE)
        kill_node(home, NAMES.index("south"))
        hold.unlink()
        assert running.result() == "finished:completed"
    assert [row["site"] for row in result(out)["failures"]] == ["south"]
    check_sum(place, out, place.plan(**changes), stayed, NAMES[:2])
    books = {name: (book.reserved, book.released) for name, book in place.books().items()}
    assert books == {name: (1, 1) if name in stayed else (0, 0) for name in NAMES}
