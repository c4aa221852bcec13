"""From a DICOM file to grey or colour pictures: stored values, modality values, window, polarity, orientation."""

import os
import warnings
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.depth import windowed
from medtl_core.data.images import MAX_PIXELS
from medtl_core.errors import DataError
from medtl_core.formats.dicom_plain import plain_file, plain_frame
from medtl_core.formats.dicom_scale import Scale, frame_facts, scale_of, table_of
from medtl_core.formats.windows import CT_WINDOWS, Window
from medtl_core.values import Array

Pixels = NDArray[np.uint8]

#: Frames of a file; they are decoded one by one.
MAX_FRAMES = 4096
#: Bytes of a file that is read by the short road, and of a header; all else is left to pydicom.
_WHOLE, _HEADER = 1 << 28, 1 << 16
#: Pixels that are shown at a time.
_BAND = 1 << 15
_SHAPE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored")
_GREY = ("MONOCHROME1", "MONOCHROME2")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
#: Modalities whose files hold no picture of a patient.
_OTHER = ("SEG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SR", "PR", "KO", "DOC", "ECG", "REG")


def read_dataset(path: Path, *, pixels: bool = True) -> Any:
    """Returns the pydicom Dataset of a file, with or without its pixels.

    Raises:
        DataError: it is missing, damaged, or no DICOM file with the standard's preamble.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        plain = plain_file(_start(path, pixels), pixels=pixels)
        if plain is not None:
            return plain
        with warnings.catch_warnings(action="ignore"):
            return dcmread(path, stop_before_pixels=not pixels)
    except InvalidDicomError as error:
        raise DataError("not a DICOM file (its preamble is missing)") from error
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged header makes the parser raise almost anything, and quote it
        raise DataError("damaged DICOM file") from error


def _start(path: Path, pixels: bool) -> bytes:
    """What of a file is looked at first: all of it, if that is little, or where its header lies."""
    with path.open("rb", buffering=0) as file:
        if not pixels:
            return file.read(_HEADER)
        size = os.fstat(file.fileno()).st_size
        return file.read(size) if size <= _WHOLE else b""


def check_image(dataset: Any) -> int:
    """Returns the number of frames of a file, once its header states a picture that is read.

    Raises:
        DataError: it holds no picture, or one of a kind, depth or size that is not read.
    """
    try:
        with warnings.catch_warnings(action="ignore"):
            rows, columns, samples, allocated, stored = (int(dataset.get(name)) for name in _SHAPE)
            frames, photometric = int(dataset.get("NumberOfFrames") or 1), str(dataset.PhotometricInterpretation)
            modality, high = str(dataset.get("Modality") or ""), int(dataset.get("HighBit") or stored - 1)
            inverse = str(dataset.get("PresentationLUTShape") or "") == "INVERSE"
    except Exception as error:  # a damaged value makes the parser raise almost anything, and quote it
        raise DataError("holds no picture (a report, plan or waveform), or its header is damaged") from error
    kinds = {1: (*_GREY, "PALETTE COLOR"), 3: _COLOUR}.get(samples, ())
    if modality in _OTHER:
        raise DataError("a segmentation, dose or document, no picture of a patient; leave it out")
    if photometric not in kinds:
        raise DataError(f"its photometric interpretation is not read; read are {', '.join(_GREY + _COLOUR)}")
    if inverse and photometric == "MONOCHROME2":
        raise DataError("its header calls the lowest value black, and white: export it anew")
    if not (allocated in (8, 16) and 2 <= stored <= allocated) or (samples == 3 and allocated != 8):
        raise DataError(f"{stored} bits a sample are not read; read are 8 to 16, in colour 8")
    if high != stored - 1:
        raise DataError("its numbers do not begin at the lowest bit: export it anew")
    if min(rows, columns, frames) < 1 or rows * columns > MAX_PIXELS or frames > MAX_FRAMES:
        most = f"{MAX_FRAMES:,} of {MAX_PIXELS:,}"
        raise DataError(f"{frames} frames of {columns} x {rows} pixels are none, or more than {most}")
    return frames


def stored_frame(dataset: Any, index: int = 0) -> Array:
    """Returns the numbers of one frame as they are stored, int [h, w], or a colour frame as RGB, uint8 [h, w, 3].

    Raises:
        DataError: they are cut off or damaged, or compressed in a way that is not read.
    """
    if "PixelData" not in dataset:
        raise DataError("holds no pixels")
    try:
        with warnings.catch_warnings(action="ignore"):
            pixels = plain_frame(dataset, index)
            if pixels is None:
                from pydicom.pixels.utils import pixel_array

                pixels = pixel_array(getattr(dataset, "whole", dataset), index=index)
            if str(dataset.PhotometricInterpretation) == "PALETTE COLOR":
                pixels = _coloured(pixels, dataset)
    except MemoryError:
        raise
    except Exception as error:  # each decoder has its own family, and they quote the header
        raise DataError("its pixels are cut off, damaged or compressed in a way that is not read") from error
    return np.asarray(pixels)


def picture(dataset: Any, index: int = 0) -> Pixels:
    """Returns one frame as it is to be looked at: uint8 [h, w, 1], or [h, w, 3] in colour and of CT.

    CT is shown through the three `CT_WINDOWS`. Anything else grey is shown through the window or table that its header
    states first, else as other pictures are: see `data.depth.windowed`. Padding is black, so are the low values of
    MONOCHROME2 and the high ones of MONOCHROME1.

    Args:
        dataset: that passed `check_image`.
        index: of the frame.

    Raises:
        DataError: see `stored_frame` and `scale_of`, or the stated window has no width.
    """
    stored = stored_frame(dataset, index)
    if stored.ndim > 2:
        return stored
    scale, inverted = scale_of(dataset, index), str(dataset.PhotometricInterpretation) == "MONOCHROME1"
    is_ct = str(dataset.get("Modality", "")) == "CT"
    window = None if is_ct else _stated(dataset, index, scale)
    if is_ct or window:
        shown = show(stored, scale, CT_WINDOWS if window is None else (window,), inverted=inverted)
        if window and shown.min() == shown.max() and stored.min() < stored.max():
            raise DataError("the window or table that its header states shows nothing of it: all is black or white")
        return shown
    padding = scale.is_padding(stored)[..., None]
    values = np.asarray(scale.measure(stored), np.float64)[..., None]
    shown = windowed(np.where(padding, values.min(where=~padding, initial=np.inf), values))
    return np.where(padding, np.uint8(0), ~shown if inverted else shown)


def upright(flat: Pixels, dataset: Any) -> Pixels:
    """Returns a picture [h, w, ...] turned, where its header calls it mirrored (rows to the right), upside down, or
    on its side.
    """
    across, down = ([str(word) for word in dataset.get("PatientOrientation") or ()] + ["", ""])[:2]
    if across[:1] in ("H", "F") and down:
        flat, across, down = flat.swapaxes(0, 1), down, across
    return flat[:: -1 if down[:1] == "H" else 1, :: -1 if across[:1] == "R" else 1]


def show(stored: Array, scale: Scale, windows: "tuple[Shown, ...]", *, inverted: bool = False) -> Pixels:
    """Returns stored numbers [..., h, w] as grey, uint8 [..., h, w, windows]."""
    if len(windows) == 1:
        places = stored.astype(np.int32) - scale.low if scale.low else stored
        return _grey_table(scale, windows[0], inverted).take(places, mode="clip")[..., None]
    # One look-up of four bytes is several times faster than three of one byte. In tables of all numbers that a type has
    # none lies beyond the ends. A band of the picture stays near the processor
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    tables = _grey_tables(scale, windows, inverted, stored.dtype.char)
    places, each = stored.view(f"u{stored.itemsize}").reshape(-1), len(windows)
    grey = np.empty(places.size * each + 4 - each, np.uint8)
    for first in range(0, places.size, _BAND):
        words = tables.take(places[first : first + _BAND].astype(np.intp), mode="wrap")
        _pack(words, grey[first * each :], each)
    return grey[: places.size * each].reshape(*stored.shape, each)


def _pack(words: NDArray[np.uint32], grey: Pixels, each: int, *, trust: bool = False) -> None:
    """Writes the first so many bytes of words one behind another; what follows the last one may change, too."""
    if trust or _writes_in_order():
        np.ndarray(words.shape, np.uint32, grey, 0, (each,))[...] = words
    else:
        grey[: words.size * each].reshape(-1, each)[...] = words.view(np.uint8).reshape(-1, 4)[:, :each]


@cache
def _writes_in_order() -> bool:
    """Whether numpy writes numbers that overlap in their order, so that each covers what is too much of the one before:
    it does, and is much faster so, but promises nothing, and is therefore asked once.
    """
    words, grey = np.arange(_BAND, dtype=np.uint32) * np.uint32(0x9E3779B1), np.empty(3 * _BAND + 1, np.uint8)
    _pack(words, grey, 3, trust=True)
    return np.array_equal(grey[:-1].reshape(-1, 3), words.view(np.uint8).reshape(-1, 4)[:, :3])


@dataclass(frozen=True)
class GreyTable:
    """A stated table of grey values (uint8 [high - low + 1] as bytes), where a window would stand."""

    grey: bytes


Shown = Window | GreyTable


def _stated(dataset: Any, index: int, scale: Scale) -> Shown | None:
    """The first window or table that the header states, else all of 8 bits; None where there are more."""
    facts = frame_facts(dataset, index, "FrameVOILUTSequence")
    try:
        with warnings.catch_warnings(action="ignore"):
            if dataset.get("VOILUTSequence"):
                values, first, bits = table_of(dataset.VOILUTSequence[0], dataset)
                places = np.clip(np.rint(scale.measured) - first, 0, len(values) - 1).astype(np.int64)
                shown = np.minimum(values[places] * (255.0 / ((1 << bits) - 1)), 255.0)
                return GreyTable(np.rint(shown).astype(np.uint8).tobytes())
            centre, width = (np.atleast_1d(facts.get(f"Window{name}", ())) for name in ("Center", "Width"))
            if not (centre.size and width.size and centre[0] is not None and width[0] is not None):
                ends = scale.measured[[0, -1]]
                return Window(float(ends.mean()), float(np.ptp(ends)), "LINEAR_EXACT") if len(scale) < 257 else None
            return Window(float(centre[0]), float(width[0]), str(facts.get("VOILUTFunction") or "LINEAR").strip())
    except DataError:
        raise
    except Exception as error:
        raise DataError("its header states a damaged window") from error


@lru_cache(maxsize=32)
def _grey_table(scale: Scale, window: Shown, inverted: bool) -> Pixels:
    """The grey of every number that can be stored, uint8 [high - low + 1]."""
    grey = np.frombuffer(window.grey, np.uint8) if isinstance(window, GreyTable) else window.grey(scale.measured)
    if inverted:
        grey = 255 - grey
    return np.where(scale.is_padding(np.arange(scale.low, scale.high + 1)), np.uint8(0), grey)


@lru_cache(maxsize=8)
def _grey_tables(scale: Scale, windows: "tuple[Shown, ...]", inverted: bool, kind: str) -> NDArray[np.uint32]:
    """Up to four tables of grey side by side, as one of four bytes an entry, one for each number of a type of 8 or 16
    bits in the order of its bits; a number beyond the scale stands for the nearest end.
    """
    size = np.dtype(kind).itemsize
    numbers = np.arange(1 << 8 * size, dtype=f"u{size}").view(kind)
    places = np.clip(numbers.astype(np.intp) - scale.low, 0, len(scale) - 1)
    tables = np.zeros((len(places), 4), np.uint8)
    for channel, window in enumerate(windows):
        tables[:, channel] = _grey_table(scale, window, inverted)[places]
    return tables.view(np.uint32)[:, 0]


def _coloured(stored: Array, dataset: Any) -> Pixels:
    """Numbers of a palette as its colours; a number beyond the table stands for the nearest end."""
    from pydicom.pixels.processing import apply_color_lut

    entries, first, bits = (int(word) for word in dataset.RedPaletteColorLookupTableDescriptor)
    entries = entries or 1 << 16
    if bits == 8 and entries > 256:  # pydicom would count beyond 255 from 0 again
        raise ValueError("a palette has more entries than its bits can count")
    colours = apply_color_lut(np.clip(stored.astype(np.int64), first, first + entries - 1), dataset)[..., :3]
    return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
