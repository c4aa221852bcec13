"""How the stored numbers of a DICOM frame become measured ones: rescaling, tables, padding, functional groups."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.values import Array


@dataclass(frozen=True)
class Scale:
    """How stored numbers of one frame become measured ones.

    Attributes:
        low, high: the least and the largest number that can be stored.
        slope, intercept: of the rescaling.
        table: float64 [m] as bytes, measured values from number `first` on, where a table states them; None = the
            rescaling.
        first: see `table`.
        padding: the numbers (from, to) that stand for no measurement; None = all are measurements.
    """

    low: int
    high: int
    slope: float = 1.0
    intercept: float = 0.0
    table: bytes | None = None
    first: int = 0
    padding: tuple[int, int] | None = None

    def __len__(self) -> int:
        return self.high - self.low + 1

    @property
    def measured(self) -> NDArray[np.float64]:
        """The measured value of every number that can be stored, float64 [high - low + 1]."""
        stored = np.arange(self.low, self.high + 1)
        if self.table is None:
            return np.asarray(stored * self.slope + self.intercept, np.float64)
        values = np.frombuffer(self.table, np.float64)
        return values[np.clip(stored - self.first, 0, len(values) - 1)]

    def measure(self, stored: Array) -> Array:
        """Returns what stored numbers measure."""
        plain = self.table is None and (self.slope, self.intercept) == (1.0, 0.0)
        return stored if plain else self.measured.take(stored.astype(np.int64) - self.low, mode="clip")

    def is_padding(self, stored: Array) -> NDArray[np.bool_]:
        """Returns which stored numbers stand for no measurement."""
        low, high = self.padding or (1, 0)
        return (stored >= low) & (stored <= high)


def scale_of(dataset: Any, index: int = 0) -> Scale:
    """Returns how the stored numbers of a frame are measured.

    Raises:
        DataError: the header contradicts itself, or a CT does not say how its numbers become Hounsfield units.
    """
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation", 0))
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    try:
        with warnings.catch_warnings(action="ignore"):
            facts = frame_facts(dataset, index, "PixelValueTransformationSequence")
            slope, intercept = (facts.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
            padding = _padding(dataset, high)
            table, first = _modality_table(dataset)
    except Exception as error:
        raise DataError("its header states a damaged table or padding value") from error
    if str(dataset.get("Modality", "")) == "CT" and (
        slope is None or intercept is None or str(facts.get("RescaleType") or "HU").strip() != "HU"
    ):
        raise DataError("a CT without rescaling to Hounsfield units; export the original series")
    factor, shift = 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)
    if not np.isfinite([factor, shift]).all() or factor == 0:
        raise DataError("its rescaling is not finite, or its slope is 0")
    return Scale(low, high, factor, shift, table, first, padding)


def _modality_table(dataset: Any) -> tuple[bytes | None, int]:
    if not dataset.get("ModalityLUTSequence"):
        return None, 0
    values, first, _ = table_of(dataset.ModalityLUTSequence[0], dataset)
    return values.astype(np.float64).tobytes(), first


def table_of(item: Any, dataset: Any) -> tuple[NDArray[np.int64], int, int]:
    """Returns the entries of a stated table, the value that the first one is for, and the bits of an entry.

    Raises:
        ValueError: it is shorter than it says, or its entries have no 8 to 16 bits.
    """
    entries, first, bits = (int(word) for word in item.LUTDescriptor)
    values, entries = item.LUTData, entries or 1 << 16
    if isinstance(values, bytes):
        order = "<" if getattr(dataset, "whole", dataset).original_encoding[1] is not False else ">"
        values = np.frombuffer(values, np.uint8 if len(values) < 2 * entries else f"{order}u2")
    values = np.atleast_1d(np.asarray(values, np.int64))[:entries]
    if len(values) < entries or not 8 <= bits <= 16:
        raise ValueError("a table is shorter than it says")
    return values, first, bits


def _padding(dataset: Any, high: int) -> tuple[int, int] | None:
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    turn = (1 << int(dataset.BitsAllocated)) * bool(dataset.get("PixelRepresentation", 0))
    # A number with a sign may be written as if it had none
    ends = [end - turn if end > high else end for end in (int(value), int(value if limit is None else limit))]
    return min(ends), max(ends)


def _group(dataset: Any, index: int, name: str) -> Any:
    """A functional group of one frame of an enhanced file, its own or the one all share; None if it has none."""
    frames, shared = dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")
    for groups in (frames[index : index + 1] if frames else (), shared or ()):
        for group in groups:
            if group.get(name):
                return group[name][0]
    return None


def frame_facts(dataset: Any, index: int, name: str) -> Any:
    """Returns a functional group of one frame, or the file itself where it has no such groups."""
    return _group(dataset, index, name) or dataset
