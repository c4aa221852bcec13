"""What a hospital must remember of one secure sum, in one file of its folder, until it has told its last.

The messages of a sum may be processes of their own. What was answered is answered the same way again, and a fact that
was told once stays; then the secrets go, so that a later copy of the folder opens nothing.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.errors import PrivacyError
from medtl_core.privacy import masking
from medtl_core.privacy.masking import Ints, Secrets
from medtl_core.store import to_json, write_bytes
from medtl_core.values import Array

#: Seconds after which a sum that nobody came back to has no secrets any more: a week.
_FORGOTTEN = 7 * 86_400.0


@dataclass(frozen=True)
class Session:
    """One secure sum at this hospital.

    Attributes:
        path: of its file.
        name: both sides' name for it, in every signature and key.
        site: this hospital's name.
    """

    path: Path
    name: str
    site: str

    @classmethod
    def of(cls, folder: Path, name: str, site: str) -> "Session":
        """Returns the session of a name, whose file may be yet to come."""
        return cls(folder / f"{name[:32]}.json", name, site)

    def begin(self) -> None:
        """Draws the secrets of a new sum, and forgets those of sums that were given up long ago."""
        with self._held():
            for path in self.path.parent.glob("*.json"):
                if time.time() - path.stat().st_mtime > _FORGOTTEN:
                    _forget(path)
            if not self.path.is_file():
                drawn = {part: secret.hex() for part, secret in vars(masking.fresh_secrets()).items()}
                _write(self.path, {"secrets": drawn, "facts": {}, "answers": {}})

    @cached_property
    def secrets(self) -> Secrets:
        """Drawn for this sum only.

        Raises:
            PrivacyError: the sum is over, and they are gone.
        """
        drawn = _read(self.path).get("secrets")
        if drawn is None:
            raise PrivacyError("secure sum: its secrets are gone, and it cannot be taken up again")
        return Secrets(*(bytes.fromhex(drawn[part]) for part in ("seal", "pair", "own")))

    def knows(self, fact: str) -> bool:
        """Returns whether a fact is fixed."""
        return fact in _read(self.path)["facts"]

    def agree(self, **facts: Any) -> None:
        """Fixes facts the first time, all at once, and refuses another value ever after.

        Raises:
            PrivacyError: the server said something else before.
        """
        known = self._first("facts", facts)
        for fact, value in facts.items():
            if known[fact] != value:
                raise PrivacyError(f"secure sum: the server changed {fact}; nothing more is told about this sum")

    def agreed(self, fact: str) -> Any:
        """Returns a fact fixed before.

        Raises:
            PrivacyError: it was not: a stage is missing.
        """
        facts = _read(self.path)["facts"]
        if fact not in facts:
            raise PrivacyError(f"secure sum: the server skipped a stage ({fact} is not known)")
        return facts[fact]

    def answer(self, stage: str, make: Callable[[], Mapping[str, Ints]], *, last: bool = False) -> dict[str, Array]:
        """Returns an answer as it was given the first time: shares are drawn at random, and two draws would not fit.

        With the `last` one the secrets go, and the parcels that they open.
        """
        known = _read(self.path)["answers"].get(stage)
        if known is None:
            fresh = {name: array.tolist() for name, array in make().items()}
            known = self._first("answers", {stage: fresh}, last=last)[stage]
        return {name: np.array(rows, np.int64) for name, rows in known.items()}

    def _first(self, table: str, values: Mapping[str, Any], *, last: bool = False) -> Mapping[str, Any]:
        """What is written under names: `values` the first time, whatever they were ever after."""
        with self._held():
            state = _read(self.path)
            known: Mapping[str, Any] = {**values, **state[table]}
            if known == state[table]:
                return known
            state[table] = known
            if last:
                del state["secrets"], state["facts"]["parcels"]
            _write(self.path, state)
            return known

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Two messages at once, of two processes, must not both be the first."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path.parent / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)
        except OSError as error:
            raise PrivacyError(
                f"the secure sum's state cannot be written ({error.strerror}); nothing is told"
            ) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PrivacyError("secure sum: this hospital has not begun it, or its state cannot be read") from error
    return state


def _forget(path: Path) -> None:
    with suppress(PrivacyError):  # what cannot be read is refused when it is asked for
        state = _read(path)
        if state.pop("secrets", None):
            _write(path, state)


def _write(path: Path, state: Mapping[str, Any]) -> None:
    write_bytes(path, to_json(state).encode(), mode=0o600)
