"""Coordinator, port and three hospitals as real processes, from the commands of docs/deploy.md to kills in mid-run."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from medtl_core.deploy.enrolment import EnrolmentError, enrol
from medtl_core.deploy.invitation import read_invitation
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.ledger_report import balance, ledgers
from tests.deployed import kill_node
from tests.harness.children import marked
from tests.harness.federation import Federation, node_key
from tests.house import ROOT
from tests.privacy.made import write_tables

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

NAMES = ("east", "north", "south")
#: Seconds for one run on a loaded machine.
PATIENCE = 300.0


def documented() -> list[list[str]]:
    """What docs/deploy.md lets a coordinator's people type, in order."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").partition("\n## The coordinator\n")[2]
    blocks = re.findall(r"```\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    return [line.split() for block in blocks for line in block.splitlines()]


def join(federation: Federation) -> None:
    """The hospitals' half: three folders by invitation, each other's keys, and their nodes."""
    sites = [federation.site(name) for name in NAMES]
    for name, site in zip(NAMES, sites, strict=True):
        site.parent.mkdir(exist_ok=True)
        own = ["--invitation", str(federation.folder / f"{name}.invitation.toml"), "--public-patients", "40"]
        done = federation.medtl("site", "init", str(site), *own, "--data", str(federation.folder / f"{name}.csv"))
        assert done.returncode == 0, done.stderr
    peers = "".join(f'{site.name} = "{public_identity(site)}"\n' for site in sites)
    for name, site in zip(NAMES, sites, strict=True):
        path = site / "hospital.toml"
        text = path.read_text(encoding="utf-8").replace("secure_sum = false", "secure_sum = true")
        path.write_text(text + peers, encoding="utf-8")
        federation.start_site(name)


def spent(federation: Federation) -> dict[str, tuple[float, int, int]]:
    books = map(balance, ledgers(federation.folder / "sites"))
    return {book.site: (book.spent, book.reserved, book.released) for book in books}


def heads(federation: Federation, run: str) -> dict[str, bytes]:
    folder = federation.home / "runs" / run
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("heads/*.safetensors"))}


def until(what: Callable[[], bool], federation: Federation, patience: float = PATIENCE) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end, federation.tails()
        time.sleep(0.05)


def answered(federation: Federation, run: str, phase: str) -> bool:
    """Whether a run has come past a phase."""
    path = federation.home / "runs" / run / "events.jsonl"
    return path.is_file() and re.search(rf'"kind": "exchange".*"phase": "[^"]*{phase}"', path.read_text()) is not None


def private(federation: Federation, name: str, *more: str) -> Sequence[str]:
    typed = next(line for line in documented() if "secure-sum=true" in line)
    settings = [word for word in typed if "=" in word and not word.startswith("test-path")]
    return [*settings, f"test-path={federation.folder / 'test.csv'}", "--name", name, *more]


def run(federation: Federation, *words: str, code: int = 0) -> str:
    done = federation.coordinator("run", *words, timeout=PATIENCE)
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}\n{federation.tails()}"
    return done.stdout + done.stderr


def started(federation: Federation, name: str, *more: str) -> "subprocess.Popen[bytes]":
    command = ["medtl", "coordinator", "run", str(federation.home), *private(federation, name, *more)]
    return federation.children.start(name, command, federation.children.environment("flwr"))


def test_from_bare_machines_to_a_private_run_that_survives_kills(tmp_path: Path) -> None:
    write_tables(tmp_path, *NAMES)
    with Federation(tmp_path) as federation:
        follow_the_page(federation)
        crash_and_repeat(federation)
        refuse(federation)
        lose_a_hospital(federation)
        stop_all(federation)


def follow_the_page(federation: Federation) -> None:
    """Every line of the coordinator's half, as it stands but for places, up to the end of the day."""
    places = {
        "/srv/federation": str(federation.home),
        "fl.example.org:8443": federation.address,
        "test-path=/srv/test.csv": f"test-path={federation.folder / 'test.csv'}",
    }
    typed = documented()
    verbs = [line[2] for line in typed if line[0] == "medtl"]
    assert verbs == ["init", "up", "invite", "invite", "invite", "status", "run", "run", "revoke", "stop"]
    for line in typed[: -len(("revoke", "stop"))]:
        if line[0] == "pip":  # the test of the wheel installs it
            continue
        if line[2] == "status":
            join(federation)
        done = federation.medtl(*(places.get(word, word) for word in line[1:]), timeout=PATIENCE)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}\n{federation.tails()}"
        if line[2] == "run":
            name = line[-1]
            assert all(f"join: {one} (" in done.stderr for one in NAMES)
            assert "3 answered in" in done.stderr
            for file in ("report.html", "metrics.json", "events.jsonl", "seed-0/result.json"):
                assert (federation.home / "runs" / name / file).stat().st_size, file
    states = {row["name"]: row["state"] for row in federation.status()["hospitals"]}
    assert states == dict.fromkeys(NAMES, "online")
    assert [(row["name"], row["state"]) for row in federation.status()["runs"]] == [
        ("private", "finished"),
        ("first", "finished"),
    ]
    assert {name: books[1:] for name, books in spent(federation).items()} == dict.fromkeys(NAMES, (1, 1))
    outside = federation.medtl("site", "check", str(federation.site("north")))
    assert "registration" in outside.stdout


def crash_and_repeat(federation: Federation) -> None:
    """The coordinator is killed in mid-run: a clear end; up again, the same run costs once, and then nothing."""
    going = started(federation, "crashed", "seed=1")
    until(lambda: answered(federation, "crashed", "keys"), federation)
    for pid in coordinator_processes(federation):
        os.kill(pid, signal.SIGKILL)
    assert going.wait(PATIENCE) == 1
    assert "the coordinator went down" in federation.children.log("crashed").read_text()
    federation.start_up()
    run(federation, *private(federation, "again", "seed=1"))
    once = spent(federation)
    assert {name: books[2] for name, books in once.items()} == dict.fromkeys(NAMES, 2)
    run(federation, *private(federation, "third", "seed=1"))
    assert spent(federation) == once
    assert heads(federation, "third") == heads(federation, "again") != heads(federation, "private")


def coordinator_processes(federation: Federation) -> list[int]:
    found = []
    for pid in marked(federation.children.home):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"medtl_core.deploy.port" in words or b"\0up\0" in words:
            found.append(pid)
    return found


def refuse(federation: Federation) -> None:
    """Used, unknown and revoked: each by its reason, while the federation is up."""
    used = read_invitation(federation.folder / "north.invitation.toml")
    with pytest.raises(EnrolmentError) as caught:
        enrol(used, node_key()[1], "0" * 64)
    assert caught.value.reason == "used-token"
    away = run(federation, *private(federation, "absent"), "--hospitals", "east,nobody", code=1)
    assert "nobody" in away
    assert not (federation.home / "runs" / "absent").exists()


def lose_a_hospital(federation: Federation) -> None:
    """One of three, the fewest, is killed in the middle of a sum: nothing is learnt, and within two minutes it ends."""
    going = started(federation, "lost", "seed=2")
    until(lambda: answered(federation, "lost", "keys"), federation)
    began = time.monotonic()
    kill_node(federation.children.home, federation.site("south"))
    assert going.wait(PATIENCE) == 1
    text = federation.children.log("lost").read_text()
    assert "the sum is given up and nothing was learnt" in text
    assert time.monotonic() - began < 120 + PATIENCE / 3  # two minutes, and a loaded machine
    states = {row["name"]: row["state"] for row in federation.status()["hospitals"]}
    assert states == {"east": "online", "north": "online", "south": "offline"}
    absent = run(federation, *private(federation, "few", "--wait", "1"), code=1)
    assert "south" in absent and "nothing was started" in absent


def stop_all(federation: Federation) -> None:
    """The page's last lines: one is shut out, and everything ends."""
    for verb, *more in ([line[2], *line[4:]] for line in documented()[-2:]):
        assert federation.coordinator(verb, *more).returncode == 0
    until(lambda: not coordinator_processes(federation), federation, 30.0)
    states = {row["name"]: row["state"] for row in federation.status()["hospitals"]}
    assert states == {"east": "enrolled", "north": "enrolled", "south": "revoked"}
    assert not federation.status()["up"]
