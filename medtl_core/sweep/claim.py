"""The folder of a sweep: of one sweep only, and of one process at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medtl_core.errors import RunError
from medtl_core.store import read_json, write_json
from medtl_core.sweep.cells import REFERENCES, Sweep

#: Settings that may differ between two calls of one sweep: cells are named by them, or they only say where things lie.
_FREE = ("shots", "seed", "epsilon", "privacy", "methods", "secure-sum", "out", "state", "cache")


def identity(sweep: Sweep) -> dict[str, Any]:
    """What two calls must have in common to be one sweep."""
    chosen = sweep.plan.settings.public()
    return {
        "sweep": "privacy",
        "settings": {key: value for key, value in chosen.items() if key not in _FREE},
        "mechanisms": [method.name for method in sweep.mechanisms],
        "references": list(REFERENCES),
        "secure-sum": sweep.secure,
    }


@contextmanager
def claimed(sweep: Sweep) -> Iterator[None]:
    """Holds the sweep's folder for this process; it is new, empty, or of the same sweep.

    Raises:
        RunError: it is not, or another process works in it.
    """
    out, mine = sweep.plan.out, identity(sweep)
    _check_folder(out, mine)
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except OSError as error:
        raise RunError(f"the folder {out} cannot be written ({error.strerror}); choose another with --out") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"another sweep is at work in {out}; wait for it, or choose another folder") from error
        _check_folder(out, mine)
        if not (out / "config.json").is_file():
            write_json(out / "config.json", mine)
        yield


def _check_folder(out: Path, mine: dict[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise RunError(f"{out} is a file; name a folder with --out")
    if (out / "config.json").is_file():
        stored = read_json(out / "config.json")
        if stored.get("sweep") != "privacy":
            raise RunError(f"{out} holds another kind of run; choose a new or an empty folder with --out")
        if stored != mine:
            raise RunError(f"{out} holds a sweep of other settings ({_difference(stored, mine)}); choose another --out")
    elif out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise RunError(f"the folder {out} holds something else; choose a new or an empty one with --out")


def _difference(stored: dict[str, Any], mine: dict[str, Any]) -> str:
    """The first thing in which two sweeps differ, in words."""
    one, other = ({**record, **record.get("settings", {})} for record in (stored, mine))
    for key in sorted((one.keys() | other.keys()) - {"settings"}):
        if one.get(key) != other.get(key):
            return f"{key}: {_word(one.get(key))} there, {_word(other.get(key))} here"
    return "of another version"


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
