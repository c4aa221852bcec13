"""`medtl site check`, `status` and `stop`: what keeps a hospital from taking part; how it stands; its end."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from medtl_core.cli import console
from medtl_core.cli.data import data_faults
from medtl_core.cli.plan import name_data
from medtl_core.config import settings
from medtl_core.deploy import checks_folder, checks_machine, checks_rules, checks_server
from medtl_core.deploy.check import Check, CheckResult, Subject, findings
from medtl_core.deploy.checks_folder import read_subject
from medtl_core.deploy.status import SiteStatus
from medtl_core.errors import ConfigError
from medtl_core.flower.node.presence import FLOWER, last_process, running
from medtl_core.privacy.hospital import Hospital, read_hospital
from medtl_core.privacy.hospital_file import HOSPITAL

#: Seconds that a node has to end in order.
_PATIENCE = 60.0
_LOOPBACK = "127.0.0.1,localhost,::1"

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's own folder.")]
Page = Annotated[int, typer.Option("--status", metavar="PORT", help="Show how it stands at http://127.0.0.1:PORT.")]


def beside_loopback() -> None:
    """Lets no proxy stand between processes of this machine."""
    for variable in ("no_proxy", "NO_PROXY"):
        os.environ[variable] = ",".join(filter(None, [os.environ.get(variable), _LOOPBACK]))


def _data(subject: Subject) -> list[CheckResult]:
    """What `medtl data check` would say, and whether there are cases to judge on."""
    if subject.hospital is None:
        return []
    place = subject.hospital.data
    if not Path(place).exists():
        return [
            CheckResult(
                f"the data {place} do not exist", f"mount them, or correct `data` in {subject.folder / HOSPITAL}"
            )
        ]
    source, faults = data_faults(settings(name_data(place)))
    found = [CheckResult.of(fault, "see docs/data.md", "fault") for fault in faults]
    if source is not None and any(note.startswith("No test split") for note in source.notes):
        found.append(
            CheckResult("no case is marked as test: a run with test=sites leaves this hospital out", "", "note")
        )
    return found


CHECKS = (
    *checks_folder.CHECKS,
    *checks_rules.CHECKS,
    Check("data", _data, seconds=50.0),
    *checks_server.CHECKS,
    *checks_machine.CHECKS,
)


def check(folder: Folder, status: Page = 0) -> None:
    """Name everything that would keep the hospital from taking part, each with its cause and its cure, within a minute.

    Ready means: registered with the coordinator, configured, and able to pay for a private run. Exit code 1 otherwise.
    """
    beside_loopback()
    subject = read_subject(folder, status)
    found = findings(subject, CHECKS)
    faults = [(name, one) for name, several in found.items() for one in several if one.kind != "note"]
    notes = [one for several in found.values() for one in several if one.kind == "note"]
    skipped = [one.name for one in CHECKS if one.name not in found]
    lines = [f"well: {', '.join(name for name in found if name not in dict(faults))}"]
    lines += [f"not looked at, as {folder} does not say enough: {', '.join(skipped)}"] * bool(skipped)
    lines += [f"note: {one}" for one in notes]
    lines += [f"fault: {name}: {one.cause}\n  cure: {one.cure}" for name, one in faults]
    lines.append(f"{len(faults)} fault(s)" if faults else f"ready: start it with medtl site run {folder}")
    console.show(*lines)
    if faults:
        raise typer.Exit(1)


def refuse_fatal(folder: Path, page: int = 0) -> Hospital:
    """Returns the hospital of a folder, unless it has a fault with which none starts.

    Raises:
        ConfigError: it has; each was said on standard error, in the words of `check`.
    """
    subject = read_subject(folder, page)
    found = findings(subject, [one for one in CHECKS if one.quick], limited=False)
    fatal = [one for several in found.values() for one in several if one.kind == "fatal"]
    for one in fatal:
        typer.echo(f"fault: {one}", err=True)
    if fatal or subject.hospital is None:
        raise ConfigError(f"the hospital in {folder} does not start with {len(fatal)} fault(s), named above")
    return subject.hospital


def status(folder: Folder, as_json: console.AsJson = False) -> None:
    """Show how the hospital stands: last contact, run and stage, cases left out, epsilon; exit code 1 if cut off."""
    standing = SiteStatus.of(folder)
    if as_json:
        console.show_json({**standing.lines(), "connected": standing.connected})
    else:
        width = max(map(len, standing.lines()))
        console.show(*(f"{name:{width}}  {text}" for name, text in standing.lines().items()))
    if not standing.connected:
        raise typer.Exit(1)


def stop(
    folder: Folder,
    patience: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for its end.")] = _PATIENCE,
) -> None:
    """End the hospital's node in order; what it has at work is broken off."""
    home = read_hospital(folder).folder / FLOWER
    pid = running(home)
    if not pid:
        left = last_process(home)
        console.show("it does not run" + (f"; process {left} ended without a word" if left else ""))
        return
    try:
        os.kill(pid, signal.SIGTERM)
    except (ProcessLookupError, PermissionError) as error:
        raise ConfigError(f"process {pid} cannot be ended ({error.strerror}); are you who started it?") from error
    end = time.monotonic() + patience
    while running(home):
        if time.monotonic() > end:
            raise ConfigError(f"process {pid} did not end within {patience:g} s; look at its log")
        time.sleep(0.1)
    console.show(f"ended: process {pid}")
