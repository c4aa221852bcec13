"""Whatever a server asks, a hospital and its neighbour without one patient answer or refuse alike, and pay alike."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from client import gate
from client.app import HospitalApp
from client.site import Site, open_site
from medtl_core.config import Settings
from medtl_core.errors import MedtlError, PrivacyError
from medtl_core.federation.registry import find_method
from medtl_core.fingerprint import PROTOCOL_MARK
from medtl_core.flower import compat
from medtl_core.flower.records import DTYPES, encode_request
from medtl_core.privacy.accounting import epsilon, mu_for
from medtl_core.values import Array
from tests.client.requests import Asked, some_request
from tests.client.wards import RULES, Ward, table
from tests.hospital import made_hospital

CHOSEN = Settings(data="", backbone="table", sites=3, privacy="auto", epsilon=0.5, public_cases=4, cache="off")
spent = cache(epsilon)
#: Requests to one pair of hospitals before they begin anew.
EPISODE = 15


def wards() -> list[Ward]:
    """Hospitals with a patient who stands out: far away, alone in a class, of many cases, unreadable, the only one."""
    usual = [(f"p{place}", "ab"[place % 2], tuple(np.random.default_rng(place).normal(size=2))) for place in range(9)]
    far, huge = ("q", "a", (97.0, -3.0)), ("q", "b", (9e12, -9e12))
    return [
        table([*usual, far], "q"), table([*usual, huge], "q"), table([*usual, ("q", "c", (0.0, 0.0))], "q"),
        table([*usual, *(("q", "abc"[number % 3], (number, "")) for number in range(4))], "q"),
        table([*usual, ("q", "a", ("x", "1e39")), ("q", "z", (1.0, 2.0))], "q"),
        table([("q", "b", (1.0, -2.0))], "q"),
    ]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A hospital and its neighbour; `ask` gives what each has told, and of its ledger what every reader may see."""

    ask: Callable[[Asked], Iterator[Any]]
    books: tuple[Path, Path]

    def check(self, asked: Asked) -> bool:
        """That both say and write the same; returns whether they answered."""
        one, other = self.ask(asked)
        assert one == other, asked
        assert records(self.books[0]) == records(self.books[1]), asked
        return bool(one[0] == "answer")


def records(book: Path) -> list[Any]:
    """The ledger's records but for the time and hashes, of patients and of what noise has made its own."""
    path = book / "ledger.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    bodies = [json.loads(line)["body"] for line in lines]
    return [
        {key: value for key, value in body.items() if key not in ("at", "fingerprint", "sha256")} for body in bodies
    ]


def told(site: Site, asked: Asked, folder: Path) -> tuple[Any, ...]:
    try:
        released = gate.answered(site, asked.task, asked.arrays, asked.config)
    except Exception as error:
        assert isinstance(error, MedtlError), repr(error)
        return "refusal", type(error), str(error).replace(str(folder), "")
    arrays = released.update.arrays
    assert all(np.isfinite(array).all() for array in arrays.values())
    witness = released.witness and (released.witness.ledger, released.witness.seq)
    shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    return "answer", shapes, released.event, dict(released.metrics), witness


def at_the_gate(ward: Ward, folder: Path) -> Iterator[Pair]:
    """Pairs without end, each with ledgers of its own."""
    sites = [open_site(CHOSEN, ward.node(folder / side, side == "whole")) for side in ("whole", "rest")]
    for number in range(10**6):
        homes = [folder / side / str(number) for side in ("whole", "rest")]
        for home in homes:
            home.mkdir(parents=True)
            rules = (f"{name} = {getattr(RULES, name)}" for name in ("public_patients", "max_epsilon", "delta"))
            (home / "policy.toml").write_text("\n".join(rules), encoding="utf-8")
        placed = [replace(site, home=home, agreement="a" * 64) for site, home in zip(sites, homes, strict=True)]

        def ask(asked: Asked, placed: list[Site] = placed, homes: list[Path] = homes) -> Iterator[Any]:
            return (told(site, asked, home) for site, home in zip(placed, homes, strict=True))

        yield Pair(ask, (homes[0] / "privacy", homes[1] / "privacy"))


def heard(app: HospitalApp, config: dict[str, Any], asked: Asked) -> tuple[Any, ...]:
    message = Message(encode_request(asked.arrays, asked.config), 7, f"train.{asked.task}", group_id=PROTOCOL_MARK)
    context = compat.node_context(1, 7, config, CHOSEN.replace(cache="").public())
    try:
        reply = app(compat.stamp(message, "m"), context)
    except Exception as error:
        assert str(error).startswith(("[medtl PrivacyError]", "[medtl BudgetError]", "[medtl PatientsError]"))
        return "refusal", str(error), error.__cause__, error.__context__
    arrays = reply.content.array_records["arrays"]
    about = dict(reply.content.config_records["about"])
    about.pop("witness-hash", None)
    shapes = {name: (array.shape, array.dtype, len(array.data)) for name, array in arrays.items()}
    return "answer", shapes, about, dict(reply.content.metric_records["metrics"])


def at_the_door(ward: Ward, folder: Path) -> Iterator[Pair]:
    """Pairs of whole folders with `hospital.toml`, asked through the real app."""
    compat.take_identity(1, 1)
    for number in range(10**6):
        apps, configs = [HospitalApp(), HospitalApp()], []
        for side in ("whole", "rest"):
            node = ward.node(folder / side / str(number), side == "whole")
            home = folder / side / str(number) / "north"
            configs.append(made_hospital(home, "north", Path(node.data_path), policy=RULES, cache="off"))

        def ask(asked: Asked, apps: list[HospitalApp] = apps, configs: list[Any] = configs) -> Iterator[Any]:
            return (heard(app, config, asked) for app, config in zip(apps, configs, strict=True))

        books = [Path(config["hospital"]) / "privacy" for config in configs]
        yield Pair(ask, (books[0], books[1]))


def travels(asked: Asked) -> bool:
    """Whether Flower has a form for it."""
    arrays = all(array.dtype in [*map(np.dtype, DTYPES)] for array in asked.arrays.values())
    words = all(type(value) in (str, int, float, bool) for value in asked.config.values())
    return arrays and words and asked.task != ""


def run(place: Path, road: Callable[[Ward, Path], Iterator[Pair]], count: int, seed: int) -> None:
    rng, everyone = np.random.default_rng(seed), wards()
    answers, pairs = 0, [road(ward, place / f"{seed}-{number}") for number, ward in enumerate(everyone)]
    for number in range(count):
        if number % EPISODE == 0:
            pair = next(pairs[number // EPISODE % len(pairs)])
        asked = some_request(rng, CHOSEN, 4, 3)
        if road is at_the_gate or travels(asked):
            answers += pair.check(asked)
    assert 0.05 * count < answers < 0.8 * count


@pytest.fixture(autouse=True)
def quick(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """No log; no waiting for the disk, where records are written and read as ever; the same figure is computed once."""
    caplog.set_level(logging.CRITICAL, logger="medtl")
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("client.gate.find_method", cache(find_method))
    for place in ("methods.private.planned_sums", "methods.private.auto"):
        monkeypatch.setattr(f"medtl_core.{place}.mu_for", cache(mu_for))
    for place in ("gate.epsilon_of", "ledger.epsilon"):
        monkeypatch.setattr(f"medtl_core.privacy.{place}", lambda events, delta: spent(tuple(events), delta))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where there is one: many thousand ledgers are begun."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def test_neighbours_answer_refuse_and_pay_alike(place: Path) -> None:
    run(place, at_the_gate, 180, 0)
    run(place, at_the_door, 30, 1)


@pytest.mark.door
@pytest.mark.parametrize(
    ("road", "count", "seed"), [(at_the_gate, 9_000, 2), (at_the_gate, 9_000, 3), (at_the_door, 3_000, 4)]
)
def test_neighbours_answer_refuse_and_pay_alike_whatever_is_asked(
    place: Path, road: Callable[[Ward, Path], Iterator[Pair]], count: int, seed: int
) -> None:
    run(place, road, count, seed)


# --- old mistakes, planted: the same test must see them


def _trusting(arrays: Any, shapes: Any) -> None:
    """No array of a request is looked at."""


def _strict(rows: Array) -> Array:
    """A row that is not finite is an error."""
    if not np.isfinite(rows).all():
        raise PrivacyError("a case's features are not finite")
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _refusing(demand: Any, task: Any) -> Any:
    """Sums that cannot be made are refused."""
    from medtl_core.privacy.gate import whole_numbers

    with np.errstate(all="ignore"):
        return whole_numbers(task(), demand.plan, demand.step)


def _narrow(arrays: Any, shapes: Any) -> None:
    """Only the numbers of a request are looked at."""
    for array in arrays.values():
        if array.dtype.kind != "f" or not np.isfinite(array).all() or np.abs(array).max(initial=0.0) > 1e6:
            raise PrivacyError("not finite")


CHECK, SUMS, UNIT = (
    f"medtl_core.{name}" for name in ("federation.private._check_arrays", "privacy.gate._sums", "privacy.patients.unit")
)


@pytest.mark.door
@pytest.mark.parametrize(
    "faults",
    [{CHECK: _trusting, UNIT: _strict, SUMS: _refusing}, {CHECK: _narrow, SUMS: _refusing}],
    ids=["what is not finite is refused", "shapes are not looked at"],
)
def test_a_planted_mistake_is_seen(place: Path, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any]) -> None:
    for name, fault in faults.items():
        monkeypatch.setattr(name, fault)
    with pytest.raises(AssertionError):
        run(place, at_the_gate, 2_000, 3)
