"""What the processes of a hospital's node write down of what they do, into the hospital's own folder, for its people.

Small files, each whole or not there, that only their owner can read; nothing of them leaves the machine. A cause that
cost cases is told as a report may show it: rows by number, files counted.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medtl_core.data.faults import Fault
from medtl_core.errors import ConfigError
from medtl_core.store import to_json, write_bytes

#: Folder in the hospital's for what its node needs; in it the lock of the one process that runs, what that process says
#: of itself, of its last message, and of the server.
FLOWER, _LOCK = "flower", "lock"
NODE, MESSAGE, CONTACT = "node.json", "message.json", "contact.json"
#: What Flower says of a node that it does not let in, and what that means.
_REFUSED = "[code: 2004]"
_ONLINE = (
    "the server does not let this node in: it counts it as online still, for half a minute after a node has died, or "
    "its key is not registered"
)
#: Seconds between two notes that the server answers, while nothing changes.
_PERIOD = 5.0


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Holds the hospital's place meanwhile: two nodes of one hospital would answer the same run twice.

    Raises:
        ConfigError: another process does.
    """
    with os.fdopen(os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"the hospital in {home.parent} takes part already, in another process") from error
        _write_pid(lock.fileno(), str(os.getpid()))
        try:
            yield
        finally:
            _write_pid(lock.fileno(), "")  # what ends in order leaves no id behind


def _write_pid(descriptor: int, text: str) -> None:
    os.pwrite(descriptor, text.encode(), 0)
    os.ftruncate(descriptor, len(text))


def last_process(home: Path) -> int:
    """Returns the id that the process of a hospital's node left, which runs or ended without a word; 0 = none."""
    try:
        return int((home / _LOCK).read_text(encoding="utf-8") or "0")
    except (OSError, ValueError):
        return 0


def running(home: Path) -> int:
    """Returns the id of the process that runs a hospital's node; 0 = none does, whatever id one has left."""
    try:
        with (home / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return last_process(home)
    except OSError:
        pass
    return 0


def note(home: Path, name: str, **values: Any) -> None:
    """Writes values and the time down; a disk that does not take them costs a line of the log, and no message."""
    try:
        write_bytes(home / name, to_json({**values, "at": time.time()}).encode(), mode=0o600)
    except OSError as error:
        logging.getLogger("medtl").warning("%s cannot be written (%s)", home / name, error.strerror)


def noted(home: Path, name: str) -> Mapping[str, Any]:
    """Returns what was written down last; nothing where nothing was."""
    try:
        values = json.loads((home / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


class LeftOut(logging.Handler):
    """Collects what the hospital's log says of cases that were left out.

    Attributes:
        causes: each, with its number of cases.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.causes: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Takes what a record says of a fault."""
        fault = getattr(record, "fault", None)
        if isinstance(fault, Fault):
            self.causes[fault.counted] = None


class Contact(logging.Handler):
    """Reads from a SuperNode's log whether the server answers, and writes it down when that changes or time passes."""

    def __init__(self, home: Path) -> None:
        super().__init__(logging.INFO)
        self._home, self._told, self._due = home, "", 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Takes an answer of the server (a line of httpx), or a warning of Flower."""
        with suppress(Exception):  # whatever a line looks like, the node goes on
            if record.name == "httpx" and isinstance(record.args, tuple) and len(record.args) > 3:
                code = int(str(record.args[3]))
                self._note("" if code < 400 else f"the server answered {code}", answered=code < 500)
            elif record.name == "flwr" and record.levelno >= logging.WARNING:
                text = record.getMessage()
                self._note(_ONLINE if _REFUSED in text else " ".join(text.split())[:300], answered=False)

    def _note(self, fault: str, *, answered: bool) -> None:
        if fault != self._told or time.monotonic() > self._due:
            last = time.time() if answered else noted(self._home, CONTACT).get("last")
            note(self._home, CONTACT, last=last, fault=fault)
            self._told, self._due = fault, time.monotonic() + _PERIOD
