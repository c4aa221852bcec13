"""Signals as cases: a CSV that names files or holds samples, one npz file with all, and known sets of that kind."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np

from medtl_core.data.catalog import Entry, Layout
from medtl_core.data.faults import Faults
from medtl_core.data.names import missing
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import MANIFEST
from medtl_core.errors import DataError
from medtl_core.formats.arrays import array_names, load_npz, roles
from medtl_core.formats.manifest import Manifest
from medtl_core.formats.numbers import number
from medtl_core.formats.single import read_each
from medtl_core.formats.table import read_header
from medtl_core.signals.wave import FORM, Agreement, agree, in_mv, of_row, read_wave, whole_signal
from medtl_core.values import Array, Examples, Task

#: The column of a manifest that names files of signals, and the arrays of an own npz file.
COLUMN = "signal"
#: What people call the column `rate`.
_RATES = re.compile(r"(samp(le|ling)?)?(rates?|freq(uency)?|fs|sr)(in)?(k?hz)?|k?hz|abtast(rate|frequenz)(hz)?")
OWN = Layout("signals", "label", "patient", "site", "split", "signals")


class Signals(Reader):
    """A CSV with `task.json` beside it, one npz file with an array `signals`, or an entry of the catalog."""

    name = "signals"

    def __init__(self, entry: Entry | None = None) -> None:
        self.entry = entry

    def matches(self, path: Path) -> bool:
        """See `Reader`: without a column of files, `task.json` says that rows are signals."""
        if path.suffix.lower() == ".npz" and path.is_file():
            return OWN.image in array_names(path)
        header = read_header(_csv(path)) if _csv(path).suffix.lower() == ".csv" else []
        return COLUMN in header or (bool(header) and Agreement.stated(_csv(path).parent) is not None)

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the task of a known set is the catalog's."""
        if self.entry:
            file = path / self.entry.files[0] if path.is_dir() else path
            examples, facts = _arrays(file, self.entry.layout, self.entry.task, faults)
            return examples, replace(facts, entry=self.entry, notes=(self.entry.note,), has_patients=True)
        one = path.suffix.lower() == ".npz"
        return _arrays(path, OWN, task, faults) if one else _manifest(_csv(path), task, faults)


def _csv(path: Path) -> Path:
    return path / MANIFEST if path.is_dir() else path


def _manifest(file: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
    """The cases of a CSV whose column `signal` names files, or whose columns that are no role are samples in order."""
    header, agreed = read_header(file), Agreement.stated(file.parent)
    if agreed is None:
        raise DataError(f"{file.parent}: task.json must say on what the hospitals agree: {FORM}")
    near = [name for name in header if _RATES.fullmatch(re.sub("[^a-z]", "", name.lower()))]
    if near and "rate" not in header:
        raise DataError(f"{file.name}: column {near[0]!r} looks like 'rate'; rename it to 'rate', or otherwise")
    rows = COLUMN not in header
    examples, facts = Manifest("signals", images=False, numbers=rows).read(file, task, faults)
    columns = dict(examples.columns)
    table = columns.pop("table", np.zeros((0, 0)))
    rates = columns.pop("rate", np.full(len(examples), ""))
    rates = table[:, facts.columns.index("rate")] if "rate" in facts.columns else rates
    kinds = Counter(re.sub(r"\d+", "", name) for name in facts.columns)
    odd = [name for name in facts.columns if kinds[name] == 1 and name != "rate"] if rows else []
    if odd and 2 * len(kinds) < len(facts.columns):
        raise DataError(f"{file.name}: the column {odd[0]!r} is called as no sample is; leave it out, or number it")
    samples = [facts.columns.index(name) for name in header if name in facts.columns and name != "rate"]

    def wave(row: int) -> Array:
        rate = number(str(rates[row]), comma=False)
        if np.isinf(rate) or rate <= 0:
            raise DataError("column 'rate' holds no number of samples a second, such as 250")
        place = None if rows else file.parent / columns[COLUMN][row]
        found = read_wave(place) if place else of_row(table[row, samples], agreed)
        return agree(found, agreed, float(np.nan_to_num(rate)))

    waves = _signals(len(examples), wave, agreed, faults)
    return Examples({**columns, "signal": waves}, examples.task), replace(facts, columns=agreed.columns)


def _arrays(path: Path, layout: Layout, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
    """The cases of an npz file with signals [n, t] or [n, t, leads], labels, `fs` and perhaps `lead_names`."""
    more = filter(None, (layout.patient, layout.site, layout.split))
    arrays = load_npz(path, (layout.image, layout.label, "fs"), ("lead_names", "units", *more))
    values, fs = arrays[layout.image], arrays["fs"]
    if values.ndim not in (2, 3) or values.dtype.kind not in "iuf" or min(values.shape[1:], default=0) < 1:
        raise DataError(f"{path}: signals are {values.dtype} {values.shape}; numbers [n, t] or [n, t, leads] are read")
    waves = values.reshape(*values.shape[:2], -1).astype(np.float32) / np.float32(layout.scale)
    names = arrays.get("lead_names", np.arange(1, waves.shape[2] + 1)).astype(str).tolist()
    units = in_mv(arrays.get("units", np.zeros(0)).reshape(-1)) or [1.0]
    if len(names) != waves.shape[2] or fs.size != 1 or not fs > 0 or len(units) not in (1, len(names)):
        raise DataError(f"{path}: lead_names must name each lead, units all or each, and fs be one rate in Hz")
    waves *= np.asarray(units, np.float32)
    agreed = Agreement(float(fs.reshape(())), waves.shape[1], tuple(names))
    waves = _signals(len(waves), lambda row: whole_signal(waves[row]), agreed, faults)
    said = [layout.labels.get(word, word) for word in arrays[layout.label].astype(str).tolist()]
    empty = missing(np.asarray(said, np.str_))
    faults.case(np.flatnonzero(empty), "the label is empty or NaN", "fill it, or leave the signal out")
    task = task or Task(path.stem, tuple(sorted({*compress(said, ~empty)})))
    strange = [row for row, word in enumerate(said) if word not in task.classes and not empty[row]]
    faults.case(strange, "the label is no class of the task", "mend the labels or task.json")
    number_of = {word: number for number, word in enumerate(task.classes)}
    label = np.asarray([number_of.get(word, 0) for word in said], np.int64)
    columns = {"label": label, **roles(path, arrays, layout, len(waves)), "signal": waves}
    stated = layout.patient in arrays
    return Examples(columns, task), Facts(None, () if stated else (NO_PATIENTS,), stated, agreed.columns)


def _signals(count: int, read: Callable[[int], Array], agreed: Agreement, faults: Faults) -> Array:
    """All signals, [n, t, leads]; one that cannot be read is at fault, and flat."""
    found = read_each(count, read, faults, "export it anew, or leave it out")
    blank = np.zeros((agreed.samples, len(agreed.leads)))
    return np.asarray([found.get(row, blank) for row in range(count)], np.float32).reshape(count, *blank.shape)


READERS, known = (Signals(),), Signals
