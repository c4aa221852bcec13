"""Invented slides: TIFF pyramids of stained tissue on glass, and Aperio files with a label."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
#: Micrometres a pixel of the finest level.
MPP = 0.5


def tissue(height: int, width: int, box: tuple[int, int, int, int], seed: int = 0) -> Pixels:
    """Glass, with pink tissue in a box (top, left, bottom, right), whose colours say where a pixel is."""
    picture = np.full((height, width, 3), 243, np.uint8)
    top, left, bottom, right = box
    y, x = np.mgrid[top:bottom, left:right]
    noise = np.random.default_rng(seed).integers(0, 30, (bottom - top, right - left))
    picture[top:bottom, left:right] = np.stack([180 + x % 40, 60 + noise, 120 + y % 40], axis=-1)
    return picture


def pyramid(path: Path, picture: Pixels, levels: int = 2, mpp: float | None = MPP, **facts: Any) -> Path:
    """Writes a tiled TIFF pyramid, each level half of the one before; its path is returned."""
    from tifffile import TiffWriter

    facts = {"tile": (128, 128), "photometric": "rgb", "compression": "deflate", "metadata": None, **facts}
    with TiffWriter(path) as file:
        for level in range(levels):
            down = 2**level
            if mpp:
                facts["resolution"], facts["resolutionunit"] = (1e4 / (mpp * down),) * 2, "CENTIMETER"
            file.write(picture[::down, ::down], subfiletype=int(level > 0), **facts)
    return path


def aperio(path: Path, picture: Pixels, label: Pixels, comment: str = "") -> Path:
    """Writes an Aperio slide: a level, a thumbnail, a label and a macro picture; its path is returned."""
    from tifffile import TiffWriter

    height, width = picture.shape[:2]
    said = f"Aperio Image Library v11.2.1 \r\n{width}x{height} (128x128) |AppMag = 20|MPP = {MPP}{comment}"
    with TiffWriter(path) as file:
        facts: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        file.write(picture, tile=(128, 128), compression="deflate", description=said, **facts)
        file.write(label, description=said, rowsperstrip=label.shape[0], compression="deflate", **facts)
        for name in ("label", "macro"):
            words = f"Aperio Image Library v11.2.1 \r\n{name} {label.shape[1]}x{label.shape[0]}{comment}"
            strips = {"rowsperstrip": label.shape[0], "compression": "deflate"}
            file.write(label, description=words, subfiletype=1 if name == "label" else 9, **strips, **facts)
    return path
