"""A slide as one case of several pictures: tiles of its tissue at an agreed size of pixels.

It is read by OpenSlide, whose levels are tissue only: the label, the macro picture and the thumbnail, which may show a
name, are never decoded, and no word of a header is read but how large a pixel is.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.images import MAX_PIXELS
from medtl_core.errors import DataError
from medtl_core.slides.files import COARSEST, FINEST, STATED, stated_mpp
from medtl_core.slides.tissue import places, tissue_mask

Pixels = NDArray[np.uint8]
#: Agreed: micrometres a pixel (an objective of 20 times), pixels a side of a tile, and tiles of a slide.
MPP, SIDE, TILES = 0.5, 256, 32
#: A level whose pixels are this near to the agreed size is read as it is.
_NEAR = 1.1
#: No scanner makes more pixels than this: a slide of 10 x 5 cm at 0.1 micrometres is half of it.
_MOST = 10**12
#: Sides of the small picture on which tissue is looked for.
_OVERVIEW = 2048


def pictures_of_slide(path: Path) -> list[Pixels]:
    """Returns at most `TILES` tiles of tissue, uint8 [SIDE, SIDE, 3], in the order of `tissue.places`.

    Raises:
        DataError: it is no slide, damaged or of a codec that is not there; its pixels are of unknown size or too
            large; it is smaller than a tile; or it shows no tissue.
    """
    import openslide

    try:
        with openslide.OpenSlide(path) as slide:
            return _tiles(slide, path.parent)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise DataError("no slide of a known format (Aperio, Hamamatsu, Leica, Ventana or a TIFF pyramid)") from error
    except openslide.OpenSlideError as error:  # its text may quote the file
        raise DataError("damaged: it cannot be decoded, or its compression is not known") from error


def _tiles(slide: Any, folder: Path) -> list[Pixels]:
    (width, height), finest = slide.dimensions, _mpp(slide, folder)
    if not 0 < width * height < _MOST:
        raise DataError(f"declares {width} x {height} pixels, more than any slide has")
    if finest > _NEAR * MPP:
        raise DataError(f"its finest level has {finest:.3g} micrometres a pixel where {MPP} are agreed")
    level = max(place for place, down in enumerate(slide.level_downsamples) if finest * down <= _NEAR * MPP)
    down = slide.level_downsamples[level]
    near = MPP / (finest * down) < _NEAR
    read = SIDE if near else round(SIDE * MPP / (finest * down))
    step = read * down  # pixels of the finest level from tile to tile
    chosen = places(tissue_mask(_overview(slide)), width / step, height / step, TILES)
    corners = [(round(column * step), round(row * step)) for column, row in chosen]
    return [_tile(slide, corner, level, read) for corner in corners]


def _mpp(slide: Any, folder: Path) -> float:
    """Micrometres a pixel of the finest level: by the header, else as its hospital states."""
    try:
        sides = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"]
    except (KeyError, ValueError):
        sides = []
    if sides and min(sides) >= FINEST and max(sides) <= min(COARSEST, 1.05 * min(sides)):
        return float(np.mean(sides))
    stated = stated_mpp(folder)
    if stated is None:
        raise DataError(f"does not say how large a pixel is: state it in {STATED} beside it, mpp = micrometres a pixel")
    return stated


def _overview(slide: Any) -> Pixels:
    """The whole slide, small: its coarsest level."""
    width, height = slide.level_dimensions[-1]
    if width * height > MAX_PIXELS:
        raise DataError(f"its coarsest level has {width} x {height} pixels; save it with a level below {MAX_PIXELS:,}")
    whole = _on_white(slide.read_region((0, 0), slide.level_count - 1, (width, height)))
    whole.thumbnail((_OVERVIEW, _OVERVIEW), reducing_gap=None)
    return np.asarray(whole)


def _tile(slide: Any, corner: tuple[int, int], level: int, read: int) -> Pixels:
    from PIL import Image

    tile = _on_white(slide.read_region(corner, level, (read, read)))
    return np.asarray(tile if read == SIDE else tile.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _on_white(region: Any) -> Any:
    """A picture without alpha; what was never scanned is as white as glass."""
    from PIL import Image

    white = Image.new("RGBA", region.size, "white")
    white.alpha_composite(region)
    return white.convert("RGB")
