"""`medtl coordinator`: folders, invitations, and everything it refuses, one typed error each."""

import fcntl
import json
import os
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from medtl_core.cli.app import app as command_line
from medtl_core.deploy.certificate import Pair, check_server, new_authority, new_server
from medtl_core.deploy.coordinator import initialise_coordinator, read_coordinator
from medtl_core.deploy.enrolment import enrol
from medtl_core.deploy.federated_run import await_hospitals, bind_names
from medtl_core.deploy.invitation import Invitation, fingerprint_of, invite, read_invitation
from medtl_core.deploy.overview import STARTED, Contacts, overview, page
from medtl_core.deploy.supervisor import holder, keep_up, stop
from medtl_core.errors import ConfigError, MedtlError, RunError
from medtl_core.flower.processes.children import free_ports
from tests.deploy.coordinated import coordinated, identity, new_key
from tests.deploy.tls_made import made

ADDRESS = "fl.example.org:8443"


def medtl(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(command_line, ["coordinator", *map(str, words)])
    return done.exit_code, done.output + (str(done.exception) if isinstance(done.exception, MedtlError) else "")


def made_folder(folder: Path, address: str = ADDRESS) -> Path:
    initialise_coordinator(folder, "trial", address, None)
    return folder


def test_init_makes_keys_for_the_owner_alone_and_writes_over_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    code, words = medtl("init", folder, "--name", "Versuch Süd", "--address", ADDRESS)
    assert (code, "fl.example.org:8443" in words) == (0, True)
    for secret in ("ca.key", "server.key", "secret", "hospitals.json", "coordinator.toml"):
        assert (folder / secret).stat().st_mode & 0o077 == 0, secret
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    code, words = medtl("init", folder, "--name", "again", "--address", ADDRESS)
    assert (code, "not written over" in words) == (1, True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    certificate = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["fl.example.org"]
    for bad in ("nowhere", "http://fl.example.org:1", "fl.example.org:0", "fl.example.org:99999", "a b:1"):
        assert medtl("init", tmp_path / "d", "--name", "x", "--address", bad)[0] == 1
    assert not (tmp_path / "d").exists()


def test_a_certificate_that_was_brought_must_fit(tmp_path: Path) -> None:
    authority = new_authority("theirs")
    good, other = new_server(authority, "fl.example.org"), new_server(authority, "elsewhere.org")
    assert check_server(good, authority.certificate, "fl.example.org") > datetime.now(UTC) + timedelta(days=300)
    bad = {
        "does not name": (other, authority),
        "does not belong": (Pair(good.certificate, other.key), authority),
        "not made by": (good, new_authority("another")),
        "PEM": (Pair(b"x", b"y"), authority),
    }
    for number, (words, (pair, root)) in enumerate(bad.items()):
        with pytest.raises(ConfigError, match=words):
            check_server(pair, root.certificate, "fl.example.org")
        files = [tmp_path / f"{number}.{end}" for end in ("crt", "key", "ca")]
        for path, content in zip(files, (pair.certificate, pair.key, root.certificate), strict=True):
            path.write_bytes(content)
        options = [
            word for name, path in zip(("certificate", "key", "ca"), files, strict=True) for word in (f"--{name}", path)
        ]
        assert medtl("init", tmp_path / "c", "--name", "x", "--address", ADDRESS, *options)[0] == 1
        assert medtl("init", tmp_path / "c", "--name", "x", "--address", ADDRESS, *options[:2])[0] == 1
    assert not (tmp_path / "c").exists()


def test_a_certificate_of_its_own_is_renewed_in_time(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "c")
    (folder / "server.crt").write_bytes(new_server(new_authority("old"), "fl.example.org").certificate)
    coordinator = read_coordinator(folder)
    pair, until = coordinator.certified()
    assert until > datetime.now(UTC) + timedelta(days=300)
    assert check_server(pair, (folder / "ca.crt").read_bytes(), "fl.example.org") == until


def test_invitations(tmp_path: Path) -> None:
    folder = made_folder(tmp_path / "c")
    for number, name in enumerate(("St. Mary's", "A&E", "Krankenhaus Süd", "दिल्ली अस्पताल")):
        path = tmp_path / f"{number}.toml"
        assert medtl("invite", folder, name, "--out", path)[0] == 0
        invitation = read_invitation(path)
        assert (invitation.hospital, invitation.address, invitation.federation) == (name, ADDRESS, "trial")
        assert invitation.sha256 == fingerprint_of((folder / "ca.crt").read_text(encoding="utf-8"))
        assert timedelta(days=29) < invitation.expires - datetime.now(UTC) <= timedelta(days=30)
        assert path.stat().st_mode & 0o077 == 0
        assert medtl("invite", folder, name, "--out", path)[0] == 1
        assert read_invitation(path) == invitation
    for words in (("a/b",), ("",), ("x", "--days", "0"), ("x", "--days", "9999")):
        assert medtl("invite", folder, *words, "--out", tmp_path / "none.toml")[0] == 1
    assert medtl("revoke", folder, "St. Marys")[0] == 1
    assert medtl("revoke", folder, "St. Mary's")[0] == 0
    assert "revoked" in medtl("status", folder)[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version = 1", "version = 2"),
        ('sha256 = "', 'sha256 = "0'),
        ("[invitation]", "[other]"),
        ("hospital =", "hospitals ="),
        ('token = "', 'token = "!'),
        ("expires = 2", 'expires = "2" # '),
        (":8443", ""),
        ("BEGIN", "GIN"),
    ],
)
def test_a_damaged_invitation_is_told(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "i.toml"
    root = made("root").pem
    text = invite("f", ADDRESS, "north", datetime.now(UTC) + timedelta(days=1), root).text()
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigError):
        read_invitation(path)


def test_an_expiry_without_a_zone_and_a_file_that_is_gone_are_told(tmp_path: Path) -> None:
    root = made("root").pem
    with pytest.raises(ConfigError, match="zone"):
        Invitation("f", ADDRESS, "north", "A" * 43, datetime(2030, 1, 1), root, fingerprint_of(root))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_invitation(tmp_path / "none.toml")


def test_a_folder_that_is_not_whole_or_open_to_others_is_refused(tmp_path: Path) -> None:
    assert medtl("up", tmp_path)[0] == 1
    folder = made_folder(tmp_path / "c")
    (folder / "server.key").chmod(0o644)
    assert "chmod 600" in medtl("status", folder)[1]
    (folder / "server.key").chmod(0o600)
    (folder / "hospitals.json").rename(folder / "elsewhere")
    assert "gone" in medtl("status", folder)[1]
    (folder / "elsewhere").rename(folder / "hospitals.json")
    (folder / "hospitals.json").write_text("{}", encoding="utf-8")
    assert medtl("status", folder)[0] == 1


def test_a_port_that_is_taken_and_a_second_coordinator_are_named(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    coordinator = read_coordinator(made_folder(tmp_path / "c", f"127.0.0.1:{port}"))
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ConfigError, match=f"port {port}"):
        keep_up(coordinator, lambda: None)
    assert not stop(coordinator)
    (coordinator.folder / "coordinator.lock").write_text("999999", encoding="utf-8")  # stale: nobody holds it
    assert holder(coordinator) is None
    with (coordinator.folder / "coordinator.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert holder(coordinator) == 999999
        with pytest.raises(ConfigError, match="999999"):
            keep_up(coordinator, lambda: None)


def test_a_run_names_whom_it_waits_for_and_starts_on_no_subset(tmp_path: Path) -> None:
    with coordinated(tmp_path) as port:
        coordinator = port.coordinator
        with pytest.raises(RunError, match="no hospital has enrolled"):
            await_hospitals(coordinator, (), 0.0, lambda text: None)
        port.joined("north")
        port.joined("south")
        with pytest.raises(ConfigError, match="did you mean 'north'"):
            await_hospitals(coordinator, ("nort",), 0.0, lambda text: None)
        bind_names(coordinator)
        bound = json.loads((coordinator.state / "peers.json").read_text(encoding="utf-8"))
        assert bound == {name: identity(name) for name in ("north", "south")}
    folder = tmp_path / "coordinator"
    code, words = medtl("run", folder, "--wait", "0", "--set", "backbone=table", f"test-path={tmp_path}")
    assert (code, "medtl coordinator up" in words) == (1, True)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "word", ["sites=3", "out=/x", "state=/x", "data-path=/x", "nonsense=1", "epsilon=2", "seeds=3", "test=server"]
)
def test_settings_that_are_no_persons_to_set_are_refused(tmp_path: Path, word: str) -> None:
    folder = made_folder(tmp_path / "c")
    assert medtl("run", folder, "--set", word)[0] == 1


def test_the_overview_tells_each_state_truly(tmp_path: Path) -> None:
    coordinator = read_coordinator(made_folder(tmp_path / "c"))
    for name, pid, file, text in (
        ("a", os.getpid(), "", ""), ("b", 2**22 + 1, "", ""), ("c", 2**22 + 1, "FAILED", "RunError: no quorum"),
        ("d", 2**22 + 1, "metrics.json", "{}"),
    ):  # fmt: skip
        folder = coordinator.runs / name
        folder.mkdir(parents=True)
        started = {"hospitals": ["north"], "pid": pid, "run": "1", "again": f"run {name} again"}
        (folder / STARTED).write_text(json.dumps(started), encoding="utf-8")
        events = [
            {"kind": "phase", "phase": "moments"},
            {"kind": "failure", "site": "north", "phase": "moments", "text": "x"},
        ]
        lines = "\n".join(map(json.dumps, events)) + '\n{"kind": "ph'
        (folder / "events.jsonl").write_text(lines, encoding="utf-8")
        if file:
            (folder / file).write_text(text, encoding="utf-8")
    coordinator.invite("north", 30.0)
    coordinator.invite("late", 1e-9)
    view = overview(coordinator, Contacts())
    assert {run.name: run.state for run in view.runs} == {
        "a": "running",
        "b": "broken off",
        "c": "failed",
        "d": "finished",
    }
    rows = {row.name: (row.state, row.run, row.stage) for row in view.hospitals}
    assert rows == {"late": ("invitation expired", "", ""), "north": ("invited", "a", "dropped out: moments")}
    assert "no quorum" in page(view) or "moments" in page(view)
    newest = view.runs[0]
    assert newest.name == "d" and view.advice == ""  # it was not lost
    lost = replace(view, runs=view.runs[1:])
    assert "run c again" in lost.advice and "run c again" in page(lost)
    assert [run.again for run in view.runs] == ["", "run c again", "run b again", ""]


def test_contacts_come_and_go(tmp_path: Path) -> None:
    with coordinated(tmp_path) as port:
        port.joined("north")
        contacts = port.gateway.contacts

        def state() -> str:
            return overview(port.coordinator, contacts).hospitals[0].state

        assert state() == "enrolled"
        contacts.heard("north", goodbye=False)
        assert state() == "online"
        contacts.heard("north", goodbye=True)
        assert state() == "offline"
        contacts.heard("north", goodbye=False)
        contacts.last["north"] -= 3600
        assert state() == "offline"
        invitation = port.invite("north")  # a new key takes the old one's place
        _, public = new_key()
        assert enrol(invitation, public, identity("north")).node == str(port.link.keys[public])
