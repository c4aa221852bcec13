"""A short road for DICOM files that are written plainly, as most are: the header in one pass, pixels where they lie.

Whatever is written otherwise, or oddly, is left to pydicom: this road refuses nothing, and says what pydicom would say.
"""

from collections.abc import Callable, ItemsView, Mapping
from functools import cache, cached_property
from struct import Struct, error
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array

_IMPLICIT, _EXPLICIT, _RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"
#: How the syntaxes of the JPEG family begin; their headers are explicit and little endian.
_JPEG = "1.2.840.10008.1.2.4."
#: Value representations whose length has four bytes, and those where it has two (PS3.5, table 7.1-1).
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset((
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
))  # fmt: skip
_ELEMENT, _LENGTH, _SEGMENTS = Struct("<HHL"), Struct("<L"), Struct("<16L")
_SYNTAX, _FIRST, _CHARSET, _ITEMS, _UNKNOWN = 0x00020010, 0x00080000, 0x00080005, 0xFFFE, 0xFFFFFFFF
#: Before one of these a header without its pixels ends.
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_MARK = slice(128, 132)
#: Bytes of a value from which on it stays where the file was read to.
_LARGE = 1 << 14


class RawElement(NamedTuple):
    """An element as it lies in a file: its value representation, None where the file does not say; bytes; place."""

    VR: str | None
    value: bytes | memoryview
    place: int


class PlainFile:
    """What is used of a pydicom Dataset, from a file's raw elements.

    Numbers and short texts that are written as they should be are answered at once; all else pydicom answers, from the
    same elements.
    """

    def __init__(self, elements: Mapping[int, RawElement], syntax: str) -> None:
        self._elements, self._answers, self._syntax = elements, dict[str, Any](), syntax
        self.file_meta = _meta(syntax)

    @cached_property
    def whole(self) -> Any:
        """The pydicom Dataset of the same elements."""
        from pydicom import Dataset
        from pydicom.charset import convert_encodings
        from pydicom.dataelem import RawDataElement, convert_raw_data_element, empty_value_for_VR
        from pydicom.tag import BaseTag

        implicit, found = self._syntax == _IMPLICIT, dict[Any, Any]()
        for number, (letters, value, place) in self._elements.items():
            content = bytes(value) or empty_value_for_VR(letters, raw=True)
            tag = BaseTag(number)
            found[tag] = RawDataElement(tag, letters, len(value), content, place, implicit, True)  # type: ignore[arg-type]
        dataset, letters = Dataset(found), found.get(_CHARSET)
        stated: Any = convert_raw_data_element(letters).value if letters else None
        dataset.set_original_encoding(implicit, True, convert_encodings(stated) if letters else "iso8859")
        dataset.file_meta = self.file_meta
        return dataset

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of an element by its keyword."""
        if name not in self:
            return default
        if name not in self._answers:
            self._answers[name] = self._answer(name)
        return self._answers[name]

    def items(self) -> ItemsView[int, RawElement]:
        """Returns the raw elements by tag."""
        return self._elements.items()

    def __contains__(self, name: str) -> bool:
        return _words()[name][0] in self._elements

    def __getitem__(self, tag: int) -> Any:
        return self.whole[tag]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in _words():
            raise AttributeError(name)
        return self.get(name) if name in self else getattr(self.whole, name)

    def _answer(self, name: str) -> Any:
        tag, usual = _words()[name]
        letters, value, _ = self._elements[tag]
        letters = letters or usual
        if tag == _PIXELS[-1]:
            return value
        if letters == "US or SS":
            letters = "SS" if self.get("PixelRepresentation") else "US"
        try:
            if letters in ("US", "SS") and len(value) == 2:
                return int.from_bytes(value, "little", signed=letters == "SS")
            words = bytes(value).decode("ascii").strip(" \0").split("\\")
            if letters == "DS" and value:
                numbers = [float(word) for word in words]
                return numbers[0] if len(numbers) == 1 else numbers
            if letters == "IS" and value and len(words) == 1:
                return int(words[0])
            if letters in ("CS", "UI", "LO", "SH") and len(words) == 1 and words[0].isprintable():
                return words[0]
        except ValueError:
            pass
        return self.whole.get(name)


def plain_file(content: bytes, *, pixels: bool) -> PlainFile | Any | None:
    """Returns a file's elements, as a pydicom Dataset where it has colours, or None where pydicom should read it.

    Args:
        content: the bytes of the file, or its beginning where no pixels are wanted.
        pixels: whether they are wanted; files where they are compressed are left to pydicom then.
    """
    if content[_MARK] != b"DICM":
        return None
    try:
        head, at = _elements(content, _MARK.stop, True, lambda tag: tag >> 16 != 2)
        syntax = bytes(head[_SYNTAX].value).rstrip(b"\0 ").decode("ascii")
        if syntax not in (_IMPLICIT, _EXPLICIT, _RLE) and not syntax.startswith(_JPEG):
            return None
        ends = None if pixels else _PIXELS.__contains__
        found, end = _elements(content, at, syntax != _IMPLICIT, ends)
        if pixels != (end == len(content)) or next(iter(found)) < _FIRST:
            return None
        file = PlainFile(found, syntax)
        return file if file.get("SamplesPerPixel") == 1 and "RedPaletteColorLookupTableData" not in file else file.whole
    except (KeyError, ValueError, StopIteration, error):
        return None


def plain_frame(dataset: PlainFile | Any, index: int) -> Array | None:
    """Returns the stored numbers of a grey frame, int [h, w]; None where pydicom should decode it.

    Args:
        dataset: that passed `dicom_pixels.check_image`.
        index: of the frame.
    """
    syntax, bits = str(dataset.file_meta.TransferSyntaxUID), int(dataset.BitsAllocated)
    sign = {0: "u", 1: "i"}.get(dataset.get("PixelRepresentation"))
    if sign is None or dataset.SamplesPerPixel != 1 or syntax not in (_IMPLICIT, _EXPLICIT, _RLE):
        return None
    height, width, frames = int(dataset.Rows), int(dataset.Columns), int(dataset.get("NumberOfFrames") or 1)
    count, size, pixels = height * width, bits // 8, dataset.PixelData
    if syntax == _RLE:
        stored = _unpacked(pixels, index, frames, count, size)
    else:
        whole = len(pixels) - frames * count * size in (0, 1)
        stored = np.frombuffer(pixels, f"<u{size}", count, index * count * size) if whole else None
    return None if stored is None else _used(stored.view(f"<{sign}{size}"), dataset.BitsStored).reshape(height, width)


def _elements(
    content: bytes, at: int, explicit: bool, ends: Callable[[int], bool] | None
) -> tuple[dict[int, RawElement], int]:
    """The elements from a place on, and the place where they end.

    Raises:
        ValueError: one has no length, reaches beyond the end, is an item, or of no known representation.
        struct.error: what is left is no element.
    """
    # a named tuple's own way to be made takes a third of all this
    found, size, view, made = dict[int, RawElement](), len(content), memoryview(content), tuple.__new__
    if not explicit and content[at + 4 : at + 6].isalpha():  # it says implicit, and is explicit
        raise ValueError
    while at < size:
        group, number, length = _ELEMENT.unpack_from(content, at)
        tag, letters, start = group << 16 | number, None, at + 8
        if ends and ends(tag):
            break
        if explicit:
            word = content[at + 4 : at + 6]
            letters, length = word.decode("latin-1"), length >> 16
            if word in _LONG:
                (length,), start = _LENGTH.unpack_from(content, start), start + 4
            elif word not in _SHORT:
                raise ValueError
        at = start + length
        if length == _UNKNOWN or group == _ITEMS or at > size:
            raise ValueError
        found[tag] = made(RawElement, (letters, content[start:at] if length < _LARGE else view[start:at], start))
    return found, at


@cache
def _meta(syntax: str) -> Any:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    return meta


@cache
def _words() -> dict[str, tuple[int, str]]:
    """Keyword of an element -> its tag and its usual value representation."""
    from pydicom.datadict import dictionary_VR, keyword_dict

    return {word: (tag, dictionary_VR(tag)) for word, tag in keyword_dict.items()}


def _used(stored: Array, bits: int) -> Array:
    """Numbers without the bits that are none of theirs (PS3.5, 8.1.1); in almost every file these are clear."""
    spare, high = 8 * stored.itemsize - bits, bits - (stored.dtype.kind == "i")
    if not spare or (int(stored.max()) >> high in (0, -1) and (high == bits or int(stored.min()) >> high in (0, -1))):
        return stored
    return np.asarray(np.right_shift(np.left_shift(stored, spare), spare))


def _unpacked(pixels: bytes, index: int, frames: int, count: int, size: int) -> NDArray[Any] | None:
    """The numbers of a frame in RLE: a segment for each of their bytes, the highest first (PS3.5, annex G)."""
    from PIL import Image
    from pydicom.encaps import get_frame

    try:
        frame = get_frame(pixels, index, number_of_frames=frames)
        segments, *places = _SEGMENTS.unpack_from(frame)
        if segments != size:
            return None
        numbers, ends = np.empty((count, size), np.uint8), [*places[1:size], len(frame)]
        for place, (start, end) in enumerate(zip(places, ends, strict=False)):
            plane = Image.frombytes("L", (count, 1), frame[start:end], "packbits", "L")
            numbers[:, size - 1 - place] = np.asarray(plane)[0]
    except (ValueError, error):
        return None
    return numbers.reshape(-1).view(f"<u{size}")
