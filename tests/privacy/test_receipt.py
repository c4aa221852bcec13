"""Receipts: one chain of what a hospital sent, signed by it; whatever is done to the files is noticed."""

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medtl_core.errors import PrivacyError
from medtl_core.privacy import receipt
from medtl_core.privacy.identity import own_identity
from medtl_core.privacy.receipt import Sent, payload_hash, read_receipts, write_receipt
from medtl_core.privacy.requester import Requester
from medtl_core.values import PrivacyEvent

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
SHAPES = st.tuples(
    st.sampled_from(["float64", "int64"]), st.lists(st.integers(0, 9), max_size=3).map(tuple), st.binary()
)
REPLIES = st.builds(
    Sent,
    task=NAMES,
    asker=st.builds(Requester.of, st.integers(1, 2**63), NAMES),
    arrays=st.dictionaries(NAMES, SHAPES, max_size=3),
    values=st.dictionaries(NAMES, st.integers() | NAMES, max_size=3),
    event=st.sampled_from([PrivacyEvent(), PrivacyEvent("private-auto", 1.0, 1e-5)]),
    refused=st.sampled_from(["", "", "[medtl PrivacyError] a fixed sentence"]),
)


def reply(number: int = 1, task: str = "private_mean") -> Sent:
    content = np.full(3, number, np.float64).tobytes()
    return Sent(task, Requester(number, "study"), {"sum": ("float64", (3,), content)}, {"site": "north"}, 40)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A hospital's folder with five receipts."""
    folder = tmp_path / "north"
    folder.mkdir()
    own_identity(folder)
    for number in range(1, 6):
        write_receipt(folder, reply(number))
    return folder


def lines(home: Path) -> Path:
    (path,) = (home / "sent").glob("*.jsonl")
    return path


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(REPLIES, min_size=1, max_size=5))
def test_whatever_leaves_is_read_back_in_order(tmp_path: Path, replies: list[Sent]) -> None:
    folder = tmp_path / os.urandom(8).hex()
    folder.mkdir()
    for one in replies:
        write_receipt(folder, one)
    kept = read_receipts(folder)
    assert kept.signed == len(replies)
    assert [record.seq for record in kept.records] == [*range(1, len(replies) + 1)]
    for one, record in zip(replies, kept.records, strict=True):
        body = record.body
        assert (body["task"], body["asked"]["run"]) == (one.task, str(one.asker.run))
        if one.refused:
            assert body["told"] == one.refused
        else:
            assert body["sha256"] == payload_hash(one) and body["arrays"].keys() == one.arrays.keys()
            assert (body["event"] is None) == (one.event.mechanism == "none")


def test_a_line_holds_no_value_and_only_the_owner_reads_it(home: Path) -> None:
    assert b"north" not in lines(home).read_bytes()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (home / "sent").iterdir()}
    assert {*modes.values()} == {0o600} and len(modes) == 3
    assert (home / "sent").stat().st_mode & 0o777 == 0o700


def test_every_flipped_bit_is_noticed(home: Path) -> None:
    for path in (lines(home), home / "sent" / "signed.json"):
        whole = path.read_bytes()
        for place in np.random.default_rng(3).choice(8 * len(whole), size=150, replace=False):
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << (place % 8)
            path.write_bytes(bytes(flipped))
            with pytest.raises(PrivacyError):
                read_receipts(home)
        path.write_bytes(whole)
    assert len(read_receipts(home).records) == 5


def test_what_is_shortened_left_out_exchanged_or_signed_by_another_is_named(home: Path, tmp_path: Path) -> None:
    path, signed = lines(home), home / "sent" / "signed.json"
    rows = path.read_bytes().splitlines(keepends=True)
    cut = [rows[:-1], rows[:2], [], [*rows[:1], *rows[2:]], [rows[1], rows[0], *rows[2:]], [*rows[:4], rows[4][:-9]]]
    for left in cut:
        path.write_bytes(b"".join(left))
        with pytest.raises(PrivacyError, match=r"shortened|changed"):
            read_receipts(home)
        if left[-1:] != rows[-1:]:
            with pytest.raises(PrivacyError, match="lacks receipts"):  # and nothing is sent any more
                write_receipt(home, reply(6))
    path.write_bytes(b"".join(rows))
    other = tmp_path / "other"
    other.mkdir()
    write_receipt(other, reply())
    kept = signed.read_bytes()
    for content, match in (
        (b"", "damaged"),
        (kept.replace(b'"seq": "0', b'"seq": "1'), "shortened"),
        (kept.upper(), "damaged"),
    ):
        signed.write_bytes(content)
        with pytest.raises(PrivacyError, match=match):
            read_receipts(home)
    forged = json.loads(kept) | {"signature": json.loads((other / "sent" / "signed.json").read_text())["signature"]}
    signed.write_text(json.dumps(forged))
    with pytest.raises(PrivacyError, match="not signed by the identity key"):
        read_receipts(home)
    signed.unlink()
    with pytest.raises(PrivacyError, match="missing"):
        read_receipts(home)
    with pytest.raises(PrivacyError, match="no receipts"):
        read_receipts(tmp_path / "misspelt")
    assert not (tmp_path / "misspelt").exists()


class Killed(BaseException):
    """Nothing more is done."""


@pytest.mark.parametrize("how", ["killed", "full"])
def test_a_process_killed_at_any_call_leaves_receipts_that_are_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What was acknowledged is there; at most one more, of a reply that never left."""
    calls = ("open", "ftruncate", "pwrite", "fsync")
    pwrite, first = os.pwrite, 0
    while True:
        folder, count = shutil.copytree(home, home.with_name(f"{how}-{first}")), 0

        def failing(call: Any, last: int = first) -> Any:
            def asked(*words: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count > last:
                    if call is pwrite and words[1].startswith(b'{"body"'):
                        pwrite(words[0], words[1][:20], words[2])
                    raise Killed if how == "killed" else OSError(28, "No space left on device")
                return call(*words, **named)

            return asked

        with monkeypatch.context() as patch:
            for name in calls:
                patch.setattr(os, name, failing(getattr(os, name)))
            try:
                write_receipt(folder, reply(6))
            except (Killed, PrivacyError):
                pass
            else:
                break
        assert 5 <= len(read_receipts(folder).records) <= 6
        write_receipt(folder, reply(7))
        kept = read_receipts(folder)
        assert [record.body["asked"]["run"] for record in kept.records][-1] == "7"
        assert kept.signed == len(kept.records) in (6, 7)
        first += 1
    assert first > 4


def test_two_replies_at_once_are_both_there(home: Path) -> None:
    writers = [
        threading.Thread(target=lambda: [write_receipt(home, reply(number)) for number in range(10)]) for _ in range(3)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read_receipts(home).records) == 35


def test_files_are_bounded_and_old_ones_may_be_moved_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt, "_FULL", 900)
    monkeypatch.setattr(receipt, "_MOST", 4)
    with pytest.raises(PrivacyError, match="is full; move its oldest"):
        for number in range(99):
            write_receipt(home, reply(number))
    files = sorted((home / "sent").glob("*.jsonl"))
    assert len(files) == 4
    before = read_receipts(home).records
    files[0].rename(home / "elsewhere.jsonl")
    kept = read_receipts(home).records
    assert kept[0].seq > 1 and kept == before[kept[0].seq - 1 :]
    write_receipt(home, reply(99))
    assert read_receipts(home).signed == before[-1].seq + 1
    files[2].unlink()
    with pytest.raises(PrivacyError, match="changed at receipt"):
        read_receipts(home)


def test_a_reply_of_very_many_arrays_is_counted_whole(home: Path) -> None:
    arrays = {f"units.{number}.weight": ("float64", (2, 3), b"0" * 48) for number in range(900)}
    write_receipt(home, Sent("fit", Requester(6), arrays, {}, 900 * 48))
    write_receipt(home, reply(7))
    body = read_receipts(home).records[-2].body
    assert (body["numbers"], len(body["arrays"]), body["unnamed-arrays"]) == (5400, 64, 836)
