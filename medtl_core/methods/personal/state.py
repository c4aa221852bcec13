"""What a personal method keeps at a hospital: arrays on its own disk, between rounds and after the last one.

Flower forgets a hospital's state when its process ends and in every new run, so it lies in the hospital's own folder:
`METHOD.round-R.safetensors` with a manifest `METHOD.round-R.json` for the two newest rounds, and `METHOD.final` for the
finished model. Files are readable by their owner only.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, StateError
from medtl_core.store import ArrayStore, file_of
from medtl_core.values import Array

_ANEW = "move the file away to let this hospital begin its personal part anew"
_STORE = ArrayStore("personal state", {"round": int, "facts": dict}, remedy=_ANEW, error=StateError, mode=0o600)

_NAME = re.compile(r"[^\W_][\w@ .,+()-]{0,99}")
_FINAL = "final"


@dataclass(frozen=True)
class StateKey:
    """Whose state it is: the method's full name, and classes, features and settings of the run in one `agreement`.

    Arrays of another key are never used.
    """

    method: str
    classes: tuple[str, ...]
    fingerprint: str
    agreement: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "StateKey":
        """Returns whose state a message is about.

        Raises:
            ConfigError: the message does not say.
        """
        try:
            classes = tuple(json.loads(str(config["classes"])))
            return cls(str(config["method"]), classes, str(config["fingerprint"]), str(config["agreement"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError("the message does not say whose personal state it is about") from error

    def config(self) -> dict[str, str]:
        """Returns the key as flat values of a message."""
        return {**asdict(self), "classes": json.dumps(self.classes)}


@dataclass(frozen=True)
class KeptState:
    """A hospital's personal arrays, after which round they were kept, and flat remarks saved with them."""

    round: int
    arrays: Mapping[str, Array]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PersonalState:
    """One method's state in a hospital's folder.

    A round reads what the round before left and never its own result, so that a request which Flower repeats, or a
    server that resumes one round earlier, is answered with the same bytes. The folder is made when first written.
    """

    folder: Path
    key: StateKey

    def __post_init__(self) -> None:
        # the name comes from the server and becomes a file name
        if not _NAME.fullmatch(self.key.method):
            raise ConfigError(f"method name {self.key.method[:60]!r} cannot be a file name")

    def before(self, number: int) -> KeptState | None:
        """Returns the newest arrays kept before round `number`, or None: the hospital begins anew.

        Raises:
            StateError: they are damaged, of another key, or only later rounds are there: the request is stale.
        """
        rounds = self._rounds()
        older = [kept for kept in rounds if kept < number]
        if older and number > 1:
            return self._read(f"round-{older[-1]}")
        if number > 1 and any(kept > number for kept in rounds):
            raise StateError(
                f"round {number} of {self.key.method} was asked for, but {self.folder} is at round {rounds[-1]} "
                "already; the request is stale. To begin anew start the run again from round 1"
            )
        return None

    def write(self, number: int, arrays: Mapping[str, Array]) -> None:
        """Keeps arrays as the result of round `number`; of the others only the newest earlier round stays.

        Round 1 begins anew: whatever an earlier run of the same agreement left goes.

        Raises:
            StateError: the folder cannot be written; what was kept before is still whole.
        """
        self._write(f"round-{number}", KeptState(number, arrays))
        older = [kept for kept in self._rounds() if kept < number][-1:] if number > 1 else []
        for kept in self._rounds():
            if kept not in (number, *older):
                self._remove(f"round-{kept}")
        if number == 1:
            self._remove(_FINAL)

    def finish(self, kept: KeptState) -> None:
        """Keeps the finished personal model; StateError where the folder cannot be written."""
        self._write(_FINAL, kept)

    def finished(self) -> KeptState:
        """Returns the finished personal model.

        Raises:
            StateError: there is none, or it is damaged or of another key.
        """
        if not file_of(self._stem(_FINAL), "json").is_file():
            raise StateError(
                f"{self.folder} holds no finished model of {self.key.method}: this hospital did not take part to the "
                "end, or its folder has moved"
            )
        return self._read(_FINAL)

    def _rounds(self) -> list[int]:
        pattern = re.compile(re.escape(self.key.method) + r"\.round-([0-9]{1,6})\.json")
        try:
            names = [path.name for path in self.folder.iterdir()] if self.folder.exists() else []
        except OSError as error:
            raise StateError(f"the state folder {self.folder} cannot be read ({error.strerror})") from error
        return sorted(int(match[1]) for match in map(pattern.fullmatch, names) if match)

    def _stem(self, what: str) -> Path:
        return self.folder / f"{self.key.method}.{what}"

    def _write(self, what: str, kept: KeptState) -> None:
        _STORE.write(self._stem(what), kept.arrays, {**asdict(self.key), "round": kept.round, "facts": kept.facts})

    def _remove(self, what: str) -> None:
        for suffix in ("json", "safetensors"):
            path = file_of(self._stem(what), suffix)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise StateError(f"{path} cannot be removed ({error.strerror})") from error

    def _read(self, what: str) -> KeptState:
        manifest, arrays = _STORE.read(self._stem(what))
        path = file_of(self._stem(what), "json")
        for name, mine in asdict(self.key).items():
            other = manifest.get(name)
            if other != (list(mine) if isinstance(mine, tuple) else mine):
                raise StateError(f"{path} was made for another {name} ({str(other)[:80]}) than this run's; {_ANEW}")
        if what != _FINAL and manifest["round"] != int(what.removeprefix("round-")):
            raise StateError(f"{path} says it is of round {manifest['round']}; it was renamed; {_ANEW}")
        return KeptState(manifest["round"], arrays, manifest["facts"])
