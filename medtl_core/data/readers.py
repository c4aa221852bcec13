"""The door to readers: how files of each kind become cases, by the word of `--as`.

A new module there, named below, with its `READERS` is a new format; nothing else has to know it. A module is read when
the ones before it do not know a place.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medtl_core.config import Settings
from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.data.task import Statement
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.values import Examples, Task

#: Reader -> its module, in `medtl_core.formats` or a leaf of its own. A place is read by the first one that knows it.
_MODULES = {
    "known": "known",
    "records": "records",
    "dicom": "scans",
    "volumes": "scans",
    "signals": "signals.reader",
    "slides": "scans",
    "notes": "notes.reader",
    "notes+table": "notes.reader",
    "images": "manifest",
    "table": "manifest",
    "images+table": "manifest",
    "arrays": "arrays",
    "folders": "folders",
}
#: Kind of a known set's layout -> the module that reads such, where it is not `known`.
_KNOWN = {"notes": "notes.reader", "signals": "signals.reader"}
#: A note on data that do not say whose each case is.
NO_PATIENTS = "No patient ids: every image counts as one patient."


@dataclass(frozen=True)
class Facts:
    """What a reader knows beside the cases.

    Attributes:
        entry: of the catalog, where it is one of the known sets.
        notes: sentences that a reader of the results should know.
        has_patients: whether the data say whose each case is; else every case counts as one patient.
        columns: names of the columns of `Examples["table"]`, in order, and after them what else an encoder must know of
            all cases alike: of each lead of signals "signal:NAME@HERTZxSAMPLES".
    """

    entry: Entry | None = None
    notes: tuple[str, ...] = ()
    has_patients: bool = True
    columns: tuple[str, ...] = ()


class Reader(ABC):
    """Files of one kind, and how they become cases."""

    #: The word of `--as`.
    name: str

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Returns whether a folder or file is of this kind, by names and headers only."""

    @abstractmethod
    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """Returns all cases of a folder or file, those at fault among them, and what is known beside.

        What is wrong with single cases goes to `faults` by row; such a row holds any valid values. A reader looks at
        every case, guesses no name, and quotes no cell of a patient's. Image files are named in the column `path` and
        opened later.

        Args:
            path: what `matches`.
            task: the agreed or stated classes; None = those found, sorted.
            faults: what was wrong with single cases.

        Raises:
            DataError: it cannot be read as a whole.
        """


def reader_of(path: Path, word: str = "") -> Reader:
    """Returns the reader of a word, or the first one that knows a place.

    Raises:
        ConfigError: no reader has that word.
        DataError: none knows the place.
    """
    if word and word not in _MODULES:
        raise ConfigError(f"{word!r} is no kind of data; {did_you_mean(word, _MODULES)}")
    for reader in _readers(word):
        if word or reader.matches(path):
            return reader
    raise DataError(f"{path} is in no layout that medtl reads; there: {_module('survey').survey(path)}")


def recognise(path: Path, named: Entry | None = None) -> Entry | None:
    """Returns the set that lies in a place, the named one if it does; arguments and errors as in `formats.layouts`."""
    entry: Entry | None = _module("layouts").recognise(path, named)
    return entry


def named_entry(word: str) -> Entry:
    """Returns the known set that the setting `data` names; errors as in `formats.layouts`."""
    entry: Entry = _module("layouts").named_entry(word)
    return entry


def known_reader(entry: Entry) -> Reader:
    """Returns the reader of one set of the catalog."""
    reader: Reader = _module(_KNOWN.get(entry.layout.kind, "known")).known(entry)
    return reader


def own_entry(path: Path, examples: Examples, stated: Statement | None, settings: Settings) -> Entry:
    """Returns the record of data that are not in the catalog; arguments and errors as in `formats.own`."""
    entry: Entry = _module("own").own_entry(path, examples, stated, settings)
    return entry


def overview() -> Any:
    """Returns the module of what only all cases together show; see `formats.overview`."""
    return _module("overview")


def _readers(word: str) -> Iterator[Reader]:
    for name in [word] if word else _MODULES:
        yield from (reader for reader in _module(_MODULES[name]).READERS if reader.name == name)


def _module(name: str) -> Any:
    return importlib.import_module(f"medtl_core.{name if '.' in name else f'formats.{name}'}")
