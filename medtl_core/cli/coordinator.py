"""`medtl coordinator`: one command for each thing that whoever runs a federation does."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.coordinator_run import quieten, run
from medtl_core.errors import ConfigError, RunError

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's own folder.")]
Hospital = Annotated[str, typer.Argument(metavar="HOSPITAL", help="By which the federation knows the hospital.")]
#: Seconds that a coordinator in the background has to come up.
_PATIENCE = 150.0


def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="Of the federation.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="By which hospitals reach this machine.")],
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="The server's, where you bring one.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key.")] = None,
    ca: Annotated[Path | None, typer.Option(metavar="FILE", help="The authority's that vouches for it.")] = None,
) -> None:
    """Make a coordinator's folder: its own authority and certificate, and an empty list of hospitals."""
    from medtl_core.deploy.coordinator import initialise_coordinator
    from medtl_core.deploy.invitation import fingerprint_of

    given = [path for path in (certificate, key, ca) if path is not None]
    if given and len(given) < 3:
        raise ConfigError("a certificate that you bring needs all three: --certificate, --key and --ca")
    brought = (given[0], given[1], given[2]) if given else None
    coordinator = initialise_coordinator(folder, name, address, brought)
    typer.echo(f"{folder}: coordinator of {coordinator.name}, for hospitals at {address}")
    typer.echo(f"its authority's fingerprint (SHA-256): {fingerprint_of(coordinator.ca)}")
    typer.echo(f"next: medtl coordinator invite {folder} HOSPITAL, and medtl coordinator up {folder}")


def invite(
    folder: Folder,
    hospital: Hospital,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="New; usual: HOSPITAL.invitation.toml.")] = None,
    days: Annotated[float, typer.Option(help="How long it is good for.")] = 30.0,
) -> None:
    """Write an invitation for one hospital, to be handed over by another way than the network: it holds a secret."""
    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.store import file_names

    coordinator = read_coordinator(folder)
    path = out or Path(f"{file_names([hospital])[hospital]}.invitation.toml")
    if path.exists():
        raise ConfigError(f"{path} is there already and is not written over; name another with --out")
    invitation = coordinator.invite(hospital, days)
    invitation.write(path)
    typer.echo(f"{path}: lets {invitation.hospital} in, once, until {invitation.expires:%Y-%m-%d %H:%M} UTC")
    typer.echo("hand it over by encrypted mail or on a stick; there: medtl site init DIR --invitation FILE --data DATA")


def revoke(folder: Folder, hospital: Hospital) -> None:
    """Shut a hospital out: its key and its invitation open nothing any more, from its next request on."""
    from datetime import UTC, datetime

    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.deploy.roster import change_roster

    change_roster(read_coordinator(folder).folder, lambda roster: roster.revoked(hospital, datetime.now(UTC)))
    typer.echo(f"{hospital} is revoked; to let it in again, invite it again")


def up(
    folder: Folder,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; its log is in the folder.")
    ] = False,
) -> None:
    """Open the port to hospitals, until the process is ended."""
    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.deploy.overview import overview
    from medtl_core.deploy.supervisor import keep_up

    coordinator = read_coordinator(folder)
    place, page = coordinator.words.address, f"http://{coordinator.local}/"
    advice = overview(coordinator, None).advice
    words = f"{coordinator.name}: open to hospitals at {place}; status page {page}{advice and chr(10)}{advice}"
    if detach:
        _detached(folder)
        typer.echo(words)
        return
    os.umask(0o077)
    quieten(coordinator.folder / "flower")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    keep_up(coordinator, lambda: typer.echo(words))


def _detached(folder: Path) -> None:
    """Starts the same command in the background and waits until it answers."""
    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.deploy.supervisor import holder, is_up

    coordinator, path = read_coordinator(folder), folder / "coordinator.log"
    if pid := holder(coordinator):
        raise ConfigError(f"the coordinator in {folder} is up already, as process {pid}")
    command = [sys.executable, "-P", "-m", "medtl_core.cli.app", "coordinator", "up", str(coordinator.folder)]
    with path.open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    end = time.monotonic() + _PATIENCE
    while not (holder(coordinator) == child.pid and is_up(coordinator)):
        if child.poll() is not None or time.monotonic() > end:
            last = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise RunError(f"the coordinator did not come up; {path} ends: {' '.join(last)}")
        time.sleep(0.1)


def status(folder: Folder, as_json: console.AsJson = False) -> None:
    """Show every hospital by name, and every run with its true state."""
    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.deploy.overview import ago, lost
    from medtl_core.deploy.supervisor import see

    coordinator = read_coordinator(folder)
    view = see(coordinator)
    if as_json:
        typer.echo(view.as_json().decode())
        return
    state = f"up, at {view.address}; status page http://{coordinator.local}/" if view.up else "down"
    hospitals = console.table_of(
        "hospital", "state", "last contact", "run", "stage", "epsilon left", title=f"{view.federation}: {state}"
    )
    for row in view.hospitals:
        hospitals.add_row(row.name, row.state, ago(row.last), row.run, row.stage, row.epsilon)
    runs = console.table_of("run", "state", "hospitals", "stage", "failed to answer")
    for one in view.runs:
        runs.add_row(one.name, one.state, ", ".join(one.hospitals), one.why or one.stage, lost(one))
    console.show(hospitals, *([runs] if view.runs else []), markup=False)
    for row in view.hospitals:
        if row.left_out:
            console.show(f"{row.name} left cases out: {row.left_out}", markup=False)
    if view.advice:  # a command to be copied: in one line, however narrow the window
        typer.echo(view.advice)


def stop(folder: Folder) -> None:
    """End a coordinator that is up, with everything that it has started."""
    from medtl_core.deploy.coordinator import read_coordinator
    from medtl_core.deploy.supervisor import stop as end

    typer.echo("stopped" if end(read_coordinator(folder)) else "it was not up")


_group = console.group("A federation of hospitals: invite them, open the port, run, see how it stands.")
for _command in (init, up, invite, revoke, run, status, stop):
    _group.command()(_command)
COMMANDS = {"coordinator": _group}
