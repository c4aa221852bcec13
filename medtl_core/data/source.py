"""From settings to cases: a built-in set, or what a reader makes of a folder or file, less the cases at fault."""

import logging
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.catalog import Entry, catalog
from medtl_core.data.faults import Fault, Faults
from medtl_core.data.names import missing
from medtl_core.data.readers import Reader, known_reader, named_entry, overview, own_entry, reader_of, recognise
from medtl_core.data.synthetic.built_in import BUILT_IN
from medtl_core.data.task import MANIFEST, SCHEMA, read_task
from medtl_core.errors import ConfigError, DataError
from medtl_core.rng import stream
from medtl_core.values import Array, Examples

#: Share of the patients held out as test where the data name none.
HELD_OUT = 0.25
_LOG = logging.getLogger("medtl")


@dataclass(frozen=True)
class Source:
    """Cases and what is known about them, by the catalog or, of own data, by `task.json`.

    Attributes:
        notes: sentences that a reader of the results should know.
        has_patients: whether the data say whose each case is; else every case counts as one patient.
        patients: str [m], of all cases that are there, whether or not they can be used.
        columns: see `Facts`.
        faults: what cost cases that are not among the examples. It stays in the building.
    """

    entry: Entry
    examples: Examples
    notes: tuple[str, ...] = ()
    has_patients: bool = True
    patients: Array = field(default_factory=lambda: np.zeros(0, np.str_))
    columns: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def open_source(settings: Settings, faults: Faults | None = None, word: str = "") -> Source:
    """Returns the cases `settings` name, less those at fault; no image file is opened yet.

    `data` names a catalog entry, or is "" to recognise `data_path`. A name beside a folder with `manifest.csv` takes
    the task and views of that entry and the cases of the manifest: so hospitals that own parts of one set agree on
    its classes. Where the data name no test case and no `test_path` is given, a quarter of the patients of every site
    is held out, the same ones for every seed.

    Args:
        settings: of the run.
        faults: where cases at fault are told, however many; None = more than `faults.LIMIT` of them are refused.
        word: of the reader; "" = the one that knows the place.

    Raises:
        ConfigError: the data are not named, or by an unknown name.
        DataError: the data are missing, not recognised or unusable.
    """
    named = _named(settings)
    if settings.data_path:
        path, seen = Path(settings.data_path), Faults() if faults is None else faults
        source = read_cases(path, named, settings, seen, word)
        rows = seen.usable(len(source.examples))
        doubts = overview().look_over(source.examples.take(rows), source.columns, read_task(path), seen, rows)
        if faults is None:
            seen.check(str(path), len(source.examples), source.examples["site"])
        left = source.examples.take(seen.usable(len(source.examples)))
        if "note_group" in left.columns:  # patients who share a note; under privacy nobody is joined to another
            left = replace(left, columns={**left.columns, "patient": left["note_group"]})
        source = replace(source, examples=left, faults=seen.causes, notes=(*source.notes, *doubts))
    elif settings.data in BUILT_IN:
        entry = catalog()[settings.data]
        source = Source(entry, BUILT_IN[settings.data](settings), (entry.note,), columns=entry.layout.leads)
    elif settings.data:
        raise ConfigError(f"data={settings.data!r} needs data-path, the folder where the set lies")
    else:
        raise ConfigError("no data named: set data to a catalog name, or data-path to a folder or file")
    if not len(source.examples):
        raise DataError(f"{settings.data_path} holds no case that can be used")
    return source if settings.test_path or (source.examples["split"] == "test").any() else _hold_out(source)


def private_source(settings: Settings) -> Source:
    """Returns the training cases of a hospital that owns its data, as private sums read them.

    Nothing is held out but what a split column says, no setting chooses cases, and a case that cannot be read is left
    out and logged, however many there are. Image files are looked at by `Material.readable`, not here.

    Guarantee:
        Unit: patient. Which of a patient's cases are returned, and with which label, depends on their own rows, on
        `settings` and on what the folder says of all cases (file names, header, `task.json`); so does a refusal on the
        latter two only. Public: nothing; no text of an error or of the log leaves the hospital.

    Raises:
        ConfigError: the data are named by an unknown name.
        DataError: the file as a whole is missing or unusable, or the classes are not stated, or two ways.
    """
    path, named, faults = Path(settings.data_path), _named(settings), Faults()
    source = read_cases(path, named, settings, faults)
    if not (named or source.entry.files or read_task(path)):  # all rows' labels would say what every single one means
        raise DataError(f"{path}: the classes are not stated; list them in task.json")
    for fault in faults.causes:
        _LOG.warning("left out: %s", fault, extra={"fault": fault})
    trains, everyone = source.examples["split"] != "test", source.examples["patient"]
    trains[faults.rows] = False
    return replace(source, examples=source.examples.take(trains), patients=everyone[~missing(everyone)])


def _named(settings: Settings) -> Entry | None:
    """The catalog's entry that settings name."""
    return named_entry(settings.data) if settings.data else None


def read_cases(path: Path, named: Entry | None, settings: Settings, faults: Faults, word: str = "") -> Source:
    """Returns all cases of a place, those at fault among them; for errors see `open_source`."""
    if not path.exists():
        raise DataError(f"data-path {path} does not exist")
    stated = read_task(path)
    task = named.task if named else stated.task if stated else None
    examples, facts = (reader_of(path, word) if word else _reader(path, named, settings)).read(path, task, faults)
    entry = facts.entry or named or own_entry(path, examples, stated, settings)
    if stated and stated.task.agreed != entry.task.agreed:
        raise DataError(f"task.json at {path} states other classes than {entry.name!r} has; leave one of them out")
    notes = facts.notes or ((entry.note,) if entry.note else ())
    return Source(entry, examples, notes, facts.has_patients, columns=facts.columns)


def _reader(path: Path, named: Entry | None, settings: Settings) -> Reader:
    if (path.parent / SCHEMA).is_file() or (path / SCHEMA).is_file():
        records = reader_of(path, "records")
        if records.matches(path):
            return records
    csv = path.suffix.lower() == ".csv" or (path / MANIFEST).is_file()
    known = None if csv and path.is_dir() else recognise(path, named)
    if known and named in (None, known):
        return known_reader(known)
    if named and not csv:
        wanted = " or ".join([MANIFEST, *named.files])
        raise DataError(f"{path} does not hold {named.name}: expected {wanted}; set data='' to recognise it")
    kinds = settings.kinds
    word = "table" if kinds == {"table"} else "images+table" if kinds == {"image", "table"} else ""
    word = "signals" if "signal" in kinds else "notes" + "+table" * ("table" in kinds) if "text" in kinds else word
    return reader_of(path, word if csv else "")


def _hold_out(source: Source) -> Source:
    """Marks a quarter of the patients of every site and class as test."""
    examples = source.examples
    _, first, code = np.unique(examples["patient"], return_index=True, return_inverse=True)
    held = np.zeros(len(first), dtype=bool)
    places, label = examples["site"][first], examples["label"][first]
    for site, number in product(np.unique(places).tolist(), range(len(examples.task.classes))):
        patients = np.flatnonzero((places == site) & (label == number))
        count = int(len(patients) * HELD_OUT + 0.5) if len(patients) > 1 else 0
        held[stream(0, "hold-out", site, number).permutation(patients)[:count]] = True
    split = np.where(held[code], "test", examples["split"])
    note = f"No test split in the data: {HELD_OUT:.0%} of the patients of every site are held out."
    columns = {**examples.columns, "split": split}
    return replace(source, examples=Examples(columns, examples.task), notes=(*source.notes, note))
