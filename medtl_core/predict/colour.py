"""Whether a picture has colour where none belongs: an X-ray, say, of which somebody has saved a screenshot."""

from pathlib import Path

import numpy as np

from medtl_core.data.images import FORMATS, SUFFIXES

#: Modalities whose pictures are grey.
_GREY = ("x-ray", "ct", "mri", "ultrasound", "oct")
#: A picture in which channels differ by more than this share of white, on average, has colour.
_COLOUR = 0.04
_SMALL = (64, 64)


def is_grey(modality: str) -> bool:
    """Returns whether pictures of a modality are grey.

    Example:
        >>> is_grey("chest X-ray, frontal"), is_grey("dermoscopy")
        (True, False)
    """
    return any(word in modality.lower().replace(",", " ").split() for word in _GREY)


def has_colour(path: Path) -> bool:
    """Returns whether a picture has colour; of a scan no, for its values have one channel or are its reader's to say.

    It is looked at in small: a mark or a coloured word at the edge is no colour.
    """
    from PIL import Image

    if path.suffix.lower() not in SUFFIXES:
        return False
    with Image.open(path, formats=FORMATS) as picture:
        if picture.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
            return False
        picture.draft("RGB", _SMALL)
        pixels = np.asarray(picture.convert("RGB").resize(_SMALL), np.float64) / 255
    return bool(np.ptp(pixels, axis=2).mean() > _COLOUR)
