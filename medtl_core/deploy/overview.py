"""How a federation stands: every hospital by name, every run with its true state, for `status` and the local page."""

import html
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medtl_core.deploy.coordinator import Coordinator
from medtl_core.deploy.roster import Member, read_roster
from medtl_core.deploy.told import kept
from medtl_core.run_folder import FAILED
from medtl_core.store import read_json

#: File in a run's folder: who it is for, and whose process it is.
STARTED = "federation.json"
#: Seconds after which a hospital that was not heard is no longer called online. A SuperNode that answers a message is
#: heard every 7 to 9 s, an idle one every 12.
ONLINE = 25.0


@dataclass
class Contacts:
    """What a coordinator that is up has heard, in memory alone.

    Attributes:
        last: when each hospital's last request was granted, in seconds since 1970.
        left: who has said goodbye since.
        nodes: ids in Flower of those whose keys are registered.
    """

    last: dict[str, float] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    nodes: dict[str, str] = field(default_factory=dict)

    def heard(self, name: str, *, goodbye: bool) -> None:
        """Takes down that a hospital's request was granted."""
        self.last[name] = time.time()
        (self.left.add if goodbye else self.left.discard)(name)


@dataclass(frozen=True)
class HospitalRow:
    """One hospital.

    Attributes:
        state: "invited", "invitation expired", "enrolled", "online", "offline" or "revoked".
        last: when it was last heard, in seconds since 1970; 0 = not since the coordinator came up.
        node: its id in Flower; "" = not enrolled, or the coordinator is down.
        run, stage: what it takes part in now, and the phase; "" = nothing.
        epsilon, left_out: what it has told of the epsilon left and of cases left out; "" = nothing.
    """

    name: str
    state: str
    last: float = 0.0
    node: str = ""
    run: str = ""
    stage: str = ""
    epsilon: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class RunRow:
    """One run.

    Attributes:
        state: "running", "finished", "failed" or "broken off".
        hospitals: it was started with, by name.
        stage: the phase at work, or the last.
        lost: hospitals that failed to answer, with the phase and why.
        why: of a run that failed.
        again: the command that runs the same again; "" = nothing was lost.
    """

    name: str
    state: str
    hospitals: tuple[str, ...]
    stage: str = ""
    lost: tuple[tuple[str, str, str], ...] = ()
    why: str = ""
    again: str = ""


@dataclass(frozen=True)
class Overview:
    """All of it, at one moment."""

    federation: str
    address: str
    up: bool
    hospitals: tuple[HospitalRow, ...]
    runs: tuple[RunRow, ...]

    def as_json(self) -> bytes:
        """Returns it as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False).encode()

    @property
    def advice(self) -> str:
        """Says of the newest run, if it was lost, how far it came and how to run it again; "" = it was not."""
        run = next(iter(self.runs), None)
        if run is None or not run.again:
            return ""
        where = f" in {run.stage}" if run.stage else ""
        return f"{run.name} {run.state}{where}; the same again, private answers that were given at no cost: {run.again}"


def overview(coordinator: Coordinator, contacts: Contacts | None) -> Overview:
    """Returns how the federation stands, by its folder and what it has heard (None = it is down)."""
    runs = tuple(_run(folder) for folder in sorted(_folders(coordinator.runs), key=_began, reverse=True))
    now = next((run for run in runs if run.state == "running"), None)
    rows, told = [], kept(coordinator.folder)
    for member in read_roster(coordinator.folder).members.values():
        row = _hospital(member, contacts)
        if member.name in told and not member.revoked:
            row = replace(row, epsilon=told[member.name].epsilon, left_out=told[member.name].left_out)
        if now is not None and member.name in now.hospitals:
            dropped = next((phase for site, phase, _ in now.lost if site == member.name), "")
            row = replace(row, run=now.name, stage=f"dropped out: {dropped}" if dropped else now.stage)
        rows.append(row)
    return Overview(coordinator.name, coordinator.words.address, contacts is not None, tuple(rows), runs)


def from_json(stored: Mapping[str, Any]) -> Overview:
    """Returns the overview that `as_json` wrote."""
    runs = [
        {**run, "hospitals": tuple(run["hospitals"]), "lost": tuple(map(tuple, run["lost"]))} for run in stored["runs"]
    ]
    rows = tuple(HospitalRow(**row) for row in stored["hospitals"])
    return Overview(**{**stored, "hospitals": rows, "runs": tuple(RunRow(**run) for run in runs)})


def ago(last: float) -> str:
    """Returns how long ago a moment was, in words."""
    seconds = max(time.time() - last, 0.0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if last and seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago" if last else "-"


def page(view: Overview) -> str:
    """Returns the overview as a page of HTML that loads nothing and asks for itself anew every five seconds."""

    def rows(cells: list[tuple[str, ...]]) -> str:
        return "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)

    hospitals = rows(
        [(row.name, row.state, ago(row.last), row.run, row.stage, row.epsilon, row.left_out) for row in view.hospitals]
    )
    runs = rows([(run.name, run.state, ", ".join(run.hospitals), run.stage or run.why, lost(run)) for run in view.runs])
    name, address = html.escape(view.federation), html.escape(view.address)
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<title>{name}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }} caption {{ text-align: left; font-weight: 600; padding: .5rem 0 }}
th, td {{ text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8885 }}
</style></head><body><main><h1>{name}</h1><p>Open to hospitals at {address}.</p>
<table><caption>Hospitals</caption><thead><tr><th scope="col">Hospital</th><th scope="col">State</th>
<th scope="col">Last contact</th><th scope="col">Run</th><th scope="col">Stage</th>
<th scope="col">Epsilon left</th><th scope="col">Cases left out</th></tr></thead>
<tbody>{hospitals}</tbody></table>
<table><caption>Runs</caption><thead><tr><th scope="col">Run</th><th scope="col">State</th>
<th scope="col">Hospitals</th><th scope="col">Stage</th><th scope="col">Failed to answer</th></tr></thead>
<tbody>{runs}</tbody></table><p>{html.escape(view.advice)}</p>
<p>{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC</p></main></body></html>"""


def lost(run: RunRow) -> str:
    """Returns who failed to answer in a run, and where."""
    return ", ".join(dict.fromkeys(f"{site} ({phase})" for site, phase, _ in run.lost))


def _hospital(member: Member, contacts: Contacts | None) -> HospitalRow:
    if member.revoked:
        return HospitalRow(member.name, "revoked")
    if not member.key:
        over = datetime.now(UTC) >= datetime.fromisoformat(member.expires)
        return HospitalRow(member.name, "invitation expired" if over else "invited")
    last = contacts.last.get(member.name, 0.0) if contacts else 0.0
    if contacts is None or not last:
        state = "enrolled"
    else:
        state = "online" if member.name not in contacts.left and time.time() - last < ONLINE else "offline"
    return HospitalRow(member.name, state, last, contacts.nodes.get(member.name, "") if contacts else "")


def _folders(runs: Path) -> list[Path]:
    return [folder for folder in runs.iterdir() if (folder / STARTED).is_file()] if runs.is_dir() else []


def _began(folder: Path) -> float:
    return (folder / STARTED).stat().st_mtime


def _run(folder: Path) -> RunRow:
    started = read_json(folder / STARTED)
    stage, gone = "", []
    for event in _events(folder / "events.jsonl"):
        if event.get("kind") in ("phase", "exchange"):
            stage = str(event.get("phase", ""))
        elif event.get("kind") == "failure":
            gone.append((str(event.get("site")), str(event.get("phase")), str(event.get("text"))))
    why = ""
    if (folder / FAILED).is_file():
        state, why = "failed", (folder / FAILED).read_text(encoding="utf-8").strip()
    elif (folder / "metrics.json").is_file():
        state = "finished"
    else:
        state = "running" if _alive(int(started["pid"])) else "broken off"
    again = str(started.get("again", "")) if state in ("failed", "broken off") else ""
    return RunRow(folder.name, state, tuple(started["hospitals"]), stage, tuple(gone), why, again)


def _events(path: Path) -> list[dict[str, Any]]:
    events = []
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):  # the last line may be half written
                events.append(json.loads(line))
    return events


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
