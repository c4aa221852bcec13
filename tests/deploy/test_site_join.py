"""From an invitation to a hospital that runs, sees how it stands, and ends: the three commands, and status and stop."""

import json
import logging
import os
import re
import stat
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_private_key

from client.site import Node, open_site
from medtl_core.config import Settings
from medtl_core.data.faults import Fault
from medtl_core.deploy import status
from medtl_core.deploy.enrolment import EnrolmentError
from medtl_core.deploy.membership import Membership
from medtl_core.deploy.page import page_server
from medtl_core.deploy.told import Told, tell, told_by
from medtl_core.errors import ConfigError
from medtl_core.flower.node import presence
from medtl_core.flower.node.presence import CONTACT, MESSAGE, LeftOut, alone, note, noted, running
from medtl_core.flower.processes.children import Children, free_ports
from medtl_core.privacy.hospital import read_hospital
from medtl_core.privacy.identity import public_identity
from medtl_core.privacy.ledger_report import raise_budget
from tests.deploy.joined import Joined, hospital, medtl
from tests.deploy.tls_made import DAY, granted
from tests.house import ROOT


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Joined]:
    with hospital(tmp_path, joined=False) as invited:
        yield invited


def test_an_invitation_makes_a_folder_that_is_enrolled_and_its_private_key_stays_in_it(site: Joined) -> None:
    code, said = site.init()
    assert code == 0 and "enrolled with made" in said
    north = read_hospital(site.own)
    assert (north.name, north.server.address, north.server.insecure) == ("north", site.port.address, False)
    private = load_ssh_private_key((site.own / "node.key").read_bytes(), None)
    asked = json.loads(site.port.asked["/enrol"][0])
    assert load_pem_public_key(asked["key"].encode()) == private.public_key()
    assert private.curve.name == "secp384r1"
    assert (asked["hospital"], asked["identity"]) == ("north", public_identity(site.own))
    assert site.root.pem in (site.own / "ca.pem").read_text()
    print_of = re.sub(r"[^0-9a-f]", "", said.rsplit("telephone: ")[1].split()[0])
    assert len(print_of) == 64
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [site.own, *site.own.rglob("*")]}
    assert all(mode == (0o700 if path.is_dir() else 0o600) for path, mode in modes.items())


def test_a_coordinator_that_is_not_up_yet_costs_nothing(site: Joined) -> None:
    up, site.port.address = site.port.address, "127.0.0.1:9"
    code, said = site.init()
    assert code == 0 and "not enrolled yet" in said
    assert "not enrolled yet: the coordinator cannot be reached" in site.check()[1]
    north = read_hospital(site.own)
    site.lead_to(up)
    site.said("127.0.0.1:9", up, "own/invitation.toml")
    assert site.check()[0] == 0
    assert Membership.of(read_hospital(site.own)).enrolled
    assert north.server.key == str(site.own / "node.key")


def test_a_node_waits_for_its_coordinator_and_not_for_one_that_refuses(site: Joined) -> None:
    up, site.port.address = site.port.address, "127.0.0.1:9"
    site.init()
    north, waits = Membership.of(read_hospital(site.own)), []

    def comes_up(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            object.__setattr__(north.invitation, "address", up)

    north.wait(comes_up)
    assert waits == [15.0, 15.0] and north.enrolled
    site.port.answers["/enrol"] = (403, {"reason": "unknown-token", "message": ""})
    (site.own / "enrolled.json").unlink()
    with pytest.raises(EnrolmentError, match="newest"):
        north.wait(lambda seconds: pytest.fail("it waits"))


@pytest.mark.parametrize("reason", ["unknown-token", "used-token", "expired", "revoked", "other-name", "known-key"])
def test_a_refusal_is_an_error_and_the_folder_waits_for_a_new_invitation(site: Joined, reason: str) -> None:
    site.port.answers["/enrol"] = (403, {"reason": reason, "message": ""})
    code, said = site.init()
    assert code == 1 and ("ask" in said.lower() or "use the one" in said or "keys of its own" in said)
    before = (site.own / "node.key").read_bytes()
    site.port.answers.update(granted())
    code, said = medtl("site", "init", site.own, "--invitation", site.invitation())
    assert code == 0 and "enrolled with made" in said
    assert (site.own / "node.key").read_bytes() == before
    assert medtl("site", "init", site.own, "--invitation", site.invitation(hospital="south"))[0] == 1
    site.port.address = "127.0.0.1:1"
    code, said = medtl("site", "init", site.own, "--invitation", site.invitation())
    assert code == 1 and 'address = "127.0.0.1:1"' in said
    assert site.init()[0] == 1  # nothing is written over


@pytest.mark.parametrize("left", [[], ["node.key"], ["node.key", "ca.pem"]])
def test_an_init_that_was_killed_is_taken_up_again(site: Joined, left: list[str]) -> None:
    site.init()
    for name in {"node.key", "ca.pem", "invitation.toml", "enrolled.json"} - {*left}:
        (site.own / name).unlink()
    if "ca.pem" not in left:
        code, said = site.check()
        assert code == 1 and "medtl site init DIR --invitation FILE" in said
    assert medtl("site", "init", site.own, "--invitation", site.invitation())[0] == 0
    assert site.check()[0] == 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: "hello", "is no invitation, or was damaged"),
        (lambda text: text.replace("version = 1", "version = 7"), "another version"),
        (lambda text: text.replace("token = ", "tokne = "), "lacks 'token'"),
        (lambda text: re.sub(r'sha256 = "..', 'sha256 = "zz', text), "not the one its sha256 names"),
        (lambda text: re.sub(r'token = ".*"', 'token = "short"', text), "token is not one"),
    ],
    ids=["no TOML", "version", "a word", "another root", "token"],
)
def test_a_damaged_invitation_makes_nothing(site: Joined, spoil, words: str) -> None:
    path = site.invitation()
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    code, said = medtl("site", "init", site.own, "--invitation", path, "--data", site.base / "north.csv")
    assert code == 1 and words in said
    assert not site.own.exists()


def test_what_contradicts_an_invitation_makes_nothing(site: Joined) -> None:
    expired = medtl("site", "init", site.own, "--invitation", site.invitation(-DAY), "--data", site.base / "north.csv")
    assert expired[0] == 1 and "expired" in expired[1]
    for more in (("--name", "south"), ("--server", "127.0.0.1:1"), ("--insecure",)):
        code, said = site.init(*more)
        assert code == 1 and "leave these options out" in said
    assert medtl("site", "init", site.own, "--invitation", site.invitation())[1].endswith("--data PATH")
    gone = medtl("site", "init", site.own, "--invitation", site.invitation(), "--data", site.base / "typo")
    assert gone[0] == 1 and "do not exist" in gone[1]
    assert not site.own.exists()


@pytest.mark.parametrize("command", ["check", "run", "status", "stop", "identity"])
def test_a_mistyped_folder_makes_nothing(tmp_path: Path, command: str) -> None:
    code, said = medtl("site", command, tmp_path / "typo" / "x")
    assert code == 1 and "site init" in said
    assert not (tmp_path / "typo").exists()


def test_run_refuses_in_the_words_of_check(site: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    site.init()
    monkeypatch.setattr("medtl_core.cli.site_run.installed_app", lambda: pytest.fail("it starts"))
    site.said("max_releases", "max_releasse")
    (site.own / "identity.key").chmod(0o604)
    (site.own / "node.key").unlink()
    run, check = medtl("site", "run", site.own), site.check()
    assert run[0] == check[0] == 1 and "3 fault(s)" in run[1]
    told = [line.removeprefix("fault: ") for line in run[1].splitlines() if line.startswith("fault: ")]
    assert len(told) == 3
    assert all(line.partition("; ")[0] in check[1] for line in told)


@pytest.mark.parametrize("name", ["St. Mary's", "A&E", "Krankenhaus Süd", "अस्पताल", "O'Brien <b>"])
def test_hospitals_are_called_what_they_are_called(site: Joined, name: str) -> None:
    data, words = site.base / "north.csv", ("--invitation", site.invitation(hospital=name))
    code, said = medtl("site", "init", site.own, *words, "--data", data)
    assert code == 0, said
    assert json.loads(site.port.asked["/enrol"][0])["hospital"] == name == read_hospital(site.own).name
    assert "<b>" not in status.page(site.own)
    assert site.check()[0] == 0


def test_status_says_what_the_node_has_noted_and_nothing_of_a_patient(site: Joined) -> None:
    site.init()
    home = site.own / "flower"
    home.mkdir()
    note(home, CONTACT, last=time.time(), fault="")
    note(home, MESSAGE, run="17", stage="private_statistics", ended=False, left_out=["a cause (2 cases); a cure"])
    code, said = medtl("site", "status", site.own)
    assert code == 1 and "does not run" in said and "broken off after" in said
    with alone(home):
        code, said = medtl("site", "status", site.own)
        assert code == 0
        assert f"process {os.getpid()}, connected" in said and "at work since" in said
        assert "a cause (2 cases)" in said and "0 of 4 spent at delta 1e-05; 4 left" in said
        with pytest.raises(ConfigError, match="takes part already"), alone(home):
            pass
        note(home, CONTACT, last=time.time() - 100, fault="Connection refused")
        said = json.loads(medtl("site", "status", site.own, "--json")[1].rpartition("}")[0] + "}")
        assert not said["connected"] and "Connection refused" in said["last contact"]
    assert running(home) == 0
    assert "ended without a word" not in medtl("site", "stop", site.own)[1]
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.glob("*.json")} == {0o600}


def test_a_hospital_tells_of_cases_only_where_no_privacy_is_claimed(site: Joined) -> None:
    site.init()
    home, causes = site.own / "flower", ["a cause (2 cases); a cure"]
    home.mkdir()
    note(home, MESSAGE, run="17", stage="moments", privacy="none", ended=True, left_out=causes)
    assert told_by(site.own) == Told(4.0, 4.0, causes[0])
    note(home, MESSAGE, run="18", stage="private_statistics", privacy="mean", ended=True, left_out=causes)
    assert told_by(site.own) == Told(4.0, 4.0)
    note(home, MESSAGE, run="17", stage="moments", privacy="none", ended=True, left_out=causes)
    site.said("require_private = false", "require_private = true")
    assert told_by(site.own) == Told(4.0, 4.0)
    membership = Membership.of(read_hospital(site.own))
    membership.enrol()
    for _ in range(2):  # what has not changed is not told again
        tell(membership)
    assert len(site.port.asked["/standing"]) == 1


def test_what_was_left_out_is_told_by_cause_and_count(site: Joined) -> None:
    seen, log = LeftOut(), logging.getLogger("medtl")
    site.said("\n0,patient-1002,north,train,", "\n0,patient-1002,north,train,x", "north.csv")
    log.addHandler(seen)
    for private in ("none", "mean"):
        open_site(Settings(data="", backbone="table", privacy=private), Node("north", str(site.base / "north.csv"), -1))
        assert any("row 4" in cause for cause in seen.causes)
        seen.causes.clear()
    log.removeHandler(seen)
    seen.emit(logging.makeLogRecord({"fault": Fault("unreadable", "mend it", ("Meyer.png", "row 7"))}))
    seen.emit(logging.makeLogRecord({"msg": "else"}))
    assert list(seen.causes) == ["unreadable (2 cases); mend it"]


def test_the_servers_answers_are_noted_from_the_log(tmp_path: Path) -> None:
    contact = presence.Contact(tmp_path)
    answer = {"name": "httpx", "levelno": 20, "args": ("POST", "https://x", "HTTP/1.1", 200, "OK")}
    contact.emit(logging.makeLogRecord(answer))
    first = noted(tmp_path, CONTACT)
    assert first["fault"] == "" and time.time() - first["last"] < 5
    contact.emit(logging.makeLogRecord({"name": "flwr", "levelno": 30, "msg": "Connection attempt\nfailed"}))
    assert noted(tmp_path, CONTACT) == {
        **noted(tmp_path, CONTACT),
        "last": first["last"],
        "fault": "Connection attempt failed",
    }
    contact.emit(logging.makeLogRecord({**answer, "args": ("POST", "https://x", "HTTP/1.1", 401, "No")}))
    assert "401" in noted(tmp_path, CONTACT)["fault"]


def test_the_page_is_for_this_machine_alone(site: Joined) -> None:
    site.init()
    raise_budget(read_hospital(site.own).ledger, 5.0, "the <board> agreed")
    with page_server(site.own, 0) as server:
        port = server.socket.getsockname()[1]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

        def get(path: str = "/", **headers: str) -> tuple[int, str]:
            asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            try:
                with opener.open(asked) as answer:
                    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, ""

        status, text = get()
        assert status == 200 and "north" in text and 'http-equiv="refresh"' in text
        assert "the &lt;board&gt; agreed" in text
        assert "<script" not in text and str(site.own) not in text
        assert get("/hospital.toml")[0] == 404
        assert get(Host="evil.example")[0] == 403
        server.shutdown()


def commands() -> list[list[str]]:
    """What docs/deploy.md lets a hospital's people type, in order."""
    text = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").partition("\n## The hospital\n")[2]
    blocks = re.findall(r"```(\w*)\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    return [line.split() for kind, block in blocks if not kind for line in block.splitlines()]


@pytest.mark.deployed
@pytest.mark.timeout(240)
def test_a_hospitals_commands_in_the_documents_run_as_they_stand(tmp_path: Path) -> None:
    with hospital(tmp_path, joined=False) as site, Children(tmp_path / "home") as children:
        site.invited().write(children.home / "north.invitation.toml")
        site.invited().write(children.home / "north-2.invitation.toml")
        env, (page,) = children.environment("flower"), free_ports(1)
        places = {"/srv/hospital": str(site.own), "/srv/cases": str(tmp_path / "north.csv"), "8600": str(page)}
        ended = {}
        for number, typed in enumerate(commands()):
            if typed[0] == "pip":  # the test of the wheel installs it
                continue
            process = children.start(f"{number}", [places.get(word, word) for word in typed], env)
            if typed[:3] != ["medtl", "site", "run"]:
                ended[" ".join(typed[2:])] = process.wait(60)
            elif not process.poll():
                running_ = process
                while not running(site.own / "flower"):
                    time.sleep(0.1)
        assert [command.split()[0] for command in ended] == ["init", "check", "init", "status", "stop"]
        assert {command: code for command, code in ended.items() if code and "status" not in command} == {}
        assert ended["status /srv/hospital"] == 1  # what answers here is no SuperLink
        assert running_.wait(10) == 0


@pytest.mark.deployed
@pytest.mark.timeout(120)
def test_a_node_starts_once_and_ends_in_order_and_after_a_kill_starts_again(tmp_path: Path) -> None:
    with hospital(tmp_path) as site, Children(tmp_path / "home") as children:
        env = children.environment("flower")
        (port,) = free_ports(1)

        def start(name: str) -> subprocess.Popen[bytes]:
            return children.start(name, ["medtl", "site", "run", str(site.own), "--status", str(port)], env)

        def until(what) -> None:
            end = time.monotonic() + 60
            while not what():
                assert time.monotonic() < end, children.tails()
                time.sleep(0.1)

        home = site.own / "flower"
        first = start("first")
        until(lambda: running(home) and (home / "node.json").exists())
        assert start("second").wait(60) == 1
        assert re.search("is taken|takes part already", children.log("second").read_text())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b"connected" in opener.open(f"http://127.0.0.1:{port}/").read()
        assert medtl("site", "stop", site.own) == (0, f"ended: process {first.pid}\n")
        assert first.wait(10) == 0
        again = start("again")
        until(lambda: running(home) == again.pid and (home / "node.json").exists())
        again.kill()
        again.wait()
        until(lambda: not running(home))
        assert f"process {again.pid} ended without a word" in medtl("site", "status", site.own)[1]
        third = start("third")
        until(lambda: running(home) == third.pid)
        third.terminate()
        assert third.wait(30) == 0
