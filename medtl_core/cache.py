"""The feature cache: rows of one SQLite file, keyed by content, checked when read, safe for several processes."""

import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

Row = NDArray[np.float32]

_LOG = logging.getLogger("medtl")
_TABLE = "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, sum INTEGER NOT NULL, row BLOB NOT NULL)"
#: SQLite takes at least this many variables in one statement.
_AT_ONCE = 500
#: Seconds to wait for another process that is writing.
_PATIENCE = 60.0


def default_folder() -> Path:
    """Returns the user's cache folder: $MEDTL_CACHE, else $XDG_CACHE_HOME/medtl, else ~/.cache/medtl."""
    own = os.environ.get("MEDTL_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "medtl"


@final
class FeatureCache:
    """Feature rows on disk; without a folder, or where it cannot be written, it simply holds nothing.

    A row carries its checksum: one that was damaged counts as missing, is computed anew, and that is said once. A file
    that is no database any more is set aside under another name.
    """

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / "features.sqlite" if folder is not None else None
        self._said: set[str] = set()
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                self._give_up(f"{folder} cannot be made ({error.strerror})")

    def get_many(self, keys: Iterable[str]) -> dict[str, Row]:
        """Returns the rows that are here and whole, float32 [d] by key."""
        wanted, found, damaged = list(dict.fromkeys(keys)), {}, 0
        with self._open() as base:
            if base is None:
                return {}
            for first in range(0, len(wanted), _AT_ONCE):
                some = wanted[first : first + _AT_ONCE]
                marks = ",".join("?" * len(some))
                for key, checksum, row in base.execute(
                    f"SELECT key, sum, row FROM features WHERE key IN ({marks})", some
                ):
                    if isinstance(row, bytes) and zlib.crc32(row) == checksum and len(row) % 4 == 0:
                        found[key] = np.frombuffer(row, dtype="<f4").astype(np.float32)
                    else:
                        damaged += 1
        if damaged:
            self._say("rows", f"{damaged} damaged rows in the feature cache {self._file}; they are computed anew")
        return found

    def put_many(self, rows: Mapping[str, Row]) -> None:
        """Stores rows, float32 [d] by key, in one transaction; a row of the same key is replaced."""
        content = [(key, np.ascontiguousarray(row, dtype="<f4").tobytes()) for key, row in rows.items()]
        with self._open() as base:
            if base is not None and content:
                with base:
                    base.executemany(
                        "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                        [(key, zlib.crc32(data), data) for key, data in content],
                    )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        """A connection of this call only; a fault of the file never stops a run, it only costs the cache."""
        base = self._connect()
        try:
            yield base
        except sqlite3.DatabaseError as error:
            self._recover(error)
        finally:
            if base is not None:
                base.close()

    def _connect(self) -> sqlite3.Connection | None:
        for _ in range(2):
            if self._file is None:
                return None
            base = None
            try:
                base = sqlite3.connect(self._file, timeout=_PATIENCE)
                base.execute(_TABLE)
            except sqlite3.DatabaseError as error:
                if base is not None:
                    base.close()
                self._recover(error)
            else:
                return base
        return None

    def _recover(self, error: sqlite3.DatabaseError) -> None:
        """Sets a broken file aside; gives up where the folder cannot be written."""
        if self._file is None:
            return
        if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
            self._give_up(f"{self._file}: {error}")
            return
        aside = self._file.with_suffix(f".broken-{time.time_ns()}")
        try:
            self._file.replace(aside)
        except OSError as failure:
            self._give_up(f"{self._file} is damaged and cannot be set aside ({failure.strerror})")
        else:
            self._say("file", f"the feature cache was damaged; it is now {aside.name}, and a new one is filled")

    def _give_up(self, why: str) -> None:
        self._file = None
        self._say("off", f"no feature cache: {why}; features are computed in every run")

    def _say(self, topic: str, text: str) -> None:
        if topic not in self._said:
            self._said.add(topic)
            _LOG.warning(text)
