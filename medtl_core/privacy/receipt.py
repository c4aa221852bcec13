"""Receipts: a line on the hospital's own disk for every reply, written before the reply leaves, signed by the hospital.

The lines of all runs are one chain of hashes (`privacy.journal`), in files of a few megabytes. Beside them lies the
number and hash of the last line, signed with the hospital's identity key: by it a file that was changed or shortened is
found. No run and no server has a word in it: where a line cannot be written, nothing leaves.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from medtl_core.errors import PrivacyError
from medtl_core.privacy import masking
from medtl_core.privacy.identity import IDENTITY, own_identity
from medtl_core.privacy.journal import GENESIS, VERSION, Record, chained, parsed_line
from medtl_core.privacy.requester import Requester, now
from medtl_core.store import locked, sync_folder
from medtl_core.values import PrivacyEvent

#: In the hospital's folder: the folder of its receipts, and there the signed head.
SENT, HEAD = "sent", "signed.json"
#: Bytes after which a new file begins, and files after which nothing more is sent until a person moves old ones away.
_FULL, _MOST = 8 * 2**20, 128
#: Bytes at a file's end in which its last line lies, and arrays of one reply that a line names.
_TAIL, _NAMED = 2**15, 64


@dataclass(frozen=True)
class Sent:
    """One reply.

    Attributes:
        task: what was asked for; of a refusal, too.
        asker: who asked.
        arrays: by name: dtype, shape and the bytes as they travel.
        values: the other values that travel; their names are kept, and they are hashed.
        size: bytes of all of it.
        event: what it cost.
        secure: whether it is a part of a secure sum.
        refused: the fixed sentence that was sent in place of an answer.
    """

    task: str
    asker: Requester
    arrays: Mapping[str, tuple[str, tuple[int, ...], bytes]] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    event: PrivacyEvent = field(default_factory=PrivacyEvent)
    secure: bool = False
    refused: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """What the line says: names, kinds, shapes and a hash; no value that travels but the event's."""
        about = {"version": VERSION, "at": now(), "asked": self.asker.values, "task": self.task[:80]}
        if self.refused:
            return {**about, "kind": "refusal", "told": self.refused[:200]}
        shapes = {name: [dtype, *shape] for name, (dtype, shape, _) in sorted(self.arrays.items())[:_NAMED]}
        numbers = sum(prod(shape) for _, shape, _ in self.arrays.values())
        event = self.event
        cost = None if event.mechanism == "none" else [event.mechanism, event.epsilon, event.delta]
        told = {"arrays": shapes, "values": sorted(self.values), "bytes": self.size, "numbers": numbers}
        told |= {"unnamed-arrays": len(self.arrays) - _NAMED} if len(self.arrays) > _NAMED else {}
        return {**about, "kind": "reply", **told, "event": cost, "secure": self.secure, "sha256": payload_hash(self)}


def payload_hash(sent: Sent) -> str:
    """Returns the SHA-256 of a reply, as its receiver can: each array's name and bytes by name, then the values."""
    total = hashlib.sha256()
    for name, (_, _, content) in sorted(sent.arrays.items()):
        total.update(b"%s\0%d\0" % (name.encode(), len(content)))
        total.update(content)
    total.update(json.dumps(sent.values, sort_keys=True, separators=(",", ":")).encode())
    return total.hexdigest()


def write_receipt(home: Path, sent: Sent) -> None:
    """Writes the line of one reply to disk, and signs where the receipts stand now.

    The line is on disk (fsync) before this returns. The head beside it is not waited for: a killed process leaves it
    whole, and after a power cut it may name an earlier line, which is still one of the chain.

    Guarantee:
        A line never leaves the hospital. Of a private reply it holds nothing that depends on a patient but the SHA-256
        of what is sent anyway; whether it can be written depends on the disk alone.

    Raises:
        PrivacyError: it cannot be written, or the receipts are damaged or full; the reply must not be sent.
    """
    folder, body = home / SENT, sent.body
    try:
        folder.mkdir(exist_ok=True, mode=0o700)
        with locked(folder / "lock"):
            _append(folder, own_identity(home), body)
    except OSError as error:
        raise PrivacyError(f"the receipt in {folder} cannot be written ({error.strerror}); nothing is sent") from error


def _append(folder: Path, identity: bytes, body: Mapping[str, Any]) -> None:
    files = _files(folder)
    last, length = _newest(files)
    _check_head(folder, last)
    seq, previous = (last.seq, last.hash) if last else (0, GENESIS)
    new = not files or files[-1].stat().st_size > _FULL
    if new and len(files) >= _MOST:
        raise PrivacyError(f"{folder} is full; move its oldest files to another disk: nothing is sent before")
    path = folder / f"{seq + 1:012d}.jsonl" if new else files[-1]
    record = chained(seq + 1, previous, body)
    line, start = record.line(), 0 if new else length
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, start)  # of a line torn by a crash: its reply never left
        if os.pwrite(descriptor, line, start) != len(line):
            raise OSError(28, "No space left on device")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(folder)
    _write_head(folder, identity, record)


def _newest(files: list[Path]) -> tuple[Record | None, int]:
    """The last whole line, and up to where the newest file holds whole lines."""
    lengths: list[int] = []
    for path in reversed(files):
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(size - _TAIL, 0))
            tail = stream.read()
        whole = tail.rfind(b"\n") + 1
        lengths.append(size - len(tail) + whole)
        if whole:
            return parsed_line(tail[tail.rfind(b"\n", 0, whole - 1) + 1 : whole], path), lengths[0]
    return None, (lengths or [0])[0]


def _check_head(folder: Path, last: Record | None) -> None:
    """Refuses to go on where lines are gone; one or more than the head knows are of a process that was killed."""
    seq, known, _ = _head(folder)
    found = (last.seq, last.hash) if last else (0, GENESIS)
    if found[0] < seq or (found[0] == seq and found[1] != known) or (seq == 0 and found[0] > 1):
        raise PrivacyError(f"{folder} lacks receipts that were written, or was exchanged; put the newest copy back")


def _write_head(folder: Path, identity: bytes, record: Record) -> None:
    """One write to a file of one length: it is there whole, or as it was."""
    head = _head_text(record.seq, record.hash, masking.signed(identity, _statement(record.seq, record.hash)))
    descriptor = os.open(folder / HEAD, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, head, 0)
    finally:
        os.close(descriptor)


def _head(folder: Path) -> tuple[int, str, bytes]:
    """Number, hash and signature of the last line that was signed; zeros where none was."""
    path = folder / HEAD
    if not path.is_file():
        return 0, GENESIS, b""
    content = path.read_bytes()
    with suppress(ValueError, KeyError, TypeError):
        head = json.loads(content)
        found = int(head["seq"]), str(head["hash"]), bytes.fromhex(head["signature"])
        if _head_text(*found) == content:
            return found
    raise PrivacyError(f"{path} is damaged; put it back from a copy")


def _head_text(seq: int, last: str, signature: bytes) -> bytes:
    return json.dumps({"seq": f"{seq:012d}", "hash": last, "signature": signature.hex()}).encode()


def _statement(seq: int, last: str) -> bytes:
    return json.dumps(["medtl receipts", seq, last]).encode()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


@dataclass(frozen=True)
class Receipts:
    """What a hospital has sent, in order; the first may follow on others whose files a person has moved away.

    The hospital's signature covers all up to number `signed`; a process that was killed leaves a later one.
    """

    records: tuple[Record, ...]
    signed: int


def read_receipts(home: Path) -> Receipts:
    """Returns every receipt of a hospital's folder; nothing is changed there, and a process may be writing.

    Raises:
        PrivacyError: there are none; a line was changed, exchanged, left out or added; a file was shortened; or the
            head is not signed by the hospital's identity key.
    """
    folder, records = home / SENT, list[Record]()
    seq, known, signature = _head(folder)  # before the lines: a line written meanwhile is one more
    for path in _files(folder):
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # torn by a crash: its reply never left
            record = parsed_line(line, path)
            if records and (record.seq, record.previous) != (records[-1].seq + 1, records[-1].hash):
                raise PrivacyError(f"{path} was changed at receipt {record.seq}; put the newest copy back")
            records.append(record)
    if not records and not seq:
        raise PrivacyError(f"{home} holds no receipts: nothing was sent from it yet, or it is no hospital's folder")
    if not seq and len(records) > 1:
        raise PrivacyError(f"{folder / HEAD} is missing; put it back from a copy")
    if seq and not any(record.seq == seq and record.hash == known for record in records):
        raise PrivacyError(f"{folder} was shortened: receipt {seq} is signed and missing; put the newest copy back")
    if seq:
        _check_signature(home, _statement(seq, known), signature)
    return Receipts(tuple(records), seq)


def _check_signature(home: Path, statement: bytes, signature: bytes) -> None:
    try:
        masking.check_signature(
            masking.identity_public((home / IDENTITY).read_bytes()), signature, statement, home.name
        )
    except (OSError, ValueError, PrivacyError) as error:
        path = home / SENT / HEAD
        raise PrivacyError(f"{path} is not signed by the identity key of this folder; it was changed") from error
