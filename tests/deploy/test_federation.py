"""Coordinator, port and three hospitals as real processes, from `pip install` of the wheel to kills in mid-run.

The commands are those of docs/deploy.md; what they run is the built wheel, in an environment without the checkout.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from medtl_core.deploy.enrolment import EnrolmentError, ask_standing, enrol, pinned
from medtl_core.deploy.invitation import Invitation, fingerprint_of, read_invitation
from medtl_core.deploy.roster import read_roster
from medtl_core.flower.processes.children import PYTHON, marked
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.ledger_report import balance, ledgers
from tests.deploy.coordinated import signed
from tests.deploy.tls_made import made
from tests.deployed import kill_node
from tests.harness.federation import Federation, node_key
from tests.harness.installed import ROOT, Installed
from tests.privacy.made import write_tables

pytestmark = [pytest.mark.deployed, pytest.mark.timeout(900), pytest.mark.usefixtures("clean_environment")]

NAMES = ("east", "north", "south")
#: Seconds for one run on a loaded machine.
PATIENCE = 300.0
#: Seconds that a hospital which is killed may cost the others: two minutes.
LOST = 120.0


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


def test_from_bare_machines_to_a_private_run_that_survives_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(tmp_path, *NAMES)
    (tmp_path / "wheel").mkdir()
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv(PYTHON, str(Installed(tmp_path / "wheel").python))
    with Federation(tmp_path) as federation:
        follow_the_page(federation)
        assert refused(federation) == REFUSED
        crash_and_repeat(federation)
        go_on_without_a_hospital(federation)
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
        if line[0] == "pip":  # that was the first thing done
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
    """All of the coordinator is killed once hospitals have paid; up again, it says what was lost: it costs no more."""
    going = started(federation, "crashed", "seed=1")
    until(lambda: answered(federation, "crashed", "masked") or going.poll() is not None, federation)
    for pid in [*coordinator_processes(federation), going.pid]:
        os.kill(pid, signal.SIGKILL)
    going.wait()
    paid = spent(federation)
    assert {name: books[1:] for name, books in paid.items()} == dict.fromkeys(NAMES, (2, 2))
    invitations = (federation.home / "hospitals.json").read_bytes()
    done = federation.coordinator("up", "--detach")
    assert done.returncode == 0, done.stderr
    (again,) = re.findall(r"crashed broken off in .*: medtl (coordinator run .*)", done.stdout)
    assert again in federation.coordinator("status").stdout
    assert (federation.home / "hospitals.json").read_bytes() == invitations
    done = federation.medtl(*shlex.split(again), "--name", "again", timeout=PATIENCE)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{federation.tails()}"
    assert spent(federation) == paid
    assert "" not in {row["epsilon"] for row in federation.status()["hospitals"] if row["name"] in NAMES}
    assert heads(federation, "again") != heads(federation, "private")


def coordinator_processes(federation: Federation) -> list[int]:
    found = []
    for pid in marked(federation.children.home):
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"medtl_core.deploy.port" in words or b"\0up\0" in words:
            found.append(pid)
    return found


#: What must not pass at the open port, by the word that is answered.
REFUSED = (
    "untrusted", "other-name", "used-token", "unknown-token", "unregistered", "revoked", "replayed", "closed",
)  # fmt: skip


def refused(federation: Federation) -> tuple[str, ...]:
    """Tries eight times what must not pass: a wrong root, a stranger's key, a control call from outside."""
    used, address = read_invitation(federation.folder / "north.invitation.toml"), federation.address
    guest, (private, public), (_, other) = federation.invite("guest"), node_key(), node_key()
    north, root = read_roster(federation.home).member("north").key, made("another root").pem

    def word(invitation: Invitation) -> str:
        with pytest.raises(EnrolmentError) as caught:
            enrol(invitation, other, "0" * 64)
        return caught.value.reason

    misnamed = word(replace(guest, hospital="another"))
    enrol(guest, public, "1" * 64)
    assert federation.coordinator("revoke", "guest").returncode == 0

    def asked(path: str, key: str, signature: str) -> str:
        with httpx.Client(verify=pinned(used.ca), trust_env=False) as client:
            answer = client.post(f"https://{address}{path}", headers=signed(key, signature))
        assert answer.status_code >= 400
        return str(answer.json().get("reason"))

    with pytest.raises(EnrolmentError) as shut:
        ask_standing(address, guest.ca, "guest", private.encode())
    asked("/v1/fleet/pull-messages", north, "b25jZQ==")
    return (
        word(replace(used, ca=root, sha256=fingerprint_of(root))),
        misnamed,
        word(used),
        word(replace(used, token="A" * 43)),
        asked("/v1/fleet/pull-messages", other, "c3RyYW5nZXI="),
        shut.value.reason,
        asked("/v1/fleet/pull-messages", north, "b25jZQ=="),
        asked("/v1/control/start-run", north, "Y29udHJvbA=="),
    )


def go_on_without_a_hospital(federation: Federation) -> None:
    """One of three is killed in a plain run that may do without it: the others lose two minutes at most."""
    words = ["backbone=table", "methods=fedavg-3", "bootstrap=20", "quorum=0.6"]
    place = [f"test-path={federation.folder / 'test.csv'}", "--name", "fewer"]
    command = ["medtl", "coordinator", "run", str(federation.home), *words, *place]
    going = federation.children.start("fewer", command, federation.children.environment("flwr"))
    until(lambda: answered(federation, "fewer", "moments") or going.poll() is not None, federation)
    began = time.monotonic()
    kill_node(federation.children.home, federation.site("south"))
    assert going.wait(PATIENCE) == 0
    assert time.monotonic() - began < LOST
    assert "finished without south" in federation.children.log("fewer").read_text()
    away = run(federation, *private(federation, "absent"), "--hospitals", "east,nobody", code=1)
    assert "nobody" in away
    assert not (federation.home / "runs" / "absent").exists()
    federation.start_site("south")


def lose_a_hospital(federation: Federation) -> None:
    """One of three, the fewest, is killed in the middle of a sum: nothing is learnt, and within two minutes it ends."""
    going = started(federation, "lost", "seed=2", "--wait", "120")
    until(lambda: answered(federation, "lost", "keys") or going.poll() is not None, federation)
    began = time.monotonic()
    kill_node(federation.children.home, federation.site("south"))
    assert going.wait(PATIENCE) == 1
    text = federation.children.log("lost").read_text()
    assert "the sum is given up and nothing was learnt" in text
    assert time.monotonic() - began < LOST
    states = {row["name"]: row["state"] for row in federation.status()["hospitals"] if row["name"] in NAMES}
    assert states == {"east": "online", "north": "online", "south": "offline"}
    absent = run(federation, *private(federation, "few", "--wait", "1"), code=1)
    assert "south" in absent and "nothing was started" in absent


def stop_all(federation: Federation) -> None:
    """The page's last lines: one is shut out, and everything ends."""
    for verb, *more in ([line[2], *line[4:]] for line in documented()[-2:]):
        assert federation.coordinator(verb, *more).returncode == 0
    until(lambda: not coordinator_processes(federation), federation, 30.0)
    states = {row["name"]: row["state"] for row in federation.status()["hospitals"]}
    assert states == {"east": "enrolled", "guest": "revoked", "north": "enrolled", "south": "revoked"}
    assert not federation.status()["up"]
