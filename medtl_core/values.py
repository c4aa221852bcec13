"""The frozen values that travel through the house: examples, features, updates, releases, heads and scores."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, DataError, ReplyError

Array = NDArray[Any]

#: Bias of a class that no hospital has shown: finite, so that it survives the wire, yet never the answer.
ABSENT = -1.0e4

#: Kind of a task whose findings are each there or not, or unknown; and what then stands for unknown.
MULTI_LABEL, UNKNOWN = "multi-label", -1

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
#: Characters of a hospital's name.
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Task:
    """What is being diagnosed.

    Attributes:
        name: of the task.
        classes: in their agreed order; of a multi-label task the findings, at least two, each there or not by itself.
        kind: "classes" (a case is of one of them) or `MULTI_LABEL`; see `Examples`.
    """

    name: str
    classes: tuple[str, ...]
    kind: str = "classes"

    @property
    def agreed(self) -> tuple[str, ...]:
        """What all sides must mean alike: the classes, behind the kind of a task that has another one."""
        return (self.kind, *self.classes) if self.kind == MULTI_LABEL else self.classes

    def tell_classes(self, what: str) -> None:
        """Refuses findings for what reads one class of each case.

        Raises:
            ConfigError: names it.
        """
        if self.kind == MULTI_LABEL:
            raise ConfigError(f"{what} reads one class of each case, and task {self.name!r} is multi-label")


@dataclass(frozen=True, slots=True)
class Examples:
    """Labelled cases as columns of equal length.

    Always `label` (int64 [n], index into `task.classes`), `patient`, `site` and `split` (str [n]), and one input:
    `path` (str [n], image files), `image` (uint8 [n, h, w, c]) or `table` (float64 [n, f], NaN = missing). Others are
    kept as they came.

    Cases of a multi-label task have `labels` (int8 [n, L]) beside: for each finding of `task.classes` 1 if it is there,
    0 if it is not, `UNKNOWN` (-1) where nobody says, also where a set's policy leaves an uncertain one out. Their
    `label` says whether a case has any finding (see `any_finding`): splits and folds keep that share alike. No method
    or figure reads it as a diagnosis.

    Raises:
        DataError: the columns are not equally long, as when a table has other rows than the images beside it; or a
            multi-label task has no column of `labels` with a finding for each class.
    """

    columns: Mapping[str, Array]
    task: Task

    def __post_init__(self) -> None:
        rows = {name: len(column) for name, column in self.columns.items()}
        if len(set(rows.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in rows.items())
            raise DataError(f"every case needs one row in every column; there are other numbers of rows: {told}")
        labels = self.columns.get("labels", np.zeros(0))
        if self.task.kind == MULTI_LABEL and labels.shape[1:] != (len(self.task.classes),):
            raise DataError("a multi-label task needs each case's findings, one column a class; see docs/data.md")

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def take(self, index: Array) -> "Examples":
        """Returns the cases at `index` (int or bool [m]), in that order."""
        return Examples({name: column[index] for name, column in self.columns.items()}, self.task)


def any_finding(labels: Array) -> NDArray[np.int64]:
    """Returns 1 for each case with at least one finding that is there, else 0, int64 [n], from labels [n, L].

    Example:
        >>> any_finding(np.array([[1, UNKNOWN], [0, UNKNOWN]])).tolist()
        [1, 0]
    """
    return np.asarray((labels == 1).any(axis=1), np.int64)


@dataclass(frozen=True, slots=True)
class Features:
    """Backbone features of some cases, float32 [n, d].

    Attributes:
        fingerprint: hash of everything that made them (weights, taps, pooling, size, views).
        groups: (name, start, stop) of each tap's columns in `values`, in order; they cover [0, d).
    """

    values: NDArray[np.float32]
    fingerprint: str
    groups: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Update:
    """Named float arrays that add. What a hospital would like to send; nothing leaves before it is `Released`."""

    arrays: Mapping[str, Array]

    def __add__(self, other: "Update") -> "Update":
        if self.arrays.keys() != other.arrays.keys():
            raise ReplyError(f"updates name different arrays: {sorted(self.arrays)} and {sorted(other.arrays)}")
        for name, array in self.arrays.items():
            if array.shape != other.arrays[name].shape:
                raise ReplyError(
                    f"array {name!r} has shapes {array.shape} and {other.arrays[name].shape}; refusing to broadcast"
                )
        return Update({name: array + other.arrays[name] for name, array in self.arrays.items()})


@dataclass(frozen=True)
class PrivacyEvent:
    """What one release cost. `mechanism="none"` states that no privacy is claimed: epsilon is infinite.

    Guarantee:
        None by itself: it is a record. Unit, adjacency and sensitivity belong to the mechanism that made it.
    """

    mechanism: str = "none"
    epsilon: float = float("inf")
    delta: float = 1.0


@dataclass(frozen=True)
class Witness:
    """Where a hospital's privacy ledger stands; a server that remembers it can notice an older copy put back.

    Attributes:
        ledger: whose it is: "hospital" (one for all its runs) or, in a simulation, "method".
        seq: number of its last record, from 1.
        hash: of that record and, in a chain, of all before it; the first one holds only a keyed hash of the patients.
    """

    ledger: str
    seq: int
    hash: str


@dataclass(frozen=True)
class Released:
    """An update and the privacy event it cost: the only thing the wire accepts.

    Attributes:
        metrics: numbers that ride along (losses, seconds); empty under privacy unless paid for.
        witness: where the ledger that paid for it stands; None = no ledger was asked.
    """

    update: Update
    event: PrivacyEvent = PrivacyEvent()
    metrics: Mapping[str, float] = field(default_factory=dict)
    witness: Witness | None = None


@dataclass(frozen=True)
class Head:
    """An affine classifier on raw features: logits = x @ weight.T + bias.

    Attributes:
        weight: float64 [C, d]. Standardisation and temperature are folded in.
        bias: float64 [C]; `ABSENT` marks a class never seen.
        kind: the method that made it, e.g. "discriminant".
        fingerprint: of the features it reads.
        facts: JSON-able remarks (shrinkage, temperature, rounds...).
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    kind: str
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which classes some hospital showed, bool [C]; a bias below the mark is that of inputs with an offset."""
        return np.asarray(self.weight.any(axis=1) | (self.bias > ABSENT / 2))

    def logits(self, values: NDArray[np.floating[Any]], material: object = None) -> NDArray[np.float64]:
        """Returns float64 [n, C] for features [n, d]; an affine head needs nothing else of the cases."""
        return np.asarray(values, dtype=np.float64) @ self.weight.T + self.bias


@dataclass(frozen=True)
class Packed:
    """A model as it travels and as it is saved: nothing but arrays and flat values.

    Attributes:
        arrays: by name; float64, float32 or int64.
        config: flat values that, with the arrays, rebuild the model.
        facts: JSON-able remarks; saved, not sent.
    """

    arrays: Mapping[str, Array]
    config: Mapping[str, str | int | float | bool]
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """Logits [n, C] with their labels and sites, ready to be judged; never with a patient's identity.

    `group` is an anonymous patient number (int64 [n]) for the cluster bootstrap. Where cases were followed over time,
    `time` (float64 [n]) says when the event of class 1 was seen, or until when it was not. Of a multi-label task the
    logits are log-odds of each finding [n, L], and `labels` (int8 [n, L]) says which are there; see `Examples`.
    """

    logits: NDArray[np.float64]
    label: NDArray[np.int64]
    site: Array
    group: NDArray[np.int64]
    time: NDArray[np.float64] | None = None
    labels: NDArray[np.int8] | None = None


def site_name(text: str) -> str:
    """Returns a hospital's name in the one form in which it is compared and signed: Unicode's composed form (NFC).

    Raises:
        ConfigError: it is not 1 to 80 printable characters, begins or ends with a space, holds a slash or backslash, or
            is "." or "..".

    Example:
        >>> site_name("King's College"), site_name("Klinikum Su\\u0308d")
        ("King's College", 'Klinikum Süd')
    """
    name = unicodedata.normalize("NFC", text)
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise ConfigError(f"the name of a hospital must be 1 to {_LONGEST_NAME} printable characters; rename it")
    if {"/", "\\"} & set(name) or name in (".", ".."):
        raise ConfigError(
            f"the name of a hospital, {name!r}, must not hold a slash or backslash nor be dots; rename it"
        )
    return name


def digest(value: Any) -> str:
    """Returns the SHA-256 hex digest of a JSON-able value, independent of key order."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()
