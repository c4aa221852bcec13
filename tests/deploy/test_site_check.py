"""Every fault that keeps a hospital from taking part, injected one by one: it is named with cause and cure."""

import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medtl_core.deploy import checks_folder, checks_machine, checks_rules, checks_server, enrolment, versions
from medtl_core.deploy.check import Check, CheckResult, Subject, findings
from medtl_core.deploy.checks_folder import read_subject
from medtl_core.privacy.ledger import Identity
from medtl_core.privacy.policy import Policy
from tests.deploy.joined import Joined, hospital
from tests.deploy.tls_made import DAY, Port, granted, made, opened
from tests.privacy.made import key, ledger, plan

Inject = Callable[[Joined, pytest.MonkeyPatch, ExitStack], object]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Joined]:
    """A hospital that has joined, to be copied."""
    with hospital(tmp_path_factory.mktemp("once") / "base") as joined:
        shutil.copytree(joined.base, joined.base.with_name("copy"))
        yield joined


@pytest.fixture
def site(once: Joined, monkeypatch: pytest.MonkeyPatch) -> Joined:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        for spelt in (name, name.upper()):
            monkeypatch.delenv(spelt, raising=False)
            monkeypatch.setenv(spelt, "")  # what a command sets is taken back
    shutil.rmtree(once.base)
    shutil.copytree(once.base.with_name("copy"), once.base)
    once.port.answers = dict(granted())
    return once


def file(old: str, new: str, name: str = "own/hospital.toml") -> Inject:
    """Another word in a file."""
    return lambda site, patch, stack: site.said(old, new, name)


def gone(name: str) -> Inject:
    """A file or folder that is not there."""

    def remove(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        place = site.base / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return remove


def holds(name: str, content: bytes) -> Inject:
    return lambda site, patch, stack: (site.base / name).write_bytes(content)


def mode(name: str, bits: int) -> Inject:
    return lambda site, patch, stack: (site.base / name).chmod(bits)


def server(pair: dict[str, Any] | None, host: str = "127.0.0.1", **port: Any) -> Inject:
    """Another server in the place of the coordinator's."""

    def inject(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        shown = None if pair is None else made("server", **{"issuer": site.root, "names": (host,), **pair})
        answers = dict(granted()) | port.pop("answers", {})
        site.lead_to(stack.enter_context(opened(Port(answers, **port), site.base, shown, host)).address)

    return inject


def answering(path: str, status: int, words: object) -> Inject:
    def inject(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        site.port.answers[path] = (status, words)

    return inject


def refusing(reason: str) -> Inject:
    return answering("/standing", 403, {"reason": reason, "message": ""})


def spent(epsilon: float) -> Inject:
    """A ledger that has paid for a run."""

    def inject(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        made_plan = plan(1)
        with ledger(site.own, Policy(), Identity("north", "f" * 64)) as book:
            book.reserve(key(made=made_plan), made_plan, made_plan.steps[0])

    return inject


def silent(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    """Something that takes connections and never says a word."""
    patch.setattr(checks_server, "_PATIENCE", 0.2)
    patch.setattr(enrolment, "_PATIENCE", 0.2)
    listening = stack.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    site.lead_to(f"127.0.0.1:{listening.getsockname()[1]}")


def other_root(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    (site.own / "ca.pem").write_text(made("root").pem, encoding="utf-8")


def old_root(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    (site.own / "ca.pem").write_text(made("root", first=-DAY * 9, last=-DAY).pem, encoding="utf-8")


def proxied(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    """A proxy variable, of a proxy that is not there, before a server that is."""
    server({}, "127.0.0.2")(site, patch, stack)
    patch.setenv("https_proxy", "http://me:secret@127.0.0.1:9")


def proxied_and_down(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    site.lead_to("127.0.0.2:9")
    patch.setenv("https_proxy", "http://127.0.0.1:9")


def not_enrolled(expired: bool, answer: object) -> Inject:
    def inject(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
        (site.own / "enrolled.json").unlink()
        (site.own / "invitation.toml").write_text(site.invited(-DAY if expired else DAY).text(), encoding="utf-8")
        site.port.answers["/enrol"] = (403, {"reason": answer, "message": ""})

    return inject


def attribute(module: Any, name: str, value: Any) -> Inject:
    return lambda site, patch, stack: patch.setattr(module, name, value)


def private_with_nobody(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    site.said("public_patients = 20", "public_patients = 0")
    site.said("require_private = false", "require_private = true")


def other_user(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    user = os.geteuid()
    patch.setattr(os, "geteuid", lambda: user + 4321)


def full(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    patch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2**20))


def read_only(site: Joined, patch: pytest.MonkeyPatch, stack: ExitStack) -> None:
    """A disk under the hospital's folder that became read-only."""
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if str(path).startswith(f"{site.own}/") and flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return real(path, flags, *rest, **more)

    patch.setattr(os, "open", refuse)


PEERS = "[peers]", '[peers]\nsouth = "{0}"\n"South" = "{0}"'.format("ab" * 32)
RULES, SERVER, WEIGHTS = "in [policy]", "certificate", 'weights = ""'
FAULTS: dict[str, tuple[Inject, str, str]] = {
    "folder mistyped": (lambda s, p, t: s.own.rename(s.base / "else"), "is no hospital's folder", "is it mounted"),
    "file not TOML": (file("[policy]", "[policy"), "cannot be read", "put the newest copy back"),
    "unknown word": (file("device =", "devise ="), "unknown word 'devise'", "did you mean 'device'"),
    "typo in a rule": (file("max_epsilon", "max_epsilom"), "unknown word 'max_epsilom'", "did you mean 'max_epsilon'"),
    "rule of another type": (file("secure_sum = false", "secure_sum = 0"), "secure_sum", "correct that word"),
    "no budget": (file("delta = 1e-05\n", ""), "states no delta", "write it down"),
    "private, with nobody": (private_with_nobody, "no run at all", "surely has"),
    "too few for its own rule": (file("minimum_patients = 2", "minimum_patients = 21"), "is below minimum", "lower"),
    "delta too large": (file("delta = 1e-05", "delta = 0.06"), "not below one over", "write delta = 5e-03"),
    "no releases": (file("max_releases = 1000", "max_releases = 0"), "max_releases = 0", "raise it"),
    "mechanism mistyped": (file("mechanisms = []", 'mechanisms = ["private-maen"]'), "private-maen", "did you mean"),
    "mechanism not private": (file("mechanisms = []", 'mechanisms = ["ridge"]'), "not a private method", "medtl"),
    "promise above the folder": (file("public_patients = 20", "public_patients = 21"), "more than the 20", "correct"),
    "secure sum alone": (file("secure_sum = false", "secure_sum = true"), "names 0 hospitals", "secure_sum ="),
    "peer's key": (file("[peers]", '[peers]\nsouth = "abc"'), "must be a public key", "correct that word"),
    "peers without itself": (file(*PEERS), "lacks 'north' itself", 'add this line: "north" = "'),
    "peers alike": (file(*PEERS), "look alike", "keep the one"),
    "peers with one key": (file(*PEERS), "have one key", "medtl site identity"),
    "own key wrong": (file("[peers]", '[peers]\nnorth = "{}"'.format("cd" * 32)), "not this folder's", "correct"),
    "file for all to write": (mode("own/hospital.toml", 0o622), "can be written by others", "chmod 600"),
    "identity for all to read": (mode("own/identity.key", 0o644), "identity.key can be read by others", "chmod 600"),
    "node key for all to read": (mode("own/node.key", 0o640), "node.key can be read by others", "chmod 600"),
    "ledger for all to read": (mode("own/privacy", 0o755), "privacy can be read by others", "chmod 700"),
    "another user's": (other_user, "belongs to", "run medtl as"),
    "identity gone": (gone("own/identity.key"), "identity.key of the hospital", "put the newest copy back"),
    "identity cut": (holds("own/identity.key", b"short"), "is no identity key", "put it back"),
    "node key gone": (gone("own/node.key"), "there is no key", "ask for a new invitation"),
    "node key of another kind": (holds("own/node.key", b"-----BEGIN"), "is no private key", "put the right one"),
    "ledger gone": (gone("own/privacy"), "ledger", "newest copy"),
    "ledger damaged": (lambda s, p, t: (spent(4)(s, p, t), s.said("f" * 64, "e" * 64, "own/privacy/ledger.jsonl")),
                       "was changed at line 1", "restore it from backup"),
    "ledger empty of budget": (spent(4), "cannot pay for another private run", "medtl ledger raise"),
    "disk full": (full, "only 1 MiB are free", "free 1 GiB"),
    "folder read-only": (read_only, "cannot be written (Read-only file system)", "make it writable"),
    "cache read-only": (file('cache = "cache"', 'cache = "/proc/no/cache"'), "the cache /proc/no", "another place"),
    "data gone": (gone("north.csv"), "north.csv do not exist", "mount them"),
    "data broken": (file("\n0,", "\n7,", "north.csv"), "10 case(s): ", ""),
    "no address": (lambda s, p, t: s.lead_to(""), "names no server", "write its address"),
    "address with a scheme": (lambda s, p, t: s.lead_to("https://fl.example"), "is no address", "HOST:PORT"),
    "root gone": (gone("own/ca.pem"), "ca.pem is gone", "new invitation"),
    "root no certificate": (holds("own/ca.pem", b"hello"), "no certificate in PEM", "new invitation"),
    "root expired": (old_root, "ca.pem expired on", "set this machine's clock"),
    "name unknown": (lambda s, p, t: s.lead_to("no-such-host.invalid:443"), "no-such-host.invalid is not", "spelt"),
    "port closed": (lambda s, p, t: s.lead_to("127.0.0.1:9"), "nothing answers at", "is the coordinator up"),
    "no answer": (silent, "nothing came back from", "firewall"),
    "wrong root": (other_root, "does not descend from", "ask the coordinator"),
    "wrong name": (server({"names": ("fl.example", "127.0.0.9")}), "for fl.example, 127.0.0.9", "one of these"),
    "certificate expired": (server({"first": -DAY * 9, "last": -DAY}), "expired on", "needs a new one"),
    "certificate of tomorrow": (server({"first": DAY}), "is valid from", "set this machine's clock"),
    "clock ahead": (server({}, ahead=-30.0), "clock is 30 s ahead of", "set this machine's clock"),
    "clock behind": (server({}, ahead=400.0), "clock is 400 s behind", "set this machine's clock"),
    "no TLS": (server(None), "speaks no TLS", ""),
    "a page of somebody else": (answering("/health", 200, "<html>Log in"), "answered as no", "address right"),
    "other Flower": (answering("/health", 200, {"flwr": "1.39.0"}), "runs flwr 1.39.0", "pip install flwr==1.39.0"),
    "other medtl": (answering("/health", 200, {"medtl": "0.0.1"}), "runs medtl 0.0.1", "pip install medtl==0.0.1"),
    "other messages": (answering("/health", 200, {"protocol": "protocol-1"}), "runs protocol protocol-1", "agree"),
    "proxy variable": (proxied, "https_proxy=127.0.0.1:9 swallows the connection", "add 127.0.0.2 to no_proxy"),
    "proxy, and down": (proxied_and_down, "neither through https_proxy", "network's people"),
    "revoked": (refusing("revoked"), "has revoked north", "ask it why"),
    "unregistered": (refusing("unregistered"), "does not know this node's key", "enrol north"),
    "invitation expired": (not_enrolled(True, ""), "the invitation expired", "new invitation"),
    "token used": (not_enrolled(False, "used-token"), "let another key in already", "new one"),
    "Flower too new": (attribute(versions, "_installed", lambda name: "1.43.0"), "flwr 1.43.0 is", "pip install"),
    "Flower not there": (attribute(versions, "_installed", lambda name: ""), "flwr is not installed", "pip install"),
    "memory": (attribute(checks_machine, "_MEMORY", 2**60), "MiB of memory are free", "give the machine"),
    "device not there": (file('device = "auto"', 'device = "cuda:7"'), "cuda:7 is not here", "device = \"auto\""),
    "weights gone": (file(WEIGHTS, 'weights = "no.safetensors"'), "does not exist", "must be a safetensors"),
    "weights of another hash": (lambda s, p, t: (file(WEIGHTS, 'weights = "w.safetensors"')(s, p, t),
                                holds("own/w.safetensors", b"x")(s, p, t),
                                holds("own/SHA256SUMS", b"0" * 64 + b"  w.safetensors")(s, p, t)),
                                "damaged or another file", "fetch it again"),
}  # fmt: skip


#: It reads torch.
SLOW = ("device not there",)


@pytest.mark.parametrize(
    ("inject", "cause", "cure"),
    [pytest.param(*fault, id=name, marks=[pytest.mark.slow] * (name in SLOW)) for name, fault in FAULTS.items()],
)
def test_a_fault_is_named_with_its_cause_and_its_cure(
    site: Joined, monkeypatch: pytest.MonkeyPatch, inject: Inject, cause: str, cure: str
) -> None:
    with ExitStack() as stack:
        inject(site, monkeypatch, stack)
        code, said = site.check()
    assert code == 1
    pairs = re.findall(r"fault: (.*)\n  cure: (.*)", said)
    assert len(pairs) == said.count("fault:")
    assert [pair for pair in pairs if cause in pair[0] and cure in pair[1]], said
    assert not [pair for pair in pairs if not pair[1] or "delete" in pair[1]]
    assert "secret" not in said


def test_a_hospital_that_is_in_order_is_ready(site: Joined) -> None:
    code, said = site.check()
    assert code == 0 and "fault" not in said
    assert "can pay for a run of epsilon 4" in said and "ready: start it with" in said


def test_all_faults_are_named_at_once(site: Joined, monkeypatch: pytest.MonkeyPatch) -> None:
    several = ("typo in a rule", "identity for all to read", "data gone", "wrong root", "revoked", "Flower too new")
    with ExitStack() as stack:
        for name in several:
            FAULTS[name][0](site, monkeypatch, stack)
        _, said = site.check()
    assert [name for name in several if name != "revoked" and FAULTS[name][1] not in said] == []


WORD = st.sampled_from(
    ["name", "data", "cache", "device", "weights", "server", "policy", "peers", "address", "insecure", "certificate",
     "key", "max_epsilon", "delta", "public_patients", "mechanisms", "secure_sum", "north", "else"]
)  # fmt: skip
PLAIN = st.one_of(
    st.integers(-9, 10**20), st.floats(), st.booleans(), st.text(max_size=9), st.lists(st.text(), max_size=2)
)
TABLE = st.dictionaries(WORD, PLAIN | st.dictionaries(WORD, PLAIN, max_size=4), max_size=6)


def written(values: Any) -> str:
    if isinstance(values, dict):
        return "{" + ", ".join(f"{key} = {written(value)}" for key, value in values.items()) + "}"
    if isinstance(values, list):
        return f"[{', '.join(map(written, values))}]"
    return json.dumps(values) if isinstance(values, str | bool) else str(values)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(TABLE)
def test_whatever_a_file_says_it_is_looked_at_to_its_end(site: Joined, table: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {written(value)}" for key, value in table.items())
    (site.own / "hospital.toml").write_text(text, encoding="utf-8")
    subject = read_subject(site.own)
    told = [one for found in findings(subject, (*checks_folder.CHECKS, *checks_rules.CHECKS)).values() for one in found]
    assert subject.found  # none of these files is whole
    assert all(one.cause and (one.cure or one.kind == "note") for one in told)
    assert not [one for one in told if "could not be looked at" in one.cause]


def test_a_taken_port_is_named(site: Joined) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = site.check("--status", taken.getsockname()[1])
    assert code == 1 and "is taken" in said and "name another port" in said


@pytest.mark.parametrize(
    ("inject", "words"),
    [
        (lambda s, p: p.setenv("OMP_NUM_THREADS", "8"), "OMP_NUM_THREADS=8 has no effect"),
        (lambda s, p: p.setenv("HOME", "/proc/nobody"), "the home folder /proc/nobody"),
        (lambda s, p: (s.own / "flower").mkdir() or (s.own / "flower" / "lock").write_text("999999"), "999999"),
        (lambda s, p: s.said("public_patients = 20", "public_patients = 0"), "takes part in no private run"),
    ],
    ids=["threads", "home", "stale lock", "nothing public"],
)  # fmt: skip
def test_what_keeps_nobody_from_taking_part_is_a_note(
    site: Joined, monkeypatch: pytest.MonkeyPatch, inject: Callable[..., object], words: str
) -> None:
    inject(site, monkeypatch)
    code, said = site.check()
    assert code == 0 and words in said and "ready" in said


def test_no_check_takes_longer_than_it_may_and_none_takes_the_others_down() -> None:
    def broken(subject: Subject) -> list[CheckResult]:
        raise ZeroDivisionError("division by zero")

    checks = [
        Check("slow", lambda subject: time.sleep(3) or [], seconds=0.1, always=True),
        Check("broken", broken, always=True),
        Check("well", lambda subject: [], always=True),
        Check("of the file", lambda subject: []),
    ]
    started = time.monotonic()
    found = findings(Subject(Path("nowhere")), checks)
    assert time.monotonic() - started < 2
    assert "within 0.1 s" in found["slow"][0].cause and "division" in found["broken"][0].cause
    assert found["well"] == () and "of the file" not in found
    assert found["broken"][0].kind == "fatal"  # what could not be looked at does not start
    slow = Check("slow", lambda subject: time.sleep(0.3) or [], seconds=0.1, always=True)
    assert findings(Subject(Path("nowhere")), [slow], limited=False) == {"slow": ()}  # a start waits for its checks


@pytest.mark.parametrize(
    ("held", "asked", "fits"),
    [("1.41.0", ">=1.41,<1.42", True), ("1.42.0", ">=1.41,<1.42", False), ("2.14.0+cpu", ">=2.14,<3", True),
     ("3.0", "<3", False), ("0.60", ">=0.6,<0.7", False), ("13", ">=13", True)],
)  # fmt: skip
def test_versions_are_compared_by_their_numbers(
    monkeypatch: pytest.MonkeyPatch, held: str, asked: str, fits: bool
) -> None:
    monkeypatch.setattr(versions.metadata, "requires", lambda name: [f"some[extra]{asked}", "other>9; extra == 'dev'"])
    monkeypatch.setattr(versions, "_installed", lambda name: held)
    assert (not list(versions.unfit())) == fits
