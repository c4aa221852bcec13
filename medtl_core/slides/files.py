"""Which files are whole slides, by name and header alone, and how large a pixel of one is."""

import struct
import tomllib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from medtl_core.errors import ConfigError

#: Endings of files that hold one slide each, as scanners write them.
SUFFIXES = (".svs", ".ndpi", ".scn", ".bif")
#: These may hold a slide, or one picture.
_TIFF = (".tif", ".tiff")
#: The hospital's word on its own slides, in their folder or one above: `mpp = 0.25`.
STATED = "slides.toml"
#: Micrometres a pixel that a slide may have; a resolution of 72 dots an inch, which says nothing, lies outside.
FINEST, COARSEST = 0.05, 20.0
_WIDTH, _HEIGHT, _TILE_WIDTH = 256, 257, 322
#: Pages of a TIFF file that are looked at.
_PAGES = 64


def is_slide(path: Path) -> bool:
    """Returns whether a file is a slide: by its ending, or a TIFF pyramid, whose further tiled pages grow smaller."""
    suffix = path.suffix.lower()
    if suffix not in _TIFF:
        return suffix in SUFFIXES and path.is_file()
    try:
        pages = [page for page in _pages(path) if _TILE_WIDTH in page]
    except (OSError, struct.error):
        return False
    sizes = [(page.get(_WIDTH, 0), page.get(_HEIGHT, 0)) for page in pages]
    return len(sizes) > 1 and all(0 < w < wide and 0 < h < high for (wide, high), (w, h) in pairwise(sizes))


def stated_mpp(folder: Path) -> float | None:
    """Returns the micrometres a pixel that a hospital states for slides whose header does not: in the nearest `STATED`.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    places = (place / STATED for place in (folder.absolute(), *folder.absolute().parents))
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return None
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'no TOML in UTF-8'}") from error
    mpp = table.get("mpp")
    if table.keys() != {"mpp"} or not isinstance(mpp, int | float) or not FINEST <= mpp <= COARSEST:
        raise ConfigError(f"{path} must hold one line, mpp = micrometres a pixel, from {FINEST} to {COARSEST}")
    return float(mpp)


def _pages(path: Path) -> Iterator[Mapping[int, int]]:
    """The numbers that each page of a TIFF file states first, by tag; see TIFF 6.0 and BigTIFF."""
    with path.open("rb") as file:
        head = file.read(16)
        order = {b"II*\0": "<", b"II+\0": "<", b"MM\0*": ">", b"MM\0+": ">"}.get(head[:4], "")
        large = b"+" in head[:4]
        count, entry, jump = ("Q", "HHQQ", "Q") if large else ("H", "HHII", "I")
        place = struct.unpack_from(order + jump, head, 8 if large else 4)[0] if order else 0
        for _ in range(_PAGES):
            if not place:
                return
            file.seek(place)
            entries = struct.unpack(order + count, file.read(struct.calcsize(order + count)))[0]
            size = struct.calcsize(order + entry)
            rows = file.read(size * min(entries, 4096))
            yield {row[0]: _number(row, order) for row in struct.iter_unpack(order + entry, rows)}
            place = struct.unpack(order + jump, file.read(struct.calcsize(jump)))[0]


def _number(row: tuple[int, ...], order: str) -> int:
    """The value of an entry that holds one number; short ones stand at the start of their field."""
    kind, value = row[1], row[3]
    wide = struct.pack(order + ("Q" if row[3] >> 32 else "I"), value)
    return int(struct.unpack_from(order + "H", wide)[0]) if kind == 3 else value
