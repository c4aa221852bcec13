"""Invented DICOM files and NIfTI volumes."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

Pixels = NDArray[Any]


def dataset(pixels: Pixels, photometric: str = "MONOCHROME2", bits: int = 0, **tags: Any) -> Dataset:
    """A Dataset of pixels [h, w], [h, w, 3] or [frames, h, w], uncompressed, with further tags by keyword."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.set_pixel_data(pixels, photometric, bits or 8 * pixels.dtype.itemsize)
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, f"1.2.{zlib.crc32(str(tags).encode())}"
    made.SeriesInstanceUID, made.Modality = "1.2.3", "OT"
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def dicom(path: Path, pixels: Pixels, photometric: str = "MONOCHROME2", bits: int = 0, **tags: Any) -> Path:
    """Writes `dataset` to a file, whose path it returns."""
    made = dataset(pixels, photometric, bits, **tags)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.save_as(path, enforce_file_format=True)
    return path


def ct_series(folder: Path, count: int = 6, **tags: Any) -> Path:
    """A series of CT slices 2 mm apart, written in no order; slice k holds k * 100 - 1000 HU."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in np.random.default_rng(3).permutation(count).tolist():
        pixels = np.full((16, 12), place * 100, np.uint16)
        position = {"ImagePositionPatient": [0, 0, 2.0 * place], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        facts = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1000, "InstanceNumber": place + 1}
        dicom(folder / f"{99 - place}.dcm", pixels, bits=12, **{**facts, **position, **tags})
    return folder


def nifti(path: Path, values: Pixels, affine: Pixels | None = None) -> Path:
    """Writes a volume [i, j, k]."""
    import nibabel

    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path
