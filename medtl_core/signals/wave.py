"""Files of signals, brought to the agreed rate, length and leads.

A header is believed as far as what is stated and the file's length agree with it; its comments, which name patients,
are not read.
"""

import json
import re
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.faults import Faults
from medtl_core.data.task import TASK
from medtl_core.errors import ConfigError, DataError
from medtl_core.formats.arrays import load_npz
from medtl_core.formats.table import read_csv

Wave = NDArray[np.float64]

SUFFIXES = (".hea", ".csv", ".npz", ".wav")
#: A column of a file that says when.
_TIME = re.compile(r"(time|t|timestamps?|seconds?)([ _]?[(\[]?(s|sec|ms|us|seconds)[)\]]?)?")
#: What `task.json` says of signals.
FORM = '"signal": {"rate": 250, "seconds": 10, "leads": ["I", "II"]}'
#: Share of a lead's samples that may be missing; they are interpolated. Share of the length that must be there; the
#: rest is mirrored. Rates that differ by less than a thousandth are one.
GAP, SHORTEST, _SAME_RATE = 0.05, 0.5, 1e-3
#: Steps of time may be in seconds, milliseconds or microseconds, and are rounded.
_UNITS, _SAME_STEP, _UNEVEN = (1.0, 1e3, 1e6), 0.01, 0.025
#: What a voltage's unit is in mV; how a column's name states it: "II (uV)", "II/mV", "II_uV".
_MILLIVOLTS = {**dict.fromkeys(("uv", "\u00b5v", "\u03bcv", "microvolt", "microvolts"), 1e-3), "nv": 1e-6, "v": 1e3}
_NAMED = re.compile(r"(.+?)\s*(?:[\[(]\s*([num\u00b5\u03bc]?v)\s*[\])]|[/_ ]\s*([num\u00b5\u03bc]v))", re.IGNORECASE)
#: A line of a WFDB header whose gain is 0.
_NO_GAIN = re.compile(r"^[^#\s]\S*\s+\S+\s+0(?:\.0*)?(?=[\s(/])(?!\s+\d+\s*$)", re.MULTILINE)
#: How many times denser a signal may become: more would be invented.
_MOST_BETWEEN = 10
#: A larger number is no measurement, and no longer record is read.
_LARGEST, _LONGEST = 1e12, 1 << 26


@dataclass(frozen=True)
class Agreement:
    """What all hospitals' signals have in common: rate in Hz, samples of each lead, and the leads' names in order."""

    rate: float
    samples: int
    leads: tuple[str, ...]

    @classmethod
    def stated(cls, folder: Path) -> Self | None:
        """Returns what `task.json` in a folder says of signals; None = nothing. Other than `FORM` is a `DataError`."""
        try:
            stated = json.loads((folder / TASK).read_text(encoding="utf-8-sig"))
        except (FileNotFoundError, ValueError, RecursionError):  # what is no JSON `read_task` refuses
            return None
        try:
            said = stated.get("signal") if isinstance(stated, dict) else None
            if said is None:
                return None
            agreed = cls(float(said["rate"]), round(said["rate"] * said["seconds"]), tuple(map(str, said["leads"])))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            agreed = cls(0.0, 0, ())
        if not (0 < agreed.rate < np.inf and 8 <= agreed.samples <= _LONGEST and agreed.leads):
            raise DataError(f"{folder / TASK} must say of signals {FORM}: a rate above 0, from 8 samples on, a lead")
        return agreed

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Facts.columns`."""
        return tuple(f"signal:{lead}@{self.rate:g}x{self.samples}" for lead in self.leads)

    @classmethod
    def of(cls, columns: Sequence[str]) -> Self:
        """Returns what `Facts.columns` say; that they name no lead is a `ConfigError`."""
        mine = [name.removeprefix("signal:").rpartition("@") for name in columns if name.startswith("signal:")]
        if not mine:
            raise ConfigError("the cases hold no signals; set backbone to what reads them, e.g. lite0")
        rate, _, samples = mine[0][2].partition("x")
        return cls(float(rate), int(samples), tuple(lead for lead, _, _ in mine))


@dataclass(frozen=True)
class Recorded:
    """What a file holds: values [t, leads]; a rate of 0, no leads and no step of time where it does not say them."""

    values: Wave
    rate: float = 0.0
    leads: tuple[str, ...] = ()
    step: float = 0.0


def read_wave(path: Path) -> Recorded:
    """Returns what a file holds.

    Raises:
        DataError: it cannot be read, or its header does not fit it; the text does not name the file.
    """
    readers = {".hea": _wfdb, ".csv": _csv, ".npz": _npz, ".wav": _wav}
    if path.suffix.lower() not in readers:
        raise DataError(f"not a kind of signal file that is read ({', '.join(SUFFIXES)})")
    try:
        found = readers[path.suffix.lower()](path)
    except DataError as error:
        raise DataError(str(error).removeprefix(f"{path}: ").replace(f"{path} ", "the file ")) from None
    if found.values.ndim != 2 or not found.values.size:
        raise DataError("the file holds no sample")
    return found


def of_row(samples: Wave, agreed: Agreement) -> Recorded:
    """Returns a signal whose samples stand in one row: all of the first agreed lead, then of the next."""
    if not samples.size or samples.size % len(agreed.leads):
        raise DataError(f"{samples.size} samples do not part into {len(agreed.leads)} leads")
    return Recorded(samples.reshape(len(agreed.leads), -1).T)


def agree(found: Recorded, agreed: Agreement, rate: float = 0.0) -> NDArray[np.float32]:
    """Returns the agreed leads at the agreed rate and length, float32 [samples, leads].

    Gaps are filled as by `whole_signal`. Another rate is resampled by a polyphase filter
    (`scipy.signal.resample_poly`). Of a longer signal the middle is kept, and one of at least half the length is
    mirrored at its end. `rate` is stated beside the file, in Hz; 0 = it is not.

    Raises:
        DataError: a lead or the rate is missing or stated two ways, or there are too few samples.
    """
    if rate and found.rate and abs(rate - found.rate) > _SAME_RATE * rate:
        raise DataError(f"the header says {found.rate:g} Hz where {rate:g} Hz are stated")
    here = found.rate or rate or agreed.rate
    if found.step and not any(abs(found.step * here / unit - 1) < _SAME_STEP for unit in _UNITS):
        raise DataError(
            f"its column of time has a step of {found.step:g}, which is not that of {here:g} Hz; state a rate"
        )
    names = [name.strip().casefold() for name in found.leads or agreed.leads]
    if found.values.shape[1] != len(names):
        raise DataError(f"{found.values.shape[1]} leads where {len(names)} are expected")
    gone = [lead for lead in agreed.leads if lead.strip().casefold() not in names]
    if gone:
        raise DataError(f"lead {gone[0]!r} is missing")
    whole = whole_signal(found.values[:, [names.index(lead.strip().casefold()) for lead in agreed.leads]])
    if abs(here - agreed.rate) > _SAME_RATE * agreed.rate:
        from scipy.signal import resample_poly

        ratio = Fraction(agreed.rate / here).limit_denominator(10_000)
        if not 1e-3 <= ratio <= _MOST_BETWEEN or max(ratio.numerator, ratio.denominator) > 10_000:
            raise DataError(f"{here:g} Hz cannot be resampled to {agreed.rate:g} Hz; are samples a second stated?")
        whole = resample_poly(whole, ratio.numerator, ratio.denominator, axis=0, padtype="line")
    spare = len(whole) - agreed.samples
    if len(whole) < SHORTEST * agreed.samples:
        raise DataError(f"{len(whole)} samples where {agreed.samples} are agreed: less than half")
    cut = whole[spare // 2 :][: agreed.samples] if spare > 0 else np.pad(whole, ((0, -spare), (0, 0)), "symmetric")
    return cut.astype(np.float32)


def whole_signal(values: Wave) -> Wave:
    """Returns a signal [t, leads] whose gaps are interpolated linearly; more than `GAP` of a lead is a `DataError`."""
    filled, time = np.array(values, np.float64), np.arange(len(values))
    there = np.abs(filled) <= _LARGEST
    if (there.mean(axis=0) < 1 - GAP).any():
        raise DataError(f"more than {GAP:.0%} of a lead is missing, or too large to be measured")
    for lead in np.flatnonzero(~there.all(axis=0)):
        filled[:, lead] = np.interp(time, time[there[:, lead]], filled[there[:, lead], lead])
    return filled


def _wfdb(path: Path) -> Recorded:
    try:
        import wfdb
    except ImportError as error:
        raise ConfigError("WFDB records need the package wfdb: pip install 'medtl[signals]'") from error
    name = str(path.with_suffix(""))
    try:
        header = wfdb.rdheader(name)
        files, length = {*header.file_name}, int(header.sig_len) * int(header.n_sig)
        _check_files(path, files, length)
        record = wfdb.rdrecord(name, physical=False)
        sums = zip(header.checksum, record.calc_checksum(), strict=True)
        damaged = any(stated and (stated - found) % (1 << 16) for stated, found in sums)
        values = np.asarray(record.dac(), np.float64) * in_mv(record.units)
    except DataError:
        raise
    except Exception as error:  # wfdb raises whatever its parser meets
        raise DataError("not a readable WFDB record: cut off, damaged, or of several segments") from error
    if damaged:
        raise DataError("its samples do not fit the header's checksum: damaged, or another record's")
    return Recorded(values, float(record.fs), tuple(map(str, record.sig_name)))


def _check_files(path: Path, files: Collection[str], length: int) -> None:
    """Refuses a header that names other than whole files beside it, or calls a lead not calibrated by a gain of 0."""
    if not all(Path(file).name == file and not file.startswith("~") for file in files):
        raise DataError("its header names files elsewhere")
    if gone := [file for file in files if not (path.parent / file).is_file()]:
        raise DataError(f"{len(gone)} of the files that its header names are not beside it")
    if not 0 < length <= min(2 * sum((path.parent / file).stat().st_size for file in files), _LONGEST):
        raise DataError("its header states more samples than its files hold, or none")
    if _NO_GAIN.search(path.read_text(encoding="latin-1")):
        raise DataError("its header states a gain of 0, so that nobody knows its unit; export it with its gain")


def in_mv(units: Iterable[object]) -> list[float]:
    """Returns what each unit is in mV; 1 of any that is none of a voltage."""
    return [_MILLIVOLTS.get(str(unit).strip().lower(), 1.0) for unit in units]


def _csv(path: Path) -> Recorded:
    table = read_csv(path, faults := Faults())
    times = [name for name in table.columns if _TIME.fullmatch(name.strip().casefold())]
    names = [name for name in table.columns if name not in times]
    values = np.stack([table.numbers(name) for name in names], axis=1) if names else np.zeros((0, 0))
    if faults.causes:
        places = ", ".join(map(str, faults.causes[0].places[:3]))
        raise DataError(f"a cell holds no number, or a row is broken{places and ', as its '}{places}")

    def line(row: int) -> int:
        return int(str(faults.place(row)).split()[-1])

    if len(table) > 1 and line(-1) - line(0) not in (len(table) - 1, 2 * len(table) - 2):  # a blank line is a gap
        dense, values = values, np.full((line(-1) - line(0) + 1, len(names)), np.nan)
        values[[line(row) - line(0) for row in range(len(table))]] = dense
    named = [(told[1], told[2] or told[3]) if (told := _NAMED.fullmatch(name)) else (name, "") for name in names]
    leads, units = zip(*named, strict=True) if named else ((), ())
    return Recorded(values * in_mv(units), leads=leads, step=_step(table.parsed(times[0])) if times else 0.0)


def _step(times: Wave) -> float:
    """The step of a column of time; 0 = it holds no numbers, such as times of day."""
    if len(times) < 2 or np.isinf(times).all():
        return 0.0
    length = float(times[-1] - times[0])
    even = np.linspace(times[0], times[-1], len(times))
    if not (np.diff(times).min() >= 0 < length and np.abs(times - even).max() <= _UNEVEN * length):
        raise DataError("its column of time does not go on evenly: samples are missing, or in another order")
    return length / (len(times) - 1)


def _npz(path: Path) -> Recorded:
    arrays = load_npz(path, ("signal", "fs"), ("lead_names", "units"))
    values, fs = arrays["signal"], arrays["fs"]
    if values.dtype.kind not in "iuf" or fs.size != 1 or fs.dtype.kind not in "iuf" or not fs > 0:
        raise DataError("signal must hold numbers [t] or [t, leads], and fs one rate in Hz")
    leads, units = tuple(map(str, arrays.get("lead_names", ()))), arrays.get("units", np.zeros(0)).reshape(-1)
    waves = values.reshape(len(values), -1).astype(np.float64)
    if len(units) not in (0, 1, waves.shape[1]):
        raise DataError("units must name the unit of all leads, or of each")
    return Recorded(waves * (in_mv(units) or 1.0), float(fs.reshape(())), leads)


def _wav(path: Path) -> Recorded:
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings(action="error"):  # of a header that states more data than there is
            rate, values = wavfile.read(path)
    except Exception as error:
        raise DataError("not a readable WAV file; export it anew") from error
    scale = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    centre = 128.0 if values.dtype == np.uint8 else 0.0  # WAV of 8 bits is without a sign
    waves = values.reshape(len(values), -1).astype(np.float64) - centre
    return Recorded(waves / (scale - centre), float(rate))
