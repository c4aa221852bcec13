"""Signals as cases: a manifest beside files of signals, one npz file with all of them, and known sets of that kind."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.catalog import Entry, Layout
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names, one_patient_each, plain_names
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.arrays import array_names, load_npz
from medtl_core.formats.findings import diagnoses, diagnosis_columns
from medtl_core.formats.manifest import image_files
from medtl_core.formats.table import SPLITS, read_csv, read_header, require, splits
from medtl_core.signals.wave import Agreement, agree, read_wave, whole_signal
from medtl_core.values import Array, Examples, Task

#: The column of a manifest that names files of signals, and the arrays of an own npz file.
COLUMN = "signal"
OWN = Layout("signals", "label", "patient", "site", "split", "signals")
_OPTIONAL = ("patient_id", "site", "split", "rate")


class Signals(Reader):
    """`manifest.csv` with a column `signal` and `task.json` beside it, or one npz file with an array `signals`."""

    name = "signals"

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        if path.suffix.lower() == ".npz" and path.is_file():
            return OWN.image in array_names(path)
        file = path / MANIFEST if path.is_dir() else path
        return file.is_file() and file.suffix.lower() == ".csv" and COLUMN in read_header(file)

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`. Columns that are no role are kept as text."""
        if path.suffix.lower() == ".npz":
            return read_arrays_of(path, OWN, task, faults)
        file = path / MANIFEST if path.is_dir() else path
        agreed = Agreement.stated(file.parent)
        if agreed is None:
            form = '"signal": {"rate": 250, "seconds": 10, "leads": ["I", "II"]}'
            raise DataError(f"{file.parent}: task.json must say on what the hospitals agree: {form}")
        table = read_csv(file, faults)
        require(table, (COLUMN, *diagnosis_columns(table.columns, task)), _OPTIONAL)
        told, task = diagnoses(table, task)
        paths = image_files(table, COLUMN, file.parent)
        rates = table.numbers("rate") if "rate" in table.columns else np.zeros(len(table))
        stated = "patient_id" in table.columns
        whose = one_patient_each(table.names("patient_id")) if stated else table.row_names()
        waves = np.zeros((len(table), agreed.samples, len(agreed.leads)), np.float32)
        for row in faults.usable(len(table)).tolist():
            try:
                waves[row] = agree(read_wave(Path(paths[row])), agreed, float(np.nan_to_num(rates[row])))
            except DataError as error:
                cause = str(error).removeprefix(f"{paths[row]}: ").replace(f"{paths[row]} ", "the file ")
                faults.case(row, cause, "export it anew, or leave it out")
        columns: dict[str, Array] = {
            **told,
            "patient": whose,
            "site": hospital_names(table.names("site", "site")),
            "split": splits(table, "split"),
            "signal": waves,
        }
        free = table.others({COLUMN, *diagnosis_columns(table.columns, task), *_OPTIONAL, *columns})
        notes = table.notes if stated else (*table.notes, NO_PATIENTS)
        return Examples({**columns, **free}, task), Facts(None, notes, stated, agreed.columns)


class KnownSignals(Reader):
    """A set of the catalog whose signals lie in one npz file."""

    name = "known"

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        return (path / self.entry.files[0]).is_file()

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the task is the catalog's."""
        file = path / self.entry.files[0] if path.is_dir() else path
        examples, facts = read_arrays_of(file, self.entry.layout, self.entry.task, faults)
        return examples, replace(facts, entry=self.entry, notes=(self.entry.note,), has_patients=True)


def read_arrays_of(path: Path, layout: Layout, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
    """Returns the cases of an npz file with signals [n, t] or [n, t, leads], labels, `fs` and perhaps `lead_names`.

    Args:
        path: of the file.
        layout: names of its arrays; what it says of a split may be a word or whether a case is held out.
        task: the agreed classes; None = those found, sorted.
        faults: cases with gaps, or without a class.

    Raises:
        DataError: the file is damaged, too large, or its arrays do not fit together.
    """
    roles = {"patient": layout.patient, "site": layout.site, "split": layout.split}
    arrays = load_npz(path, (layout.image, layout.label, "fs"), ("lead_names", *filter(None, roles.values())))
    values = arrays[layout.image]
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf" or min(values.shape[1:], default=0) < 1:
        raise DataError(f"{path}: signals are {values.dtype} {values.shape}; numbers [n, t] or [n, t, leads] are read")
    waves = values.reshape(*values.shape[:2], -1).astype(np.float32) / np.float32(layout.scale)
    names = _texts(arrays["lead_names"]) if "lead_names" in arrays else [f"{k + 1}" for k in range(waves.shape[2])]
    if len(names) != waves.shape[2] or arrays["fs"].size != 1:
        raise DataError(f"{path}: lead_names must name each lead, and fs be one rate in Hz")
    agreed = Agreement(float(arrays["fs"].reshape(())), waves.shape[1], tuple(names))
    for row in np.flatnonzero(~np.isfinite(waves).all(axis=(1, 2))).tolist():
        try:
            waves[row] = whole_signal(waves[row])
        except DataError as error:
            faults.case(row, str(error), "leave it out")
            waves[row] = 0.0
    said = [layout.labels.get(word, word) for word in _texts(arrays[layout.label])]
    task = task or Task(path.stem, tuple(sorted({*said})))
    known = np.asarray([word in task.classes for word in said])
    faults.case(np.flatnonzero(~known), "the label is no class of the task", "mend the labels or task.json")
    columns = {
        "label": np.asarray([task.classes.index(word) if word in task.classes else 0 for word in said], np.int64),
        "patient": one_patient_each(_role(arrays, roles["patient"], np.arange(len(waves)))),
        "site": hospital_names(_role(arrays, roles["site"], np.full(len(waves), path.stem.split("_")[0]))),
        "split": _split(_role(arrays, roles["split"], np.full(len(waves), "train")), path),
        "signal": waves,
    }
    stated = roles["patient"] in arrays
    return Examples(columns, task), Facts(None, () if stated else (NO_PATIENTS,), stated, agreed.columns)


def _texts(values: Array) -> list[str]:
    return [str(value) for value in values.tolist()]


def _role(arrays: Mapping[str, Any], name: str, otherwise: Array) -> Array:
    return plain_names(np.asarray(_texts(arrays.get(name, otherwise)), np.str_))


def _split(words: Array, path: Path) -> Array:
    held = {"True": "test", "False": "train", "1": "test", "0": "train", **{word: word for word in SPLITS}}
    if not {*words.tolist()} <= held.keys():
        raise DataError(f"{path}: the split is one of {', '.join(SPLITS)}, or whether a case is held out")
    return np.asarray([held[word] for word in words.tolist()], np.str_)


READERS, known = (Signals(),), KnownSignals
