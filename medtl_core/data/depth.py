"""Pictures of more than 8 bits a channel: all bits read, and a window onto 8 of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.values import Array

#: A large picture is worked on in bands of so many pixels, or a copy would be made of all at every step.
BAND = 1 << 20
#: Pixels that say what most of a picture holds.
_SAMPLE = 1 << 16
#: Percent of the pixels at either end that may be outliers, and percent at one value that may be padding.
_RARE, _PADDED = 0.5, 0.5


def bands(height: int, width: int) -> Iterator[slice]:
    """Yields the rows of a picture in bands of at most `BAND` pixels."""
    rows = max(BAND // max(width, 1), 1)
    return (slice(top, top + rows) for top in range(0, height, rows))


def windowed(image: Array, *, robust: bool = True) -> NDArray[np.uint8]:
    """Returns numbers [h, w, c] stretched onto 0..255; a constant picture becomes 0.

    Such pictures carry no agreed window. It reaches from the smallest to the largest value, but where it is `robust`:
    - padding, one value at an end that is farther from all others than they are from each other, is cut to that end;
    - so are outliers, farther from the middle 99 % of the pixels than these are wide.

    Raises:
        DataError: pixels are no numbers, or not finite.
    """
    if image.dtype.kind not in "biuf":
        raise DataError(f"pixels of type {image.dtype} are not numbers")
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise DataError("pixels are not finite")
    if robust and low < high:
        low, high = _window(image.reshape(-1)[:: max(image.size // _SAMPLE, 1)].astype(np.float64), low, high)
    stretched = np.zeros(image.shape, dtype=np.uint8)
    if low < high:
        for rows in bands(len(image), image[0].size):
            part = (image[rows].astype(np.float64) - low) * (255.0 / (high - low))
            stretched[rows] = np.rint(np.clip(part, 0.0, 255.0))
    return stretched


def _window(sample: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """The ends of the window between the smallest and the largest value."""
    for end in (low, high):
        rest = sample[sample != end]
        padded = 100.0 * (len(sample) - len(rest)) >= _PADDED * len(sample)
        if padded and len(rest) and np.abs(rest - end).min() > np.ptp(rest):
            sample = rest
            low, high = (float(rest.min()), high) if end == low else (low, float(rest.max()))
    first, last = np.percentile(sample, _RARE, method="lower"), np.percentile(sample, 100 - _RARE, method="higher")
    return (first if low < 2 * first - last else low), (last if high > 2 * last - first else high)


def deep_channels(path: Path, picture: Any) -> Array | None:
    """Returns colours of 16 bits, uint16 [h, w, c] without alpha; None of a picture that Pillow reads in full.

    Pillow keeps the high byte of such colours; read as of the other byte order, a file gives the low one.
    """
    raws = {_raw(tile) for tile in picture.tile}
    if not any(";16" in raw for raw in raws) or picture.mode.startswith(("I", "F")):
        return None
    if raws == {"LA;16B"}:  # two channels of two bytes are four of one
        grey = _loaded(path, lambda raw: "RGBA", "RGBA")
        return grey[:, :, :1].astype(np.uint16) << 8 | grey[:, :, 1:2]
    known = all(raw.endswith(tuple(_OTHER)) and not raw.startswith("RGBa") for raw in raws)  # "a": colours times alpha
    if picture.mode not in ("RGB", "RGBA", "RGBX") or not known:
        raise DataError(
            f"16 bits a channel in the layout {', '.join(sorted(raws))} cannot be read in full; save as PNG"
        )
    high, low = (_loaded(path, swap)[:, :, :3] for swap in (lambda raw: raw, lambda raw: raw[:-1] + _OTHER[raw[-1]]))
    return high.astype(np.uint16) << 8 | low


#: The other byte order of a layout.
_OTHER = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}


def _raw(tile: Any) -> str:
    return str(tile.args if isinstance(tile.args, str) else tile.args[0])


def _relaid(tile: Any, raw: str) -> Any:
    return tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))


def _loaded(path: Path, raw_of: Any, mode: str = "") -> Array:
    """The bytes of a picture read in another layout than its own, turned as its EXIF says."""
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        picture.tile = [_relaid(tile, raw_of(_raw(tile))) for tile in picture.tile]
        picture._mode = mode or picture.mode
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return np.asarray(picture)
