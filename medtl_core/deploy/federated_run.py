"""A run of a federation, with the hospitals that a person has named, in the process of that person."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medtl_core.config import Settings
from medtl_core.deploy.coordinator import Coordinator
from medtl_core.deploy.overview import STARTED, Overview
from medtl_core.deploy.roster import read_roster
from medtl_core.deploy.supervisor import see
from medtl_core.errors import RunError
from medtl_core.evaluation.result import Result
from medtl_core.events import Event, Events, Listener
from medtl_core.privacy.identity import PEERS
from medtl_core.run_folder import Run
from medtl_core.store import to_json, write_bytes, write_json

#: Seconds since a hospital was heard, above which it is not taken to be there when a run starts: an idle SuperNode is
#: heard every twelve seconds.
_FRESH = 20.0
_LOCK = "run.lock"


@dataclass(frozen=True)
class Federation:
    """Who a run is for, where, and with what.

    Attributes:
        coordinator: its folder.
        hospitals: by name, each with its node's id in Flower.
        settings: of the run.
        app: folder of the installed app.
        again: the command that runs the same again.
    """

    coordinator: Coordinator
    hospitals: Mapping[str, int]
    settings: Settings
    app: Path
    again: str = ""

    def run(self, run: Run, listener: Listener) -> Result:
        """Runs one study with all of them and returns its result, which lies in the run's folder.

        Raises:
            MedtlError: the run failed; the hospitals' own logs say more.
        """
        from medtl_core.flower.link.task import Link, run_server_app

        coordinator, folder, seed = self.coordinator, run.seed_folder(self.settings.seed), self.settings.seed
        events = Events(run.events_path, listener)
        bind_names(coordinator)
        chosen = self.settings.replace(sites=len(self.hospitals), out=str(folder), state=str(coordinator.state))
        link = Link(coordinator.local, coordinator.secret)
        number = link.submit(self.app, chosen.without_places().public())
        started = {"hospitals": [*self.hospitals], "pid": os.getpid(), "run": str(number), "again": self.again}
        write_json(run.folder / STARTED, started)

        def told(event: Event) -> None:
            events.emit(**{"seed": seed, **event})

        run_server_app(link, number, self.app, chosen.public(), self.hospitals.values(), told)
        return Result.read(folder / "result.json")


def await_hospitals(
    coordinator: Coordinator, named: tuple[str, ...], patience: float, waiting: Callable[[str], None]
) -> dict[str, int]:
    """Returns the nodes of the hospitals that a run is for, once all of them are there.

    Args:
        coordinator: its folder.
        named: by the person; none = all that have enrolled.
        patience: seconds to wait.
        waiting: told once whom the run waits for.

    Raises:
        RunError: the coordinator is down, nobody has enrolled, or some hospital is not there in time: names it, and how
            it stands.
        ConfigError: one was not invited.
    """
    roster = read_roster(coordinator.folder)
    members = [roster.member(name) for name in named] or [one for one in roster.members.values() if one.registered]
    if not members:
        raise RunError("no hospital has enrolled; medtl coordinator invite writes an invitation")
    end, told = time.monotonic() + patience, False
    while True:
        view = see(coordinator)
        if not view.up:
            raise RunError(f"the coordinator is down; start it: medtl coordinator up {coordinator.folder}")
        absent = _absent(view, {one.name for one in members})
        if not absent:
            nodes = {row.name: row.node for row in view.hospitals}
            return {one.name: int(nodes[one.name]) for one in members}
        text = ", ".join(f"{name} ({state})" for name, state in absent.items())
        if time.monotonic() >= end:
            raise RunError(f"not there within {patience:g} s: {text}; nothing was started, and nothing asked or spent")
        if not told:
            waiting(text)
            told = True
        time.sleep(0.2)


def _absent(view: Overview, names: set[str]) -> dict[str, str]:
    """How those stand of whom one cannot say that they are there."""
    absent = {}
    for row in view.hospitals:
        here = row.state == "online" and row.node and time.time() - row.last < _FRESH
        if row.name in names and not here:
            absent[row.name] = f"last heard {time.time() - row.last:.0f} s ago" if row.state == "online" else row.state
    return absent


def bind_names(coordinator: Coordinator) -> None:
    """Binds each hospital's name to the identity key that it enrolled with: nobody else joins a run under it."""
    members = read_roster(coordinator.folder).members.values()
    keys = {member.name: member.identity for member in members if member.registered}
    coordinator.state.mkdir(mode=0o700, exist_ok=True)
    write_bytes(coordinator.state / PEERS, to_json(keys).encode(), mode=0o600)


@contextmanager
def one_run(coordinator: Coordinator) -> Iterator[None]:
    """Holds the federation meanwhile: a hospital answers one message at a time, and would keep a second run waiting.

    Raises:
        RunError: a run is under way.
    """
    with (coordinator.folder / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError("a run is under way; wait for it, or end its process: medtl coordinator status") from error
        yield
