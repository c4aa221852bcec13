"""A hospital that is killed in any exchange, the first to the last, of a private run and of a plain one."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from medtl_core.privacy.ledger_report import balance, ledgers
from medtl_core.privacy.policy import Policy
from tests.deployed import kill_node
from tests.harness.federation import Federation
from tests.privacy.made import write_tables

pytestmark = [
    pytest.mark.slow, pytest.mark.deployed, pytest.mark.timeout(1800), pytest.mark.usefixtures("clean_environment"),
]  # fmt: skip

NAMES = ("east", "north", "south")
#: Seconds for one run on a loaded machine, and what a hospital that is killed may cost the others: two minutes.
PATIENCE, LOST = 300.0, 120.0
PRIVATE = ("privacy=mean", "epsilon=0.5", "public-cases=40", "secure-sum=true", "backbone=table")
PLAIN = ("methods=auto", "backbone=table", "bootstrap=20")


@dataclass(frozen=True)
class Outcome:
    """How a run with a kill ended: its code, seconds from the kill to the end, what it said, phases all answered."""

    code: int
    seconds: float
    said: str
    full: tuple[str, ...]


@dataclass
class Place:
    """A federation that is up, and the runs made on it."""

    federation: Federation
    made: list[str] = field(default_factory=list)

    def events(self, name: str) -> Sequence[Mapping[str, Any]]:
        path = self.federation.home / "runs" / name / "events.jsonl"
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.is_file() else ""
        return [json.loads(line) for line in whole.splitlines()]

    def exchanges(self, name: str) -> tuple[str, ...]:
        """The phases that every hospital has answered, in order."""
        return tuple(row["phase"] for row in self.events(name) if row["kind"] == "exchange" and not row["failures"])

    def started(self, words: Sequence[str]) -> tuple[str, Any]:
        """A run of its own seed, so that nothing which was released before answers in its place."""
        name = f"run-{len(self.made)}"
        self.made.append(name)
        place = [f"seed={len(self.made)}", f"test-path={self.federation.folder / 'test.csv'}", "--name", name]
        command = ["medtl", "coordinator", "run", str(self.federation.home), *words, *place, "--wait", "120"]
        return name, self.federation.children.start(name, command, self.federation.children.environment("flwr"))

    def to_its_end(self, words: Sequence[str]) -> tuple[str, ...]:
        name, going = self.started(words)
        assert going.wait(PATIENCE) == 0, self.federation.tails()
        return self.exchanges(name)

    def killed(self, words: Sequence[str], after: int) -> Outcome:
        """A run in which `south` is killed when so many exchanges are over; it is started again afterwards."""
        name, going = self.started(words)
        end = time.monotonic() + PATIENCE
        while going.poll() is None and not (self.events(name) and len(self.exchanges(name)) >= after):
            assert time.monotonic() < end, self.federation.tails()
            time.sleep(0.02)
        began = time.monotonic()
        kill_node(self.federation.children.home, self.federation.site("south"))
        code = going.wait(PATIENCE)
        took = time.monotonic() - began
        self.federation.start_site("south")
        said = self.federation.children.log(name).read_text(encoding="utf-8")
        return Outcome(code, took, said, self.exchanges(name))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    write_tables(tmp_path, *NAMES)
    with Federation(tmp_path) as federation:
        federation.begin()
        federation.join(NAMES, tmp_path, Policy(max_epsilon=40.0, max_releases=99, secure_sum=True, public_patients=40))
        for name in NAMES:
            federation.start_site(name)
        yield Place(federation)


def test_a_kill_in_any_exchange_of_a_private_run_ends_it_and_costs_no_more_than_the_run(place: Place) -> None:
    phases = place.to_its_end(PRIVATE)
    stages = ["keys", "shares", "masked", "survivors", "unmask"]
    assert phases == ("join", *(f"private-mean:private_statistics:{stage}" for stage in stages))
    for after, phase in enumerate(phases):
        outcome = place.killed(PRIVATE, after)
        if outcome.full == phases:  # it had answered the last question before it was killed
            assert (outcome.code, phase) == (0, phases[-1])
            continue
        assert outcome.code == 1 and outcome.seconds < LOST, (phase, outcome)
        assert "south" in outcome.said and "node-unavailable" in outcome.said, (phase, outcome)
        learnt = "the sum is given up and nothing was learnt" not in outcome.said
        assert after < 2 or not learnt, (phase, outcome)  # before it has sent keys, two can go on
    assert place.to_its_end(PRIVATE) == phases
    books = {book.site: book for book in map(balance, ledgers(place.federation.folder / "sites"))}
    open_sums = {name: book.reserved - book.released for name, book in books.items()}
    assert (open_sums["east"], open_sums["north"]) == (0, 0) and open_sums["south"] in (0, 1)  # killed while it paid
    assert all(book.reserved <= len(place.made) for book in books.values())


def test_a_kill_in_any_exchange_of_a_plain_run_costs_two_minutes_at_most(place: Place) -> None:
    phases = place.to_its_end(PLAIN)
    assert phases == ("join", "statistics", *["logistic-5"] * 5, "validate", "compare")
    for after, phase in enumerate(phases):
        outcome = place.killed((*PLAIN, "quorum=0.6"), after)
        assert outcome.code == 0 and outcome.seconds < LOST, (phase, outcome)
        late = outcome.full == phases and phase == phases[-1]  # it had answered the last question before
        assert late or "finished without south" in outcome.said, (phase, outcome)
    strict = place.killed(PLAIN, 2)
    assert strict.code == 1 and strict.seconds < LOST and "south" in strict.said, strict
