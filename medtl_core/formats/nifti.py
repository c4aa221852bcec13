"""NIfTI files: one volume each, with its orientation."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.formats.dicom_identity import PERMITS, permits
from medtl_core.formats.volumes import MAX_VOXELS, canonical, planes
from medtl_core.values import Array

SUFFIXES = (".nii", ".nii.gz")
#: Kinds of header extension in which DICOM headers or comments are carried along.
_TEXT = {2: "a DICOM header", 4: "text", 6: "a comment"}


def read_nifti(path: Path) -> tuple[NDArray[np.float32], Array]:
    """Returns a volume, float32 [i, j, k] after the file's own scaling, and its axes as `volumes.canonical` reads them.

    Raises:
        DataError: the file is damaged, too large, holds several volumes, colours or complex numbers, or carries text
            in its header that the hospital does not permit.
    """
    import nibabel

    try:
        with warnings.catch_warnings(action="ignore"):
            image: Any = nibabel.load(path)
            shape, kind = tuple(int(side) for side in image.shape), image.get_data_dtype()
            extensions = {extension.get_code() for extension in image.header.extensions}
            axes = np.asarray(image.affine, np.float64)[:3, :3].T * (-1.0, -1.0, 1.0)
            stated = [form[:3, :3] for form, code in (image.get_qform(coded=True), image.get_sform(coded=True)) if code]
    except FileNotFoundError as error:
        raise DataError("no such file") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged header makes the parser raise almost anything
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        if packed != (path.suffix.lower() == ".gz"):
            raise DataError(f"{'packed' if packed else 'not packed'}, other than its name says; rename it") from error
        raise DataError("not a readable NIfTI file") from error
    _check(shape, kind)
    if not stated:
        raise DataError("states no orientation: give its header the code of a qform or sform, if that is known")
    if (np.sum(np.prod(stated, axis=0), axis=0) < 0).any() and len(stated) > 1:
        raise DataError("its qform and sform disagree on what is left, front or up; mend the wrong one")
    if extensions & _TEXT.keys() and "comments" not in permits(path.parent):
        carried = _TEXT[min(extensions & _TEXT.keys())]
        raise DataError(
            f"the header carries {carried}, which may identify a patient: strip its extensions, or permit it in "
            f'{PERMITS} beside it, permit = ["comments"]'
        )
    try:
        with warnings.catch_warnings(action="ignore"):
            values = image.get_fdata(dtype=np.float32, caching="unchanged")
    except MemoryError:
        raise
    except Exception as error:
        raise DataError("cut off or damaged NIfTI file") from error
    return values.reshape(shape[:3]), axes


def pictures_of_nifti(path: Path) -> list[NDArray[np.uint8]]:
    """Returns the pictures that stand for a volume; see `volumes.planes`. Zeros and what is no number are background.

    Raises:
        DataError: see `read_nifti`, `canonical` and `planes`.
    """
    values, axes = read_nifti(path)
    volume = canonical(values, axes)
    return planes(volume, np.isfinite(volume) & (volume != 0))


def _check(shape: tuple[int, ...], kind: Any) -> None:
    if len(shape) < 3 or min(shape) < 1:
        raise DataError(f"{len(shape)} dimensions make no volume")
    if any(side != 1 for side in shape[3:]):
        raise DataError(f"holds {int(np.prod(shape[3:]))} volumes; export the one to use")
    if int(np.prod(shape, dtype=np.float64)) > MAX_VOXELS:
        raise DataError(f"{' x '.join(map(str, shape[:3]))} voxels are more than {MAX_VOXELS:,}")
    if kind.kind not in "iuf":
        raise DataError("voxels that are colours or complex numbers are not read; export grey values")
