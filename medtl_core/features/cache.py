"""Features already computed, kept on disk by content.

A cache may lose everything and change nothing: a damaged row is computed again, a damaged file is set aside and begun
anew, a folder that cannot be written is done without. Each is said once. Several processes and threads may share one.
"""

import contextlib
import hashlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]
_Result = TypeVar("_Result")

#: Name of the file in a cache folder; it may be copied into another.
FILE = "features.sqlite"
#: Seconds a process waits for another one's write before it goes on without the cache.
_PATIENCE = 20.0
#: Keys in one query; SQLite's own limit is far higher.
_BATCH = 500
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, row BLOB NOT NULL, sum BLOB NOT NULL) WITHOUT ROWID"
)
_LOGGER = logging.getLogger("medtl")
#: Warnings that this process has given: one fault is met by every hospital and at every read.
_SAID: set[str] = set()
#: Threads take turns: a damaged file must not be renamed under another open connection of the same process, for old and
#: new file share the name of their journal (sqlite.org/howtocorrupt.html#unlink).
_TURN = threading.Lock()


@dataclass(frozen=True)
class FeatureCache:
    """Feature rows by key, in one SQLite file.

    Attributes:
        folder: where the file lies; None = nothing is kept.
    """

    folder: Path | None

    def get_many(self, keys: Iterable[str]) -> dict[str, Row]:
        """Returns the rows that are there and whole, float32 [d] by key."""
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}

        def read(base: sqlite3.Connection) -> dict[str, Row]:
            rows: dict[str, Row] = {}
            for first in range(0, len(wanted), _BATCH):
                part = wanted[first : first + _BATCH]
                marks = ",".join("?" * len(part))
                for key, row, checksum in base.execute(
                    f"SELECT key, row, sum FROM features WHERE key IN ({marks})", part
                ):
                    if _is_whole(key, row, checksum):
                        rows[key] = np.frombuffer(row, dtype="<f4").astype(np.float32)
                    else:
                        _say_once(f"the feature cache in {self.folder} holds damaged rows; they are computed again")
            return rows

        return self._with(read, {})

    def put_many(self, rows: Mapping[str, Row]) -> None:
        """Keeps rows, float32 [d] by key, over older ones of the same key."""
        if not rows or self.folder is None:
            return
        records = []
        for key, row in rows.items():
            content = np.ascontiguousarray(row, dtype="<f4").tobytes()
            records.append((key, content, _checksum(key, content)))

        def write(base: sqlite3.Connection) -> None:
            with base:
                base.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?)", records)

        self._with(write, None)

    def _with(self, work: Callable[[sqlite3.Connection], _Result], otherwise: _Result) -> _Result:
        """Works on an open file, twice where the first try fails: a damaged file is set aside, and one begun anew."""
        if self.folder is None:
            return otherwise
        with _TURN:
            for is_last in (False, True):
                try:
                    with _opened(self.folder) as base:
                        return work(base)
                except (sqlite3.OperationalError, OSError) as error:
                    if is_last:
                        _say_once(f"the feature cache in {self.folder} is not used: {error}")
                except sqlite3.DatabaseError as error:
                    _set_aside(self.folder / FILE, str(error))
        return otherwise


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[sqlite3.Connection]:
    """Opens the file for one piece of work.

    The journal stays SQLite's default, which works on every file system. A write-ahead log lets readers pass a writer,
    but whoever opens and closes the file anew makes and removes the log and its memory map each time: that took twice
    as long as reading a hospital's rows, and a writer here is done in milliseconds. Folder and file are their owner's
    alone.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / FILE
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite's journal takes its mode from the file
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)  # an older medtl let others read patients' features
    with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE)) as base:
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute(_SCHEMA)
        yield base


def _set_aside(path: Path, reason: str) -> None:
    """Renames a damaged file; where another process has begun a new one meanwhile, its rows are computed again."""
    with contextlib.suppress(OSError):
        # before the file: afterwards they may be those of a new one; an older medtl kept a write-ahead log
        for suffix in ("-journal", "-wal", "-shm"):
            path.with_name(FILE + suffix).unlink(missing_ok=True)
        path.replace(path.with_name(f"{FILE}.damaged"))
    _say_once(f"the feature cache {path} was damaged ({reason}); it is set aside and begun anew")


def _checksum(key: str, content: bytes) -> bytes:
    """Covers the key too, so that a row that strayed to another key is noticed."""
    return hashlib.sha256(key.encode() + content).digest()


def _is_whole(key: object, row: object, checksum: object) -> bool:
    return isinstance(key, str) and isinstance(row, bytes) and len(row) % 4 == 0 and checksum == _checksum(key, row)


def _say_once(text: str) -> None:
    if text not in _SAID:
        _SAID.add(text)
        _LOGGER.warning(text)
