"""Pixels of DICOM files against independent decoders, and grey values against hand-computed ones."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from medtl_core.data.images import decode
from medtl_core.errors import DataError
from medtl_core.formats import dicom_pixels
from medtl_core.formats.dicom_pixels import check_image, picture, read_dataset, show, stored_frame, upright
from medtl_core.formats.dicom_scale import Scale, scale_of
from medtl_core.formats.nifti import read_nifti
from medtl_core.formats.windows import CT_WINDOWS, Window, robust_window
from tests.formats.dicom_made import dataset, dicom

SAMPLES = Path(pydicom.__file__).parent / "data" / "test_files"
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def _measured(path: Path) -> NDArray[Any]:
    """All frames of a file in measured values, or as RGB."""
    read = read_dataset(path)
    frames = np.stack([stored_frame(read, index) for index in range(check_image(read))])
    if frames.ndim == 4:
        return frames
    scale, inverted = scale_of(read), read.PhotometricInterpretation == "MONOCHROME1"
    # SimpleITK shows MONOCHROME1 the other way round
    return scale.measured[scale.high - frames.astype(int) if inverted else frames.astype(int) - scale.low]


def _independent(path: Path) -> NDArray[Any]:
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))


def _samples() -> list[Path]:
    files = [path for path in sorted(SAMPLES.rglob("*")) if path.is_file() and "TINY_ALPHA" not in path.parts]
    own = [path for path in files if path.suffix not in (".py", ".txt", ".json", ".md", ".dump", ".pyc")]
    return own + sorted(SHARED.glob("dicom_samples/*.dcm")) + sorted(SHARED.glob("dicom_series/*/*.dcm"))


@pytest.mark.slow
def test_samples_equal_another_decoder_or_are_refused() -> None:
    refused, equal = {}, 0
    for path in _samples():
        try:
            with warnings.catch_warnings(action="ignore"):
                ours = _measured(path)
        except DataError as error:
            refused[path] = str(error)
            continue
        theirs = _independent(path)
        assert np.allclose(ours, theirs.reshape(ours.shape), atol=1e-6 * np.abs(ours).max()), path
        equal += 1
    assert equal >= 76, equal
    assert {*refused.values()} <= {
        "not a DICOM file (its preamble is missing)",
        "holds no picture (a report, plan or waveform), or its header is damaged",
        "a segmentation, dose or document, no picture of a patient; leave it out",
        "16 bits a sample are not read; read are 8 to 16, in colour 8",
        "32 bits a sample are not read; read are 8 to 16, in colour 8",
        "its pixels are cut off, damaged or compressed in a way that is not read",
    }


@pytest.mark.slow
def test_nifti_samples_equal_another_reader_or_are_refused() -> None:
    files = [*SHARED.glob("nifti_samples/*.nii*"), *sorted(SHARED.glob("mri_hippocampus/images/*"))[:20]]
    refused = []
    for path in files:
        try:
            values, _ = read_nifti(path)
        except DataError as error:
            refused.append(str(error))
            continue
        theirs = _independent(path).transpose(2, 1, 0)
        assert np.allclose(values, theirs, rtol=1e-6), path
    assert not files or (
        len(files) == 31 and sorted(refused) == [f"holds {n} volumes; export the one to use" for n in (2, 20, 7)]
    )


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize(
    "syntax",
    [
        "plain",
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
def test_grey_round_trips(tmp_path: Path, syntax: Any, bits: int, signed: bool) -> None:
    least = -(1 << bits - 1) if signed else 0
    pixels = (np.arange(40 * 36).reshape(40, 36) * 8191 % (1 << bits) + least).astype(
        f"{'' if signed else 'u'}int{8 if bits == 8 else 16}"
    )
    path = _written(tmp_path / "x.dcm", dataset(pixels, bits=bits), syntax)
    read = read_dataset(path)
    assert check_image(read) == 1
    assert np.array_equal(stored_frame(read), pixels)


def _written(path: Path, made: Dataset, syntax: Any) -> Path:
    """Writes in another transfer syntax; what pydicom cannot encode, GDCM does."""
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    if syntax == "plain":
        made.save_as(path, enforce_file_format=True)
    elif syntax in (RLELossless, JPEG2000Lossless):
        made.compress(syntax, generate_instance_uid=False)
        made.save_as(path, enforce_file_format=True)
    elif syntax in (JPEGLosslessSV1, JPEGLSLossless):
        import gdcm

        made.save_as(path, enforce_file_format=True)
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        kinds = {
            JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
            JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
        }
        change.SetTransferSyntax(gdcm.TransferSyntax(kinds[syntax]))
        assert reader.Read()
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()
    else:
        if syntax == ExplicitVRBigEndian and made.BitsAllocated == 16:
            made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
        made.file_meta.TransferSyntaxUID = syntax
        pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


#: An HTJ2K codestream of (0 ... 63) * 61 - 1000 as int16 [8, 8], by OpenJPH.
_HT = (
    "ff4fff5100294000000000080000000800000000000000000000000800000008000000000000000000018f0101ff50000800020000000aff5200"
    "0c00020001000504044001ff5c00132088909090909090909090909090888888ff64001700014f70656e4a50482056657220302e32362e332eff"
    "90000a0000000000590001ff93c00025f8018774000000c00013400013002afe0207740064f103877400c00013400013801010018274009228"
    "8900c35400c0002a20001560388ee3aa70827500ce3b77eefcc04201ecb600ffd9"
)


def test_high_throughput_jpeg_2000() -> None:
    expected = (np.arange(64).reshape(8, 8) * 61 - 1000).astype(np.int16)
    made = dataset(expected)
    made.PixelData = pydicom.encaps.encapsulate([bytes.fromhex(_HT)])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = HTJ2KLossless
    assert np.array_equal(stored_frame(made), expected)


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_round_trips(photometric: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    shown = picture(dataset(pixels, photometric))
    if photometric == "RGB":
        assert np.array_equal(shown, pixels)
        return
    y, cb, cr = np.moveaxis(pixels.astype(float), -1, 0)  # PS3.3 C.7.6.3.1.2
    rgb = np.stack(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], -1
    )
    assert np.abs(shown - np.clip(np.rint(rgb), 0, 255)).max() <= 1


def test_palette() -> None:
    made = dataset(np.array([[0, 1], [2, 200]], np.uint8), "PALETTE COLOR")
    for place, colour in enumerate(("Red", "Green", "Blue")):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        values = np.array([0, 10, 20 + place], "<u2") << 8
        setattr(made, f"{colour}PaletteColorLookupTableData", values.tobytes())
    assert picture(made)[..., 0].tolist() == [[0, 10], [20, 20]]
    assert picture(made)[1, 1].tolist() == [20, 21, 22]


def test_windows_by_hand() -> None:
    # PS3.3 C.11.2.1.2.1: c=2048, w=4096 -> 0 at 0, 255 at 4095; C.11.2.1.3.2: half-way exactly at c
    assert Window(2048, 4096).grey(np.array([0, 1024, 4095])).tolist() == [0, 64, 255]
    assert Window(100, 200, "LINEAR_EXACT").grey(np.array([-5, 0, 50, 100, 200])).tolist() == [0, 0, 64, 128, 255]
    # 255 / (1 + exp(-4 (x - c) / w)): 0.5, 0.8808, 0.1192
    assert Window(10, 20, "SIGMOID").grey(np.array([10, 20, 0])).tolist() == [128, 225, 30]
    assert Window(7, 1).grey(np.array([6, 7, 8])).tolist() == [0, 255, 255]
    lung, soft, bone = (window.grey(np.array([-1000, -600, 0, 40, 400, 1300])).tolist() for window in CT_WINDOWS)
    assert lung == [60, 128, 230, 236, 255, 255]
    assert soft == [0, 0, 102, 128, 255, 255]
    assert bone == [0, 0, 71, 77, 128, 255]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_equal_pydicom(function: str) -> None:
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    made = dataset(pixels, bits=12, WindowCenter=[300, 9], WindowWidth=[700, 9], VOILUTFunction=function)
    theirs = np.rint(apply_windowing(pixels, made) / 4095 * 255)
    assert np.abs(picture(made)[..., 0] - theirs).max() <= (function == "SIGMOID")


def test_rescale_polarity_and_padding() -> None:
    pixels = np.array([[0, 100], [200, 4095]], np.uint16)
    made = dataset(pixels, bits=12, RescaleSlope=2, RescaleIntercept=-200, WindowCenter=0, WindowWidth=400)
    made.VOILUTFunction = "LINEAR_EXACT"
    assert picture(made)[..., 0].tolist() == [[0, 128], [255, 255]]
    made.PhotometricInterpretation = "MONOCHROME1"
    assert picture(made)[..., 0].tolist() == [[255, 127], [0, 0]]
    made.PresentationLUTShape = "INVERSE"  # says the same once more
    check_image(made)
    made.PixelPaddingValue = 0  # padding is black, whatever the polarity
    assert picture(made)[..., 0].tolist() == [[0, 127], [0, 0]]


def test_padding_of_numbers_with_a_sign_may_be_written_without(tmp_path: Path) -> None:
    pixels = np.array([[-2000, -1000], [0, 1000]], np.int16)
    made = dataset(pixels, WindowCenter=0, WindowWidth=8000, VOILUTFunction="LINEAR_EXACT")
    made.add_new(0x00280120, "US", 65536 - 2000)
    assert picture(made)[..., 0].tolist() == [[0, 96], [128, 159]]


def test_without_a_window_a_picture_looks_as_it_would_in_another_format() -> None:
    pixels = np.tile(np.arange(1000, 1100, dtype=np.uint16), (100, 1))
    pixels[3, 3] = 65535
    expected = decode(pixels)[..., :1]
    assert expected[9, 99, 0] > 120  # one outlier does not make all others black
    padded = np.vstack([pixels, np.full((50, 100), 63, np.uint16)])
    assert np.array_equal(picture(dataset(padded, PixelPaddingValue=63)), np.pad(expected, ((0, 50), (0, 0), (0, 0))))
    inverted = picture(dataset(padded, "MONOCHROME1", PixelPaddingValue=63))
    assert np.array_equal(inverted, np.pad(~expected, ((0, 50), (0, 0), (0, 0))))
    assert picture(dataset(np.full((4, 4), 9, np.uint16))).max() == 0
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(picture(dataset(eight))[..., 0], eight)


def test_a_robust_window_lies_between_percentiles() -> None:
    values = np.array([np.nan, *range(101), 9e9])
    assert robust_window(values, values < 1e9) == Window(50.0, 98.0, "LINEAR_EXACT")
    assert robust_window(np.zeros(9)) is None


def test_tables() -> None:
    pixels = np.array([[0, 10, 11, 12, 4000]], np.uint16)
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [3, 10, 16], [0, 30, 1000]
    made = dataset(pixels, bits=12, ModalityLUTSequence=Sequence([table]), WindowCenter=500, WindowWidth=1000)
    made.VOILUTFunction = "LINEAR_EXACT"
    assert picture(made)[0, :, 0].tolist() == [0, 0, 8, 255, 255]
    shown = Dataset()
    shown.LUTDescriptor, shown.LUTData = [300, 0, 8], list(range(256)) + [255] * 44
    made = dataset(pixels, bits=12, VOILUTSequence=Sequence([shown]))
    assert picture(made)[0, :, 0].tolist() == [0, 10, 11, 12, 255]


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_is_read_as_most_devices_write_it(tmp_path: Path, name: str) -> None:
    pixels, table = np.array([[0, 10, 11, 12, 13]], np.uint16), Dataset()
    table.LUTDescriptor, table.LUTData = [3, 10, 16], np.array([0, 257 * 30, 65535], "<u2").tobytes()  # OW
    facts = {} if name[0] == "V" else {"WindowCenter": 32767.5, "WindowWidth": 65535, "VOILUTFunction": "LINEAR_EXACT"}
    path = dicom(tmp_path / "x.dcm", pixels, bits=12, **{name: Sequence([table]), **facts})
    assert picture(read_dataset(path))[0, :, 0].tolist() == [0, 0, 30, 255, 255]


def test_mirrored_pictures_are_turned() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for orientation, expected in (
        (["L", "F"], [[0, 1, 2], [3, 4, 5]]),
        (["R", "F"], [[2, 1, 0], [5, 4, 3]]),
        (["L", "H"], [[3, 4, 5], [0, 1, 2]]),
        (["F", "L"], [[0, 3], [1, 4], [2, 5]]),
        (["H", "R"], [[5, 2], [4, 1], [3, 0]]),
    ):
        made = dataset(pixels, PatientOrientation=orientation)
        assert upright(picture(made), made)[..., 0].tolist() == expected


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PhotometricInterpretation": "MRS JANE DOE"}, "photometric"),
        ({"PhotometricInterpretation": "RGB"}, "photometric"),
        ({"Rows": 60000, "Columns": 60000}, "more than"),
        ({"NumberOfFrames": 10_000_000}, "more than"),
        ({"Rows": 400}, "cut off"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "bits"),
        ({"BitsStored": 1}, "bits"),
        ({"BitsStored": 12, "HighBit": 15}, "lowest bit"),
        ({"PresentationLUTShape": "INVERSE"}, "black, and white"),
        ({"Modality": "SEG"}, "segmentation"),
        ({"Modality": "CT"}, "Hounsfield"),
        ({"WindowCenter": 0, "WindowWidth": 0}, "no width"),
        ({"WindowCenter": 0, "WindowWidth": 9, "VOILUTFunction": "JANE_DOE"}, "function of its window"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "slope is 0"),
        ({"WindowCenter": 60_000, "WindowWidth": 9, "PixelData": bytes(range(32))}, "shows nothing of it"),
    ],
)
def test_what_is_not_read_is_refused_by_one_sentence(tags: dict[str, Any], words: str) -> None:
    made = dataset(np.zeros((4, 4), np.uint16))
    for name, value in tags.items():
        setattr(made, name, value)
    with pytest.raises(DataError, match=words) as error:
        check_image(made)
        picture(made)
    assert "JANE" not in str(error.value)


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", ">u2", "i2"])
def test_three_windows_are_looked_up_as_one_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bands, of any type, beyond the ends of the scale, and whichever way numpy writes."""
    rng, info = np.random.default_rng(3), np.iinfo(kind)
    stored = rng.integers(info.min, info.max, (2, 200, 301), endpoint=True).astype(kind)
    bits = info.bits - 2
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if info.min else (0, (1 << bits) - 1)
    scale = Scale(low, high, 2.0, -1000.0, padding=(low, low + 3))
    for inverted in (False, True):
        single = [show(stored, scale, (window,), inverted=inverted) for window in CT_WINDOWS]
        for count in (2, 3):
            expected = np.concatenate(single[:count], axis=-1)
            assert np.array_equal(show(stored, scale, CT_WINDOWS[:count], inverted=inverted), expected)
    monkeypatch.setattr(dicom_pixels, "_writes_in_order", lambda: False)
    assert np.array_equal(show(stored, scale, CT_WINDOWS, inverted=True), expected)
