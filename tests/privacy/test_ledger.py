"""The ledger counts, refuses, survives and notices: every fault on a real disk."""

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.errors import BudgetError, PatientsError, PrivacyError
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.identity import own_identity
from medtl_core.privacy.journal import Journal
from medtl_core.privacy.ledger import Identity, fingerprint
from medtl_core.privacy.ledger_report import balance, raise_budget
from medtl_core.privacy.policy import Policy, read_policy
from tests.privacy.made import SITE, TERMS, key, ledger, plan

STEP = plan().steps[0]


def spend(folder: Path, *numbers: int, policy: Policy | None = None) -> None:
    for number in numbers:
        with ledger(folder, policy) as book:
            book.reserve(key(number), plan(), STEP)
            book.release(key(number), b"payload %d" % number)


def written(folder: Path) -> Path:
    return folder / "privacy" / "ledger.jsonl"


def refused(folder: Path, match: str | None = None, identity: Identity = SITE) -> None:
    """The ledger cannot even be opened."""
    with pytest.raises(PrivacyError, match=match), ledger(folder, identity=identity):
        pass


def test_a_plan_is_paid_round_by_round_over_restarts(tmp_path: Path) -> None:
    spent = []
    with ledger(tmp_path) as book:
        book.afford(key(1), STEP)
        assert book.spent(1e-5) == 0.0
    for number in range(1, 5):
        spend(tmp_path, number)
        with ledger(tmp_path) as book:
            spent.append(book.spent(1e-5))
    assert all(one < other for one, other in pairwise(spent))
    assert spent[-1] == pytest.approx(epsilon(plan().events, 1e-5), rel=1e-9)
    assert spent[-1] <= 4.0
    with ledger(tmp_path) as book:
        book.afford(key(1, "another question"), STEP)  # that release was made, and costs nothing again
        before = book.witness
        with pytest.raises(BudgetError, match="allows 4"):
            book.afford(key(5), STEP)
        with pytest.raises(BudgetError, match="allows 4"):
            book.reserve(key(5), plan(), STEP)
        assert book.witness == before


def test_a_reservation_without_a_release_stays_spent(tmp_path: Path) -> None:
    with ledger(tmp_path) as book:
        book.reserve(key(1), plan(), STEP)
    with ledger(tmp_path) as book:
        assert book.sealed(key(1)) is book.sealed(key(2)) is None
        once = book.spent(1e-5)
        assert once > 0
        book.reserve(key(1), plan(), STEP)
        assert book.spent(1e-5) > once


def test_what_was_not_agreed_is_refused(tmp_path: Path) -> None:
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="without a reservation"):
        book.release(key(1), b"x")
    spend(tmp_path, 1)
    other = plan(rounds=8)
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="changed after its first release"):
        book.reserve(key(1, made=other), other, other.steps[0])
    strict = Policy(max_releases=1)
    with ledger(tmp_path, strict) as book, pytest.raises(BudgetError, match="allows 1 releases"):
        book.reserve(key(2), plan(), STEP)


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    files = [path for path in (tmp_path / "privacy").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "privacy").stat().st_mode & 0o777 == 0o700


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = f"import pathlib, tests.privacy.made as made; made.ledger(pathlib.Path({str(tmp_path)!r})).__enter__()"
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with ledger(tmp_path):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=root)
    assert "in use by another process" in done.stderr
    assert done.returncode != 0


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    spend(tmp_path, 1, 2)
    whole = written(tmp_path).read_bytes()
    bits = 8 * len(whole)
    newline = range(bits - 8, bits)  # that ends the last record
    for place in (*np.random.default_rng(7).choice(bits, size=100, replace=False), *newline):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << (place % 8)
        written(tmp_path).write_bytes(bytes(flipped))
        refused(tmp_path)
    written(tmp_path).write_bytes(whole)
    with ledger(tmp_path) as book:
        assert len(book.records) == 6


def test_a_shortened_or_missing_ledger_of_a_known_site_is_refused(tmp_path: Path) -> None:
    spend(tmp_path, 1, 2)
    lines = written(tmp_path).read_bytes().splitlines(keepends=True)
    for left in (b"".join(lines[:-1]), b"".join(lines)[:-30], b""):
        written(tmp_path).write_bytes(left)
        refused(tmp_path, "acknowledged")
    written(tmp_path).unlink()
    refused(tmp_path, "missing")


def test_an_older_copy_is_noticed_by_what_the_server_saw(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    folder = tmp_path / "privacy"
    old = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    spend(tmp_path, 2)
    with ledger(tmp_path) as book:
        seen = book.witness
        book.check_witness(*seen)
    for path, content in old.items():
        path.write_bytes(content)
    with ledger(tmp_path) as book:
        for forgotten in (seen, (book.witness[0], "0" * 64), (book.witness[0] + 1, "0" * 64), (0, ""), (-1, "")):
            with pytest.raises(PrivacyError, match="rolled back"):
                book.check_witness(*forgotten)
        book.check_witness(*book.witness)


def test_a_torn_last_line_is_cut_and_nothing_else(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    whole = written(tmp_path).read_bytes()
    written(tmp_path).write_bytes(whole + b'{"body":{"kind":"reserve","ep')
    with ledger(tmp_path) as book:
        assert len(book.records) == 4
    assert written(tmp_path).read_bytes() == whole


def test_a_line_whose_head_was_not_written_counts(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    head = tmp_path / "privacy" / "head.json"
    before = head.read_bytes()
    with ledger(tmp_path) as book:
        book.reserve(key(2), plan(), STEP)
        spent = book.spent(1e-5)
    head.write_bytes(before)  # killed between the line and its head
    with ledger(tmp_path) as book:
        assert book.spent(1e-5) == spent
    assert head.read_bytes() != before


def test_another_sites_or_other_patients_ledger_is_refused(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    for other in (Identity("south", SITE.fingerprint), Identity("north", "0" * 64)):
        refused(tmp_path, "another site or other patients", other)


def test_the_fingerprint_is_keyed_and_of_the_set(tmp_path: Path) -> None:
    first = fingerprint(["b", "a", "a"], tmp_path / "one")
    assert first == fingerprint(["a", "b"], tmp_path / "one")
    assert first not in (fingerprint(["a", "c"], tmp_path / "one"), fingerprint(["a", "b"], tmp_path / "two"))
    assert (tmp_path / "one" / "site.key").stat().st_mode & 0o077 == 0


def test_of_two_first_starts_at_once_both_hold_the_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, random, keys = threading.Barrier(2), os.urandom, []

    def drawn_together(count: int) -> bytes:
        both.wait(10)  # neither has found a key
        return random(count)

    monkeypatch.setattr(os, "urandom", drawn_together)
    starts = [threading.Thread(target=lambda: keys.append(own_identity(tmp_path / "home"))) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert keys == [own_identity(tmp_path / "home")] * 2
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["identity.key"]
    assert (tmp_path / "home" / "identity.key").stat().st_mode & 0o777 == 0o600


def test_a_raise_holds_until_the_policy_is_changed(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    raise_budget(tmp_path, 6.0, "board")

    def budget(allowed: float) -> float:
        with ledger(tmp_path, Policy(max_epsilon=allowed)) as book:
            return book.budget

    assert [budget(allowed) for allowed in (4.0, 3.0, 5.0, 8.0, 4.0)] == [6.0, 3.0, 5.0, 8.0, 6.0]
    (tmp_path / "policy.toml").write_text("max_epsilon = 1")
    assert balance(tmp_path / "privacy").budget == 1.0
    with ledger(tmp_path, Policy(max_epsilon=1.0)) as book, pytest.raises(BudgetError, match="allows 1"):
        book.reserve(key(2), plan(), STEP)
    raise_budget(tmp_path, 2.0, "board, again")
    assert [budget(allowed) for allowed in (1.0, 4.0)] == [2.0, 4.0]


def test_a_raise_of_an_older_medtl_holds_while_it_is_the_larger(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    with Journal(tmp_path / "privacy") as journal:
        journal.append({"kind": "raise", "epsilon": 6.0, "reason": "board"})
    for allowed, budget in ((4.0, 6.0), (2.0, 6.0), (8.0, 8.0)):
        with ledger(tmp_path, Policy(max_epsilon=allowed)) as book:
            assert book.budget == budget


def full(*words: object, **named: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


class Killed(BaseException):
    """Nothing more is done, not even to tidy up."""


class Disk:
    """Counts what is asked of the disk, and fails from one call on: once, for good, or as if killed."""

    CALLS = ((os, "open"), (os, "pwrite"), (os, "fsync"), (os, "ftruncate"), (Path, "replace"), (Path, "mkdir"),
             (Path, "unlink"))  # fmt: skip

    def __init__(self, patch: pytest.MonkeyPatch, first: int = 10**9, how: str = "once") -> None:
        self.calls, self.first, self.how = 0, first, how
        for place, name in self.CALLS:
            patch.setattr(place, name, self.counted(getattr(place, name)))

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*words: Any, **named: Any) -> Any:
            number, self.calls = self.calls, self.calls + 1
            if number == self.first or (number > self.first and self.how != "once"):
                if call is WRITE:
                    WRITE(words[0], words[1][:20], words[2])
                raise Killed if self.how == "killed" else OSError(errno.ENOSPC, "No space left on device")
            return None if call is SYNC else call(*words, **named)

        return asked


WRITE, SYNC = os.pwrite, os.fsync


def answered(folder: Path, acknowledged: list[str]) -> bytes:
    """What a hospital sends for a request, as the gate does it; noise differs every time."""
    with ledger(folder) as book:
        payload = book.sealed(key(2))
        if payload is None:
            book.reserve(key(2), plan(), STEP)
            acknowledged.append("reserve")
            payload = os.urandom(8)
            book.release(key(2), payload)
            acknowledged.append("release")
        return payload


@pytest.mark.parametrize("how", ["once", "for good", "killed"])
def test_a_disk_that_fails_at_any_call_loses_nothing_and_renews_no_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("medtl_core.privacy.ledger.epsilon", lambda events, delta: float(len(list(events))) / 2)
    spend(tmp_path / "whole", 1)
    with monkeypatch.context() as patch:
        disk = Disk(patch)
        answered(shutil.copytree(tmp_path / "whole", tmp_path / "counted"), [])
    assert disk.calls > 20
    for first in range(disk.calls):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(first))
        acknowledged: list[str] = []
        sent: list[bytes] = []
        with monkeypatch.context() as patch:
            Disk(patch, first, how)
            with pytest.raises((PrivacyError, Killed)):
                sent.append(answered(folder, acknowledged))
        with monkeypatch.context() as patch:
            Disk(patch)
            sent += [answered(folder, []), answered(folder, [])]
            with ledger(folder) as book:
                kinds = [record.body["kind"] for record in book.records]
        assert len(set(sent)) == 1
        assert 1 + len({"reserve"} & {*acknowledged}) <= kinds.count("reserve") <= 3
        assert kinds.count("release") == 2, "every answer that left is on record, once"


def test_a_sealed_reply_that_was_not_written_or_is_damaged_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ledger(tmp_path) as book:
        book.reserve(key(1), plan(), STEP)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "mkdir", full)
            with pytest.raises(PrivacyError, match="sealed"):
                book.release(key(1), b"x")
        assert book.sealed(key(1)) is None
    spend(tmp_path, 2)
    (seal,) = (tmp_path / "privacy" / "sealed").iterdir()
    seal.write_bytes(b"payload X")
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="damaged"):
        book.sealed(key(2))
    seal.unlink()
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="cannot be read"):
        book.sealed(key(2))


def test_an_accountant_that_fails_closes_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtl_core.privacy.ledger.epsilon", lambda events, delta: float("nan"))
    with ledger(tmp_path) as book:
        with pytest.raises(BudgetError):
            book.reserve(key(1), plan(), STEP)
        assert [record.body["kind"] for record in book.records] == ["open"]


@pytest.mark.parametrize(
    ("policy", "patients"),
    [
        (Policy(minimum_patients=50), 40),
        (Policy(), 10),
        (Policy(mechanisms=("private-mean",)), 40),
        (Policy(delta=1e-7), 40),
        (Policy(max_epsilon=1.0), 40),
        (Policy(public_patients=19), 40),
        (Policy(public_patients=41), 40),
        (Policy(delta=0.025), 40),
    ],
)
def test_the_policy_wins(policy: Policy, patients: int) -> None:
    Policy().admit(plan(terms=TERMS), 40)
    with pytest.raises(PrivacyError):
        policy.admit(plan(terms=TERMS), patients)


def test_of_a_hospital_that_owns_its_data_only_public_numbers_count() -> None:
    Policy(public_patients=20).admit(plan(terms=TERMS))
    for policy, error in (
        (Policy(), PrivacyError), (Policy(public_patients=19), PatientsError),
        (Policy(public_patients=20, minimum_patients=21), PatientsError),
        (Policy(public_patients=20, delta=0.05), PrivacyError),
    ):  # fmt: skip
        with pytest.raises(error):
            policy.admit(plan(terms=TERMS))
    for policy, patients in ((Policy(public_patients=20), 19), (Policy(delta=0.05), 20)):  # at its start, by itself
        policy.check_promises(500 if policy.public_patients else 19)
        with pytest.raises(PrivacyError, match="correct the policy"):
            policy.check_promises(patients)


def test_with_a_public_number_no_answer_depends_on_the_patients() -> None:
    policy = Policy(public_patients=30)
    for patients in (None, 30, 31, 500):
        policy.admit(plan(terms=replace(TERMS, cases=30)), patients)
        with pytest.raises(PatientsError, match="30 patients; at least 31"):
            policy.admit(plan(terms=replace(TERMS, cases=31)), patients)


def test_the_policy_file_is_read_strictly(tmp_path: Path) -> None:
    assert read_policy(tmp_path) == Policy()
    (tmp_path / "policy.toml").write_text('max_epsilon = 2\nmechanisms = ["private-mean"]\nrequire_private = true\n')
    assert read_policy(tmp_path) == Policy(max_epsilon=2.0, mechanisms=("private-mean",), require_private=True)
    for text in (
        "max_epsilom = 2", "max_epsilon = 'two'", "max_releases = true", "max_epsilon = -1", "minimum_patients = 0",
        "max_epsilon = ",
    ):  # fmt: skip
        (tmp_path / "policy.toml").write_text(text)
        with pytest.raises(PrivacyError):
            read_policy(tmp_path)
