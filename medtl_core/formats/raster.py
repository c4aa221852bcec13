"""Whether a picture's file is whole, and in a layout that Pillow reads as it is meant; any other is refused."""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.depth import BAND
from medtl_core.errors import DataError

#: What a JPEG shows where its data are missing.
_NOTHING = 128
_EARLY = "the file ends before its last line"
#: TIFF's tags: bits and kind of each number, how colours lie, and bytes of strips or tiles.
_BITS, _KIND, _PLANES, _STRIPS, _TILES = 258, 339, 284, 279, 325
#: The byte order in a layout's name, such as "I;16BS".
_ORDER = re.compile(r"(?<=\d)B(?=[SF])")


def settle_layout(picture: Any) -> bool:
    """Sees to it that a picture which is open, and not yet loaded, is read as it was written.

    What libtiff unpacks is in this machine's byte order whatever the file's, which Pillow heeds for some layouts only.

    Returns:
        Whether its numbers, of 32 bits, are without a sign: Pillow has none of these.

    Raises:
        DataError: Pillow would read a TIFF of this layout wrongly.
    """
    if picture.format != "TIFF":
        return False
    tags = picture.tag_v2
    bits, kinds = tags.get(_BITS, (1,)), tags.get(_KIND, (1,))
    wrong = {
        "colours of 16 bits in planes of their own": max(bits) > 8 and len(bits) > 1 and tags.get(_PLANES) == 2,
        "numbers of 8 bits with a sign": max(bits) == 8 and 2 in kinds,
        "a strip or tile without data": 0 in (tags.get(_STRIPS) or tags.get(_TILES) or ()),
    }
    if found := [what for what, is_there in wrong.items() if is_there]:
        raise DataError(f"a TIFF with {found[0]} is not read; save it as PNG")
    picture.tile = [
        tile._replace(args=(_ORDER.sub("N", tile.args[0]), *tile.args[1:])) if tile.codec_name == "libtiff" else tile
        for tile in picture.tile
    ]
    return bool(picture.mode == "I" and bits == (32,) and kinds == (1,))


def check_whole(path: Path, picture: Any, *, loaded: bool = True) -> None:
    """Refuses a file whose data end before the picture does, or, of a PNG, are not those that were written.

    Pillow leaves missing lines black in a PNG and mid-grey in a JPEG, and passes over the checksums of a PNG's data.

    Args:
        path: of the file.
        picture: as Pillow has it.
        loaded: whether it has its pixels; else all lines of a PNG are counted.
    """
    width, height = picture.size
    if picture.format == "PNG":
        last = np.asarray(picture.crop((0, height - 1, width, height))) if loaded else np.zeros(0)
        _check_png(path, lines=bool(picture.info.get("interlace")) or not last.any())
    elif picture.format == "JPEG" and picture.mode in ("L", "RGB"):  # the last block of eight by eight, its end first
        if picture.getpixel((width - 1, height - 1)) not in (_NOTHING, (_NOTHING,) * 3):
            return
        last = np.asarray(picture.crop(((width - 1) // 8 * 8, (height - 1) // 8 * 8, width, height)))
        if (last == _NOTHING).all() and picture.getcolors(1) is None:
            raise DataError(_EARLY)


def _check_png(path: Path, *, lines: bool) -> None:
    content, at, length, unpack, held = path.read_bytes(), 8, 0, zlib.decompressobj(), 0
    while at + 8 <= len(content):
        end = at + 8 + int.from_bytes(content[at : at + 4], "big")
        kind, data = content[at + 4 : at + 8], content[at + 8 : end]
        if kind == b"IHDR":
            length = _bytes_of_lines(data) if lines else 0
        if kind == b"IDAT" and zlib.crc32(kind + data).to_bytes(4, "big") != content[end : end + 4]:
            raise DataError("its data are damaged: a checksum does not fit")
        while kind == b"IDAT" and data and held < length:  # a bomb holds more than it declares
            held += len(unpack.decompress(data, BAND))
            data = unpack.unconsumed_tail
        at = end + 4
    if held < length:
        raise DataError(_EARLY)


def _bytes_of_lines(header: bytes) -> int:
    """How many bytes a PNG's header promises: every line with its filter, in seven passes where it is interlaced."""
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits = header[8] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[header[9]]
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    total = 0
    for left, top, right, down in passes if header[12] else [(0, 0, 1, 1)]:
        columns, lines = -(-(width - left) // right), -(-(height - top) // down)
        total += lines * (1 + -(-columns * bits // 8)) if columns > 0 and lines > 0 else 0
    return total
