"""What speaks against a picture before a head is asked: colour where none belongs, nothing on it, another machine's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medtl_core.data.images import FORMATS, SUFFIXES
from medtl_core.formats.decoder import decoder, kind_of

#: Modalities whose pictures are grey.
_GREY = ("x-ray", "ct", "mri", "ultrasound", "oct")
#: A picture in which channels differ by more than this share of white, on average, has colour.
_COLOUR = 0.04
_SMALL = (64, 64)
#: Pixels of a side below which a picture shows too little.
_LEAST = 16
#: What a DICOM header calls a modality, and a volume as such -> words of those that a head reads.
_SHOWS = {
    "CT": ("ct",), "MR": ("mri", "mr"), "PT": ("pet",), "US": ("ultrasound",), "CR": ("x-ray",), "DX": ("x-ray",),
    "MG": ("mammography", "x-ray"), "a volume": ("ct", "mri", "mr", "pet", "oct", "ultrasound", "microscopy"),
}  # fmt: skip
_STATED = {"dermoscopy", "histology", "fundus"}.union(*_SHOWS.values())


def is_grey(modality: str) -> bool:
    """Returns whether pictures of a modality are grey.

    Example:
        >>> is_grey("chest X-ray, frontal"), is_grey("dermoscopy")
        (True, False)
    """
    return not {*_GREY}.isdisjoint(_words(modality))


def _words(modality: str) -> list[str]:
    return modality.lower().replace(",", " ").split()


def oddity(path: Path, modality: str) -> str:
    """Returns what speaks against a file that could be read as a picture of a modality; "" = nothing.

    Colour is looked at in small: a mark or a coloured word at the edge is none. A scan is what its header calls it.
    """
    from PIL import Image

    if path.suffix.lower() not in SUFFIXES:
        stated = _STATED.intersection(_words(modality))
        what = "a volume" if kind_of(path) == "volumes" else header_of(path).get("Modality", "") if stated else ""
        other = stated and what in _SHOWS and stated.isdisjoint(_SHOWS[what])
        return f"is {what}, and the head reads {modality}" if other else ""
    with Image.open(path, formats=FORMATS) as picture:
        if min(picture.size) < _LEAST:
            return f"has fewer than {_LEAST} pixels along a side"
        coloured = picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr")
        picture.draft("RGB" if coloured else None, _SMALL)
        whole = np.asarray(picture)
        if (whole == whole[:1, :1]).all():
            return "shows nothing: all its pixels are equal"
        if not coloured or not is_grey(modality):
            return ""
        pixels = np.asarray(picture.convert("RGB").resize(_SMALL), np.float64) / 255
    return f"has colour, which no picture of {modality} has" if np.ptp(pixels, axis=2).mean() > _COLOUR else ""


def header_of(path: Path) -> Mapping[str, str]:
    """Returns what a DICOM file's header says, read under the check for identities; nothing of other files.

    Raises:
        DataError: see `formats.child.header`.
    """
    if not path.name or kind_of(path) != "dicom":
        return {}
    file = next(iter(sorted(path.iterdir()))) if path.is_dir() else path
    return {name: str(value) for name, value in decoder().ask("header", file)[0].items()}
