"""Files of signals: WFDB records, CSV, npz and WAV, brought to the agreed rate, length and leads.

A header is believed only as far as it agrees with what is stated and with the length of the file. Comments of a header,
which name patients, are not read.
"""

import json
from collections.abc import Sequence
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
#: Share of a lead's samples that may be missing; they are interpolated. Share of the length that must be there; the
#: rest is mirrored. Rates that differ by less than a thousandth are one.
GAP, SHORTEST, _SAME_RATE = 0.05, 0.5, 1e-3
#: A larger number is no measurement, and no longer record is read.
_LARGEST, _LONGEST = 1e12, 1 << 26


@dataclass(frozen=True)
class Agreement:
    """What all hospitals' signals have in common.

    Attributes:
        rate: samples a second, in Hz.
        samples: of each lead.
        leads: names, in order.
    """

    rate: float
    samples: int
    leads: tuple[str, ...]

    @classmethod
    def stated(cls, folder: Path) -> Self | None:
        """Returns what `task.json` in a folder says under "signal": rate (Hz), seconds and leads; None = nothing.

        Raises:
            DataError: it says something else.
        """
        try:
            said = json.loads((folder / TASK).read_text(encoding="utf-8-sig")).get("signal")
            if said is None:
                return None
            agreed = cls(float(said["rate"]), round(said["rate"] * said["seconds"]), tuple(map(str, said["leads"])))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
            form = '"signal": {"rate": 250, "seconds": 10, "leads": ["I", "II"]}'
            raise DataError(f"{folder / TASK} must say of signals {form}") from error
        if not (0 < agreed.rate < np.inf and 8 <= agreed.samples <= _LONGEST and agreed.leads):
            raise DataError(f"{folder / TASK}: signals need a rate above 0, a lead, and from 8 samples on")
        return agreed

    @property
    def columns(self) -> tuple[str, ...]:
        """See `Facts.columns`."""
        return tuple(f"signal:{lead}@{self.rate:g}x{self.samples}" for lead in self.leads)

    @classmethod
    def of(cls, columns: Sequence[str]) -> Self:
        """Returns what `Facts.columns` say.

        Raises:
            ConfigError: they name no lead.
        """
        mine = [name.removeprefix("signal:").rpartition("@") for name in columns if name.startswith("signal:")]
        if not mine:
            raise ConfigError("the cases hold no signals; set backbone to what reads them, e.g. lite0")
        rate, _, samples = mine[0][2].partition("x")
        return cls(float(rate), int(samples), tuple(lead for lead, _, _ in mine))


@dataclass(frozen=True)
class Recorded:
    """What a file holds: values [t, leads]; a rate of 0 and no leads where it does not say them."""

    values: Wave
    rate: float = 0.0
    leads: tuple[str, ...] = ()


def read_wave(path: Path) -> Recorded:
    """Returns what a file holds.

    Raises:
        DataError: it cannot be read, or its header does not fit it.
    """
    readers = {".hea": _wfdb, ".csv": _csv, ".npz": _npz, ".wav": _wav}
    if path.suffix.lower() not in readers:
        raise DataError(f"not a kind of signal file that is read ({', '.join(SUFFIXES)})")
    found = readers[path.suffix.lower()](path)
    if found.values.ndim != 2 or not found.values.size:
        raise DataError("the file holds no sample")
    return found


def agree(found: Recorded, agreed: Agreement, rate: float = 0.0) -> NDArray[np.float32]:
    """Returns the agreed leads at the agreed rate and length, float32 [samples, leads].

    Gaps of at most a twentieth of a lead are interpolated linearly. Another rate is resampled by a polyphase filter
    (`scipy.signal.resample_poly`). Of a longer signal the middle is kept, and one of at least half the length is
    mirrored at its end.

    Args:
        found: what the file holds.
        agreed: what all signals have in common.
        rate: stated beside the file, in Hz; 0 = it is not.

    Raises:
        DataError: a lead or the rate is missing or stated two ways, or there are too few samples.
    """
    if rate and found.rate and abs(rate - found.rate) > _SAME_RATE * rate:
        raise DataError(f"the header says {found.rate:g} Hz where {rate:g} Hz are stated")
    here = found.rate or rate or agreed.rate
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
        if not 1e-3 <= ratio <= 1e3 or max(ratio.numerator, ratio.denominator) > 10_000:
            raise DataError(f"{here:g} Hz cannot be resampled to {agreed.rate:g} Hz")
        whole = resample_poly(whole, ratio.numerator, ratio.denominator, axis=0, padtype="line")
    spare = len(whole) - agreed.samples
    if len(whole) < SHORTEST * agreed.samples:
        raise DataError(f"{len(whole)} samples where {agreed.samples} are agreed: less than half")
    cut = whole[spare // 2 :][: agreed.samples] if spare > 0 else np.pad(whole, ((0, -spare), (0, 0)), "symmetric")
    return cut.astype(np.float32)


def whole_signal(values: Wave) -> Wave:
    """Returns a signal [t, leads] without gaps.

    Raises:
        DataError: more than a twentieth of a lead is missing, or values are too large.
    """
    values = np.asarray(values, np.float64)
    gap = ~np.isfinite(values)
    if (gap.mean(axis=0) > GAP).any():
        raise DataError(f"more than {GAP:.0%} of a lead is missing")
    if (np.abs(values[~gap]) > _LARGEST).any():
        raise DataError("values are too large to be measured")
    if not gap.any():
        return values
    time, filled = np.arange(len(values)), values.copy()
    for lead in np.flatnonzero(gap.any(axis=0)):
        missing = gap[:, lead]
        filled[missing, lead] = np.interp(time[missing], time[~missing], values[~missing, lead])
    return filled


def _wfdb(path: Path) -> Recorded:
    try:
        import wfdb
    except ImportError as error:
        raise ConfigError("WFDB records need the package wfdb: pip install 'medtl[signals]'") from error
    try:
        header = wfdb.rdheader(str(path.with_suffix("")))
        files = {*(getattr(header, "file_name", None) or ())}
        if not files or getattr(header, "n_seg", 1) not in (1, None):
            raise DataError("a WFDB record of one segment with samples is expected")
        if any("/" in name or "\\" in name or name.startswith(("~", ".")) for name in files):
            raise DataError("the header names a file outside its folder")
        there = sum((path.parent / name).stat().st_size for name in files)
        length = int(header.sig_len or 0) * int(header.n_sig)
        if not 0 < length <= min(2 * there, _LONGEST):
            raise DataError("the header states more samples than the file holds, or none")
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=True)
    except DataError:
        raise
    except Exception as error:  # wfdb raises whatever its parser meets
        raise DataError("not a readable WFDB record; export it anew") from error
    return Recorded(np.asarray(record.p_signal, np.float64), float(record.fs), tuple(map(str, record.sig_name)))


def _csv(path: Path) -> Recorded:
    faults = Faults()
    table = read_csv(path, faults)
    names = [name for name in table.columns if name.strip().casefold() not in ("time", "t")]
    values = np.stack([table.numbers(name) for name in names], axis=1) if names else np.zeros((0, 0))
    if faults.causes:
        raise DataError("a cell holds no number, or a row is broken")
    return Recorded(values, leads=tuple(names))


def _npz(path: Path) -> Recorded:
    arrays = load_npz(path, ("signal", "fs"), ("lead_names",))
    values, fs = arrays["signal"], arrays["fs"]
    if values.dtype.kind not in "iuf" or fs.size != 1 or fs.dtype.kind not in "iuf":
        raise DataError("signal must hold numbers [t] or [t, leads], and fs one rate in Hz")
    leads = tuple(map(str, arrays["lead_names"])) if "lead_names" in arrays else ()
    return Recorded(values.reshape(len(values), -1).astype(np.float64), float(fs.reshape(())), leads)


def _wav(path: Path) -> Recorded:
    import warnings

    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a header that states more data than there is, is only warned of
            rate, values = wavfile.read(path)
    except Exception as error:
        raise DataError("not a readable WAV file; export it anew") from error
    scale = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
    return Recorded(values.reshape(len(values), -1).astype(np.float64) / scale, float(rate))
