"""The short road says what pydicom says, of every file that it takes; and leaves the others to it."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ImplicitVRLittleEndian

from medtl_core.errors import DataError
from medtl_core.formats.dicom_identity import identities
from medtl_core.formats.dicom_pixels import check_image
from medtl_core.formats.dicom_plain import plain_file, plain_frame
from tests.formats.dicom_made import dataset, dicom

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
WORDS = (
    "Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PhotometricInterpretation", "Modality",
    "NumberOfFrames", "SeriesInstanceUID", "PatientID", "PatientName", "InstanceNumber", "ImageOrientationPatient",
    "ImagePositionPatient", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "ImageType",
    "WindowCenter", "WindowWidth", "StudyDate", "BurnedInAnnotation", "PatientOrientation", "PatientWeight",
)  # fmt: skip


def test_the_samples_are_told_as_pydicom_tells_them() -> None:
    taken = decoded = 0
    for path in [*sorted(SAMPLES.glob("*.dcm")), *sorted(SHARED.glob("dicom_s*/**/*.dcm"))[:20]]:
        for pixels in (True, False):
            ours = plain_file(path.read_bytes(), pixels=pixels)
            if ours is None:
                continue
            with warnings.catch_warnings(action="ignore"):
                theirs = pydicom.dcmread(path, stop_before_pixels=not pixels)
                assert {int(tag) for tag, _ in ours.items()} == {int(tag) for tag, _ in theirs.items()}, path
                assert identities(ours) == identities(theirs), path
                for word in WORDS:
                    assert _plain(ours.get(word)) == _plain(theirs.get(word)), (path, word)
                    assert (word in ours) == (word in theirs), (path, word)
                taken += 1
                frame = plain_frame(ours, 0) if pixels and _is_image(ours) else None
                if frame is not None:
                    assert np.array_equal(frame, pixel_array(theirs, index=0)), path
                    decoded += 1
    assert taken >= 60 and decoded >= 4, (taken, decoded)


def _is_image(file: Any) -> bool:
    try:
        return check_image(file) > 0
    except DataError:
        return False


def _plain(value: Any) -> Any:
    if value is None or value == "":
        return None
    return [float(one) if isinstance(one, float) else str(one) for one in np.atleast_1d(np.asarray(value)).tolist()]


def test_packed_frames_are_those_that_pydicom_unpacks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, bits in ((np.uint8, 8), (np.uint16, 12), (np.int16, 16)):
        pixels = np.repeat(rng.integers(0, 200, (2, 40, 6)), 7, axis=2).astype(kind)
        made = dataset(pixels, bits=bits)
        made.compress(pydicom.uid.RLELossless, generate_instance_uid=False)
        for index in range(2):
            frame = plain_frame(made, index)
            assert frame is not None and frame.dtype == kind
            assert np.array_equal(frame, pixels[index])
        made.PixelData = made.PixelData[:-60]
        assert plain_frame(made, 1) is None  # pydicom says what is wrong


def test_bits_that_are_no_pixels_are_cleared(tmp_path: Path) -> None:
    stored = np.array([[0x0FFF, 0xF001], [0x0800, 0x7000]], np.uint16)
    for kind, expected in ((np.uint16, [[4095, 1], [2048, 0]]), (np.int16, [[-1, 1], [-2048, 0]])):
        made = plain_file(
            dicom(tmp_path / "x.dcm", stored.view(kind), bits=16, BitsStored=12).read_bytes(), pixels=True
        )
        assert made is not None and plain_frame(made, 0).tolist() == expected


@pytest.mark.parametrize("change", ["no mark", "says implicit", "cut off", "an item", "huge length", "deflated"])
def test_odd_files_are_left_to_pydicom(tmp_path: Path, change: str) -> None:
    path = dicom(tmp_path / "x.dcm", np.arange(12, dtype=np.uint8).reshape(3, 4))
    content = bytearray(path.read_bytes())
    assert plain_file(bytes(content), pixels=True) is not None
    explicit = b"1.2.840.10008.1.2.1\0"
    if change == "no mark":
        content[128:132] = b"DICX"
    elif change == "says implicit":
        content = content.replace(explicit, b"1.2.840.10008.1.2\0\0\0")
    elif change == "deflated":
        content = content.replace(b"\x14\0" + explicit, b"\x16\x001.2.840.10008.1.2.1.99")
    elif change == "cut off":
        content = content[:-2]
    elif change == "an item":
        content += b"\xfe\xff\x0d\xe0\0\0\0\0"
    else:
        content += b"\x10\x00\x00\x40LT\xff\xff"
    assert plain_file(bytes(content), pixels=True) is None


def test_an_implicit_header_is_told_by_the_dictionary(tmp_path: Path) -> None:
    facts = {"PixelPaddingValue": -2000, "PatientName": "Müller", "SpecificCharacterSet": "ISO_IR 100"}
    made = dataset(np.zeros((4, 4), np.int16), **facts)
    made.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    told = plain_file((tmp_path / "x.dcm").read_bytes(), pixels=True)
    assert told is not None and told.get("PixelPaddingValue") == -2000 and str(told.PatientName) == "Müller"
    assert told.get("RescaleSlope") is None and told.get("RescaleSlope", 1) == 1
    with pytest.raises(AttributeError):
        _ = told.RescaleSlope
