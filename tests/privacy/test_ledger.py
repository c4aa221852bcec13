"""The ledger counts, refuses, survives and notices: every fault on a real disk."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from medtl_core.errors import BudgetError, PatientsError, PrivacyError
from medtl_core.privacy import journal
from medtl_core.privacy.accounting import epsilon
from medtl_core.privacy.ledger import Identity, fingerprint
from medtl_core.privacy.policy import Policy
from tests.privacy.made import SITE, TERMS, key, ledger, plan

STEP = plan().steps[0]


def spend(folder: Path, *numbers: int, policy: Policy | None = None) -> None:
    for number in numbers:
        with ledger(folder, policy) as book:
            book.reserve(key(number), plan(), STEP)
            book.release(key(number), b"payload %d" % number)


def test_a_plan_is_paid_round_by_round_over_restarts(tmp_path: Path) -> None:
    spent = []
    for number in range(1, 5):
        spend(tmp_path, number)
        with ledger(tmp_path) as book:
            spent.append(book.spent(1e-5))
    assert all(one < other for one, other in pairwise(spent))
    assert spent[-1] == pytest.approx(epsilon(plan().events, 1e-5), rel=1e-9)
    assert spent[-1] <= 4.0
    with ledger(tmp_path) as book, pytest.raises(BudgetError, match="hospital allows 4"):
        book.reserve(key(5), plan(), STEP)


def test_what_could_not_be_paid_is_refused_without_paying(tmp_path: Path) -> None:
    with ledger(tmp_path) as book:
        book.afford(key(1), STEP)
        assert book.spent(1e-5) == 0.0
    spend(tmp_path, 1, 2, 3, 4)
    with ledger(tmp_path) as book:
        book.afford(key(1, "another question"), STEP)  # that release was made, and costs nothing again
        before = book.witness
        with pytest.raises(BudgetError, match="hospital allows 4"):
            book.afford(key(5), STEP)
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


def test_a_release_needs_a_reservation(tmp_path: Path) -> None:
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="without a reservation"):
        book.release(key(1), b"x")


def test_a_plan_cannot_change_after_its_first_release(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    other = plan(rounds=8)
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="changed after its first release"):
        book.reserve(key(1, made=other), other, other.steps[0])


def test_only_a_person_at_the_hospital_raises_the_budget(tmp_path: Path) -> None:
    spend(tmp_path, 1, 2, 3, 4)
    with ledger(tmp_path) as book:
        with pytest.raises(PrivacyError, match="reason"):
            book.raise_budget(9.0, " ")
        with pytest.raises(PrivacyError, match="exceed"):
            book.raise_budget(3.0, "less")
        book.raise_budget(9.0, "ethics board, minute 12")
        book.reserve(key(5), plan(), STEP)
    with ledger(tmp_path) as book:
        assert book.budget == 9.0


def test_the_policy_limits_releases(tmp_path: Path) -> None:
    strict = Policy(max_releases=1)
    spend(tmp_path, 1, policy=strict)
    with ledger(tmp_path, strict) as book, pytest.raises(BudgetError, match="allows 1 releases"):
        book.reserve(key(2), plan(), STEP)


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    files = [path for path in (tmp_path / "privacy").rglob("*") if path.is_file()]
    assert len(files) == 4
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert (tmp_path / "privacy").stat().st_mode & 0o777 == 0o700


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path; from tests.privacy.made import ledger\n"
        f"with ledger(Path({str(tmp_path)!r})): print('in')"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with ledger(tmp_path):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=root)
    assert "in use by another process" in done.stderr
    assert done.returncode != 0


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    spend(tmp_path, 1, 2)
    path = tmp_path / "privacy" / "ledger.jsonl"
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    for place in rng.choice(8 * len(whole), size=100, replace=False):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << (place % 8)
        path.write_bytes(bytes(flipped))
        with pytest.raises(PrivacyError), ledger(tmp_path):
            pass
    for place in range(8 * (len(whole) - 1), 8 * len(whole)):  # the newline that ends the last record
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ (1 << (place % 8))]))
        with pytest.raises(PrivacyError), ledger(tmp_path):
            pass
    path.write_bytes(whole)
    with ledger(tmp_path) as book:
        assert len(book.records) == 6


@pytest.mark.parametrize("cut", ["a record", "half a record", "everything"])
def test_a_shortened_ledger_is_refused(tmp_path: Path, cut: str) -> None:
    spend(tmp_path, 1, 2)
    path = tmp_path / "privacy" / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    left = {"a record": b"".join(lines[:-1]), "half a record": b"".join(lines)[:-30], "everything": b""}[cut]
    path.write_bytes(left)
    with pytest.raises(PrivacyError, match="acknowledged"), ledger(tmp_path):
        pass


def test_a_missing_ledger_of_a_known_site_is_refused(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    (tmp_path / "privacy" / "ledger.jsonl").unlink()
    with pytest.raises(PrivacyError, match="missing"), ledger(tmp_path):
        pass


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
    path = tmp_path / "privacy" / "ledger.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"body":{"kind":"reserve","ep')
    with ledger(tmp_path) as book:
        assert len(book.records) == 4
    assert path.read_bytes() == whole


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
        with pytest.raises(PrivacyError, match="another site or other patients"), ledger(tmp_path, identity=other):
            pass


def test_the_fingerprint_is_keyed_and_of_the_set(tmp_path: Path) -> None:
    first = fingerprint(["b", "a", "a"], tmp_path / "one")
    assert first == fingerprint(["a", "b"], tmp_path / "one")
    assert first != fingerprint(["a", "c"], tmp_path / "one")
    assert first != fingerprint(["a", "b"], tmp_path / "two")


@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
def test_a_full_disk_at_any_write_refuses_and_harms_nothing(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spend(tmp_path, 1)
    path = tmp_path / "privacy" / "ledger.jsonl"
    whole = path.read_bytes()

    def full(*words: object, **named: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with ledger(tmp_path) as book:
        with monkeypatch.context() as patched:
            if call == "replace":
                patched.setattr(Path, "replace", full)
            else:
                patched.setattr(os, call, full)
            with pytest.raises(PrivacyError, match="No space left"):
                book.reserve(key(2), plan(), STEP)
        assert len(book.records) == 4
    assert path.read_bytes() == whole or call == "fsync"  # what could not even be cut is cut on the next opening
    with ledger(tmp_path) as book:
        book.reserve(key(2), plan(), STEP)


def test_a_half_written_line_is_cut_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spend(tmp_path, 1)
    path = tmp_path / "privacy" / "ledger.jsonl"
    whole, write = path.read_bytes(), os.pwrite
    with ledger(tmp_path) as book:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pwrite", lambda file, line, at: write(file, line[:20], at))
            with pytest.raises(PrivacyError, match="cannot be written"):
                book.reserve(key(2), plan(), STEP)
        assert path.read_bytes() == whole
        book.reserve(key(2), plan(), STEP)


def test_a_sealed_reply_that_cannot_be_written_is_not_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ledger(tmp_path) as book:
        book.reserve(key(1), plan(), STEP)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "mkdir", lambda *words, **named: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(PrivacyError, match="sealed"):
                book.release(key(1), b"x")
        assert book.sealed(key(1)) is None


def test_a_damaged_seal_is_not_sent(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    (seal,) = (tmp_path / "privacy" / "sealed").iterdir()
    seal.write_bytes(b"payload X")
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="damaged"):
        book.sealed(key(1))
    seal.unlink()
    with ledger(tmp_path) as book, pytest.raises(PrivacyError, match="cannot be read"):
        book.sealed(key(1))


def test_no_decision_depends_on_the_clock(tmp_path: Path) -> None:
    spend(tmp_path, 1)
    text = (tmp_path / "privacy" / "ledger.jsonl").read_text()
    assert "time" not in text
    for file in Path(journal.__file__).parent.glob("*.py"):
        assert not {"import time", "import datetime", "from datetime"} & set(file.read_text().splitlines()), file


def test_an_accountant_that_fails_closes_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medtl_core.privacy.ledger.epsilon", lambda events, delta: float("nan"))
    with ledger(tmp_path) as book:
        with pytest.raises(BudgetError):
            book.reserve(key(1), plan(), STEP)
        assert [record.body["kind"] for record in book.records] == ["open"]


@pytest.mark.parametrize(
    ("policy", "patients", "message"),
    [
        (Policy(minimum_patients=50), 40, "at least 50"),
        (Policy(), 10, "at least 20"),
        (Policy(mechanisms=("private-mean",)), 40, "not allowed"),
        (Policy(delta=1e-7), 40, "is above 1e-07"),
        (Policy(max_epsilon=1.0), 40, "above the hospital's 1"),
        (Policy(public_patients=19), 40, "19 patients; at least 20"),
        (Policy(public_patients=41), 40, "correct the policy"),
        (Policy(delta=0.025), 40, "correct the policy"),
    ],
)
def test_the_policy_wins(policy: Policy, patients: int, message: str) -> None:
    with pytest.raises(PrivacyError, match=message):
        policy.admit(plan(terms=TERMS), patients)


def test_with_a_public_number_no_answer_depends_on_the_patients() -> None:
    policy = Policy(public_patients=30)
    for patients in (30, 31, 500):
        policy.admit(plan(terms=replace(TERMS, cases=30)), patients)
        with pytest.raises(PatientsError, match="30 patients; at least 31"):
            policy.admit(plan(terms=replace(TERMS, cases=31)), patients)


def test_the_policy_file_is_read_strictly(tmp_path: Path) -> None:
    from medtl_core.privacy.policy import read_policy

    assert read_policy(tmp_path) == Policy()
    (tmp_path / "policy.toml").write_text('max_epsilon = 2\nmechanisms = ["private-mean"]\nrequire_private = true\n')
    assert read_policy(tmp_path) == Policy(max_epsilon=2.0, mechanisms=("private-mean",), require_private=True)
    for text, message in [
        ("max_epsilom = 2", "did you mean 'max_epsilon'"),
        ("max_epsilon = 'two'", "must be a float"),
        ("max_releases = true", "must be a int"),
        ("max_epsilon = -1", "not a budget"),
        ("minimum_patients = 0", "at least 1"),
        ("max_epsilon = ", "cannot be read"),
    ]:
        (tmp_path / "policy.toml").write_text(text)
        with pytest.raises(PrivacyError, match=message):
            read_policy(tmp_path)
