"""An append-only journal on disk: one JSON record a line, each with the hash of the one before.

A record counts as written when its line, and then the head that names it, are on disk (fsync of file and folder). A
line torn by a crash was never acknowledged and is cut; anything else that does not fit is damage, and is refused.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

from medtl_core.errors import PrivacyError
from medtl_core.store import sync_folder, to_json, write_bytes

#: The hash before the first record.
GENESIS = "0" * 64
#: Of the form of records. Version 2 says in each record when it was written and who asked; one of a later version is
#: refused, as its sense is not known.
VERSION = 2
#: The journal's files in its folder.
LINES, HEAD, _LOCK = "ledger.jsonl", "head.json", "lock"


@dataclass(frozen=True)
class Record:
    """One line.

    Attributes:
        seq: from 1.
        previous: hash of the record before.
        hash: of this record.
        body: what it says; "kind" is always there.
    """

    seq: int
    previous: str
    hash: str
    body: Mapping[str, Any]

    def line(self) -> bytes:
        """Returns the record as it is written."""
        content = {"seq": self.seq, "prev": self.previous, "hash": self.hash, "body": self.body}
        return json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def chained(seq: int, previous: str, body: Mapping[str, Any]) -> Record:
    """Returns the record that follows the one with hash `previous`."""
    text = json.dumps([seq, previous, body], sort_keys=True, separators=(",", ":"))
    return Record(seq, previous, hashlib.sha256(text.encode()).hexdigest(), body)


@final
class Journal:
    """The journal of one folder, mode 0700, held by one process at a time. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records: tuple[Record, ...] = ()
        self._lock = self._file = -1
        self._length = 0

    @property
    def head(self) -> tuple[int, str]:
        """Number and hash of the last record; (0, GENESIS) before the first."""
        return (self.records[-1].seq, self.records[-1].hash) if self.records else (0, GENESIS)

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _lock(self._lock, self.folder)
            self._open()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                why = f"the privacy ledger in {self.folder} cannot be opened ({error.strerror})"
                raise PrivacyError(why) from error
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the files."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._file = -1

    def append(self, body: Mapping[str, Any]) -> Record:
        """Writes one record and returns it once it is on disk.

        Raises:
            PrivacyError: it could not be written (disk full, folder gone). The journal is as it was, or holds the
                record all the same: nothing that was spent is given back.
        """
        record = chained(self.head[0] + 1, self.head[1], body)
        line = record.line()
        try:
            written = os.pwrite(self._file, line, self._length)
            if written != len(line):
                raise OSError(28, "No space left on device")
            os.fsync(self._file)
            self._write_head(record.seq, record.hash)
        except OSError as error:
            self._undo(record)
            raise PrivacyError(
                f"the privacy ledger in {self.folder} cannot be written ({error.strerror}); nothing is released"
            ) from error
        self._count(record)
        return record

    def begin(self) -> None:
        """Lets a journal without a record be known as one that was begun; see `is_begun`."""
        if not self.records:
            self._write_head(0, GENESIS)

    def _count(self, record: Record) -> None:
        self._length += len(record.line())
        self.records = (*self.records, record)

    def _undo(self, record: Record) -> None:
        """Cuts what a failed append left, unless the head names it already; if that fails, the next opening does."""
        try:
            if _read_head(self.folder) == (record.seq, record.hash):
                self._count(record)
            else:
                os.ftruncate(self._file, self._length)
                os.fsync(self._file)
        except (OSError, PrivacyError):
            self.close()

    def _write_head(self, seq: int, last: str) -> None:
        write_bytes(self.folder / HEAD, to_json({"seq": seq, "hash": last}).encode(), mode=0o600)

    def _open(self) -> None:
        path, head = self.folder / LINES, _read_head(self.folder)
        new = not path.is_file()
        if new and head is not None:
            raise _missing(path)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if new:
            sync_folder(self.folder)
            sync_folder(self.folder.parent)
        content = path.read_bytes()
        self.records = _checked(content, head, path)
        self._length = content.rfind(b"\n") + 1
        if self._length < len(content):  # a torn last write, which nobody was told of: the head does not know it
            os.ftruncate(self._file, self._length)
            os.fsync(self._file)
        if self.records and self.head != head:  # the line is whole, only its head was not written any more
            self._write_head(*self.head)


def read_journal(folder: Path) -> tuple[Record, ...]:
    """Returns the records of a journal as they stand, and changes nothing; another process may be writing.

    Raises:
        PrivacyError: there is none, or it is damaged or shortened.
    """
    path, head = folder / LINES, None
    try:
        while True:
            head = _read_head(folder)
            content = path.read_bytes()
            if _read_head(folder) == head:
                return _checked(content, head, path)
    except FileNotFoundError:
        raise (_missing(path) if head else PrivacyError(f"there is no ledger in {folder}")) from None
    except OSError as error:
        raise PrivacyError(f"the privacy ledger in {folder} cannot be read ({error.strerror})") from error


def is_begun(folder: Path) -> bool:
    """Returns whether a journal was begun in a folder and is still there; the folder may be gone, or not mounted."""
    return (folder / LINES).is_file() and (folder / HEAD).is_file()


def _read_head(folder: Path) -> tuple[int, str] | None:
    """Number and hash of the last record that was acknowledged, or None where no record ever was."""
    path = folder / HEAD
    if not path.is_file():
        return None
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        return int(head["seq"]), str(head["hash"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PrivacyError(f"{path} is damaged; restore it from backup") from error


def _checked(content: bytes, head: tuple[int, str] | None, path: Path) -> tuple[Record, ...]:
    """The whole lines of a journal, among which the head's must be the last or the one before."""
    records = read_lines(content.split(b"\n")[:-1], path)
    seq, last = head or (0, GENESIS)
    if not 0 <= seq <= len(records) or (seq and records[seq - 1].hash != last):
        raise PrivacyError(f"{path} lacks records that were acknowledged, or was exchanged; restore it from backup")
    if len(records) > seq + 1:
        raise PrivacyError(f"{path} holds {len(records)} records where {seq} were acknowledged; it was edited")
    return tuple(records)


def _missing(path: Path) -> PrivacyError:
    return PrivacyError(f"{path} is missing, but this hospital has spent budget before; restore it from backup")


def read_lines(lines: list[bytes], path: Path) -> list[Record]:
    """Returns the records of lines, every one checked against the one before.

    Raises:
        PrivacyError: a line was changed, exchanged, left out or added.
    """
    records: list[Record] = []
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        record = parsed_line(line + b"\n", path, f"line {number}")
        if (record.seq, record.previous) != (number, previous):
            raise PrivacyError(f"{path} was changed at line {number}; restore it from backup")
        records.append(record)
        previous = record.hash
    return records


def parsed_line(line: bytes, path: Path, place: str = "its last line") -> Record:
    """Returns the record of one line, which is whole in itself.

    Raises:
        PrivacyError: it is not, or is of a later version.
    """
    try:
        content = json.loads(line)
        record = chained(content["seq"], content["prev"], content["body"])
        whole, version = record.line() == line, int(record.body.get("version", 1))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrivacyError(f"{path} is damaged at {place}; restore it from backup") from error
    if not whole:
        raise PrivacyError(f"{path} was changed at {place}; restore it from backup")
    if version > VERSION:
        raise PrivacyError(f"{path} was written by a newer medtl at {place}; install that one again")
    return record


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        why = f"the privacy ledger in {folder} is in use by another process; stop it: two would spend the same budget"
        raise PrivacyError(why) from error
