"""Reading single images: decode, check, and the key of their content."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.depth import BAND, bands, deep_channels, windowed
from medtl_core.errors import DataError
from medtl_core.values import Array, Examples

Pictures = Sequence[NDArray[np.uint8]]

#: What may be decoded. Everything else (DICOM, SVG, PDF, GIF ...) is refused: convert it first.
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")  # the last two may be slides
#: What scans are called, where their names end in something; these are read behind the door to `formats`.
SCANS = (".dcm", ".nii", ".gz", ".svs", ".ndpi", ".scn", ".bif")
#: A larger picture is refused before a pixel is decoded: a small file may declare a huge one.
MAX_PIXELS = 64_000_000
#: Pictures of more than 8 bits a channel take more memory a pixel: 32 million of 16 bits, 16 million of 32 bits.
MAX_WIDE_BYTES = 64_000_000

_LONGEST_NAME = 100
#: TIFF's tag that says, with 0, that white is the smallest value.
_PHOTOMETRIC = 262


def decode(image: Path | str | Array, *, robust: bool = True) -> NDArray[np.uint8]:
    """Returns an image as uint8 [h, w, 3].

    Grey becomes three equal channels, alpha is dropped, EXIF orientation is applied, white is the largest value. Images
    of more than 8 bits a channel (16-bit grey or colour, 32-bit integer, float) carry no agreed window; see `windowed`.

    Args:
        image: a file, or an array [h, w], [h, w, 1], [h, w, 3] or [h, w, 4].
        robust: whether that window leaves out padding and outliers, as features do since version 3.

    Raises:
        DataError: the file is missing, damaged, too large, of another format or holds several pictures; or the array
            has another shape or is not finite.
    """
    pictures = read_pictures(image, robust=robust)
    if len(pictures) > 1:
        raise DataError(f"{image}: holds {len(pictures)} pictures where one is expected")
    return pictures[0]


def read_pictures(image: Path | str | Array, *, robust: bool = True) -> Pictures:
    """Returns the pictures of a case, each as `decode` returns one: several of a scan (a DICOM or NIfTI file, the
    folder of a DICOM series, or a slide), which a process of its own reads (see `formats.child`), else one.

    Raises:
        DataError: see `decode`, or the scan is refused.
    """
    (pictures,) = read_each([image], robust=robust)
    return pictures


def read_each(images: Sequence[Path | str | Array], *, robust: bool = True) -> Iterator[Pictures]:
    """Yields the pictures of each case in order, as `read_pictures` returns or refuses them; scans are read ahead."""
    for image, found in zip(images, read_or_refuse(images, robust=robust), strict=True):
        if isinstance(found, DataError):
            if not isinstance(image, np.ndarray) and not is_there(image):
                raise no_such_file(Path(image)) from found
            raise DataError(f"{'the array' if isinstance(image, np.ndarray) else image}: {found}") from found
        yield found


def read_or_refuse(images: Sequence[Path | str | Array], *, robust: bool = True) -> Iterator[Pictures | DataError]:
    """Yields the same of each case, or why it cannot be used, without its name."""
    from medtl_core.formats.decoder import pictures_of_each

    return pictures_of_each(images, partial(_pictures, robust=robust), SUFFIXES[:-2])


def _pictures(image: Path | str | Array, robust: bool) -> Pictures:
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[2] > 4:
            from medtl_core.formats.volumes import grey_planes

            return grey_planes(image)
        return [_three_channels(image, robust)]
    pixels, inverted = _read(Path(image))
    return [~_three_channels(pixels, robust) if inverted else _three_channels(pixels, robust)]


def images_of(examples: Examples) -> Array | None:
    """Returns the images of cases, files [n] or pixels [n, ...]; None where the cases are a table."""
    return next((examples[name] for name in ("path", "image") if name in examples.columns), None)


def content_key(image: Path | str | Array) -> str:
    """Returns the SHA-256 hex digest of a file's bytes, of a folder's files', or of an array's type, shape and bytes.

    Raises:
        DataError: the file cannot be read.
    """
    if isinstance(image, np.ndarray):
        head = f"{image.dtype.str}{image.shape}".encode()
        return hashlib.sha256(head + np.ascontiguousarray(image).tobytes()).hexdigest()
    try:
        with open(image, "rb") as handle:  # noqa: PTH123 - of every case, as below: a Path costs as much as the file
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except IsADirectoryError:
        return hashlib.sha256("".join(sorted(map(content_key, Path(image).iterdir()))).encode()).hexdigest()
    except FileNotFoundError:
        raise no_such_file(Path(image)) from None
    except OSError as error:
        raise DataError(f"{image}: cannot be read ({error.strerror or 'unreadable'})") from error


def is_there(path: Path | str) -> bool:
    """Returns whether a file or folder is there; text that can be no name of one names none."""
    return os.path.isfile(path) or os.path.isdir(path)  # noqa: PTH112, PTH113


def is_file_name(text: str) -> bool:
    """Returns whether text looks like an image file's name; other text may be another cell, and is not quoted."""
    path = Path(text)
    return path.suffix.lower() in (*SUFFIXES, *SCANS) and len(path.name) <= _LONGEST_NAME and path.name.isprintable()


def no_such_file(path: Path) -> DataError:
    """Returns the error of an image that is not there."""
    if is_file_name(str(path)):
        return DataError(f"{path}: no such image file")
    return DataError(f"no such image file: a name that ends in {', '.join(SUFFIXES)} is expected")


def _read(path: Path) -> tuple[Array, bool]:
    """The pixels of a file, and whether their largest value is black, as Pillow inverts those of 8 bits only."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    from medtl_core.formats.raster import check_whole, settle_layout

    try:  # a file that is named Pillow maps into memory, where it turns no TIFF on its side
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as picture:
            _check_frame(picture)
            unsigned, deep = settle_layout(picture), deep_channels(path, picture)
            if deep is not None:
                check_whole(path, picture, loaded=False)
                return deep, False
            inverted = picture.mode.startswith(("I", "F")) and getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0
            picture.load()
            check_whole(path, picture)
            ImageOps.exif_transpose(picture, in_place=True)
            pixels = _pixels(picture)
            return pixels.view(np.uint32) if unsigned else pixels, inverted
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"declares more than {MAX_PIXELS:,} pixels") from error
    except FileNotFoundError as error:
        raise DataError("no such image file") from error
    except PermissionError as error:
        raise DataError("may not be read by this user") from error
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise DataError(f"not an image of a known format ({known}), or one in a rare layout; save it as PNG") from error
    except Exception as error:  # a damaged file makes a decoder raise almost anything
        raise DataError("damaged or unreadable image") from error


def _check_frame(picture: Any) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")
    deep = any(";16" in str(tile.args) for tile in picture.tile)
    depth = (2 if deep or ";16" in picture.mode else 4) * len(picture.getbands())
    if (deep or picture.mode.startswith(("I", "F"))) and width * height * depth > MAX_WIDE_BYTES:
        limit = f"{MAX_WIDE_BYTES // depth:,} of {8 * depth} bits"
        raise DataError(f"{width} x {height} pixels are more than {limit}; save it with 8 bits, or smaller")
    # MPO is how some cameras pack a JPEG with its preview: the first frame is the picture.
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        raise DataError(f"holds {picture.n_frames} frames; export the one to use")


def _pixels(picture: Any) -> Array:
    width, height = picture.size
    if width * height <= BAND:
        return _channels(picture)
    for rows in bands(height, width):
        band = _channels(picture.crop((0, rows.start, width, min(rows.stop, height))))
        if rows.start == 0:
            pixels = np.empty((height, *band.shape[1:]), band.dtype)
        pixels[rows] = band
    return pixels


def _channels(picture: Any) -> Array:
    if picture.mode.startswith(("I", "F")):
        return np.asarray(picture)
    if picture.mode in ("1", "L", "LA"):
        return np.asarray(picture.convert("L"))
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _three_channels(image: Array, robust: bool) -> NDArray[np.uint8]:
    if image.ndim == 3 and image.shape[2] in (1, 3, 4):
        image = image[:, :, :3]
    elif image.ndim == 2:
        image = image[:, :, None]
    else:
        raise DataError(f"shape {image.shape} is not [h, w], [h, w, 1], [h, w, 3] or [h, w, 4]")
    if not image.size:
        raise DataError(f"shape {image.shape} holds no pixel")
    if image.dtype != np.uint8:
        image = windowed(image, robust=robust)
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
