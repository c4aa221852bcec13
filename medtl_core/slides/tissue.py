"""Where a slide shows tissue, and which places of it stand for it; both follow from that slide alone."""

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError

Pixels = NDArray[np.uint8]
#: Glass is not coloured: a saturation below this is none (of 255), whatever the threshold.
LEAST = 8
#: Share of a tile that must be tissue.
SHARE = 0.5


def otsu(values: Pixels) -> int:
    """Returns the grey level that parts values best: those above it are the upper class.

    Source: Otsu, A threshold selection method from gray-level histograms. IEEE Trans. SMC 9:62 (1979), equation 18: the
    between-class variance is largest.

    Example:
        >>> otsu(np.array([10, 12, 11, 200, 210], np.uint8))
        12
    """
    counts = np.bincount(values.reshape(-1), minlength=256).astype(np.float64)
    below, level = counts.cumsum(), np.arange(256)
    above, sums = below[-1] - below, (counts * level).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * np.square(sums / below - (sums[-1] - sums) / above)
    return int(np.argmax(np.nan_to_num(between)))


def tissue_mask(picture: Pixels) -> NDArray[np.bool_]:
    """Returns where a picture, uint8 [h, w, 3], is coloured, bool [h, w]: Otsu's threshold on the saturation.

    Source: as CLAM segments slides (Lu et al., Nature Biomedical Engineering 5:555, 2021), without its median filter.
    """
    high, low = picture.max(axis=2).astype(np.float32), picture.min(axis=2)
    saturation = np.rint(255.0 * (high - low) / np.maximum(high, 1.0)).astype(np.uint8)
    return np.asarray(saturation > max(otsu(saturation), LEAST))


def places(mask: NDArray[np.bool_], across: float, down: float, most: int) -> list[tuple[int, int]]:
    """Returns (column, row) of at most so many tiles, evenly spaced in the tissue.

    Tiles stand side by side from the upper left corner; those of which half is tissue are put in the order of a curve
    that keeps neighbours together (Morton 1966), and the middle one of each of `most` equal parts is taken.

    Args:
        mask: bool [h, w], of the whole slide.
        across: tiles that the slide is wide; what is left at the right edge is no tile.
        down: likewise, high.
        most: tiles.

    Raises:
        DataError: the slide is smaller than a tile, or shows no tissue.

    Example:
        >>> places(np.ones((4, 4), bool), 2.5, 2.5, 2)
        [(1, 0), (1, 1)]
    """
    from PIL import Image

    columns, rows = int(across), int(down)
    if not columns or not rows:
        raise DataError("the slide is smaller than one tile")
    height, width = mask.shape
    box = (0.0, 0.0, min(width * columns / across, width), min(height * rows / down, height))
    grey = Image.fromarray(np.where(mask, np.float32(1.0), np.float32(0.0)))
    share = np.asarray(grey.resize((columns, rows), Image.Resampling.BOX, box=box))
    row, column = np.nonzero(share >= SHARE)
    if not len(row):
        raise DataError("shows no tissue: no tile is half coloured")
    order = np.argsort(_morton(column, row))
    chosen = [int((place + 0.5) * len(order) / most) for place in range(most)] if len(order) > most else slice(None)
    return [(int(column[place]), int(row[place])) for place in order[chosen]]


def _morton(column: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
    """The bits of two numbers in turn."""
    code = np.zeros_like(column)
    for bit in range(20):
        code |= (column >> bit & 1) << 2 * bit | (row >> bit & 1) << 2 * bit + 1
    return code
