"""What happened in a run, one JSON line each, for people, progress bars and reports."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from medtl_core.store import plain

Event = Mapping[str, Any]
Listener = Callable[[Event], None]


class Events:
    """Appends events to a file and tells a listener; safe to share between threads."""

    def __init__(self, path: Path | None = None, listener: Listener | None = None) -> None:
        self._path, self._listener = path, listener
        self._lock = Lock()
        self._start = time.monotonic()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(path)

    def emit(self, kind: str, **facts: Any) -> None:
        """Records one event: `kind`, `at` (seconds since this object was made) and the facts given.

        The file is strict JSON lines: NaN becomes null, see `store.plain`. A crash tears the last line at most.
        """
        event = {"kind": kind, "at": round(time.monotonic() - self._start, 4), **facts}
        with self._lock:
            if self._path is not None:
                # lone surrogates, as file names may hold, become JSON's own escapes
                with self._path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as stream:
                    stream.write(json.dumps(plain(event), allow_nan=False, ensure_ascii=False) + "\n")
            if self._listener is not None:
                self._listener(event)


def _drop_torn_line(path: Path) -> None:
    """Cuts what a crash left unfinished, or the next event would be written onto the same line."""
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
