"""Series, volumes and the process that decodes them."""

import io
import json
import os
import signal
import zlib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medtl_core.errors import DataError
from medtl_core.formats import child
from medtl_core.formats.decoder import Decoder, decoder
from medtl_core.formats.dicom_series import pictures_of_dicom
from medtl_core.formats.nifti import pictures_of_nifti, read_nifti
from medtl_core.formats.volumes import canonical
from medtl_core.formats.windows import CT_WINDOWS
from tests.formats.dicom_made import ct_series, dataset, dicom, nifti


def test_a_ct_series_is_sorted_and_windowed(tmp_path: Path) -> None:
    pictures = pictures_of_dicom(ct_series(tmp_path / "study", 6))
    expected = [[int(window.grey(np.array(hu))) for window in CT_WINDOWS] for hu in range(-1000, -400, 100)]
    assert [picture[3, 3].tolist() for picture in pictures] == expected
    assert {picture.shape for picture in pictures} == {(16, 12, 3)}


def test_a_long_series_gives_twelve_slices(tmp_path: Path) -> None:
    pictures = pictures_of_dicom(ct_series(tmp_path / "study", 24))
    lung = [int(picture[0, 0, 0]) for picture in pictures]
    assert lung == [int(CT_WINDOWS[0].grey(np.array(100 * place - 1000))) for place in range(1, 24, 2)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"SeriesInstanceUID": "1.2.99"}, "two series"),
        ({"PatientID": "8", "PatientIdentityRemoved": "YES"}, "two patients"),
        ({"ImageOrientationPatient": [0, 1, 0, 1, 0, 0]}, "another orientation"),
        ({"ImagePositionPatient": [0, 0, 6.0]}, "where another slice"),
        ({"ImagePositionPatient": None}, "without position"),
        ({"Rows": 8, "Columns": 24}, "another size"),
        ({"Modality": "MR"}, "two modalities"),
        ({"PatientName": "DOE^JANE"}, "names of persons"),
        (None, "a slice is missing"),
        ("text", "not a DICOM file"),
    ],
)
def test_a_series_at_fault_is_one_error_with_its_file(tmp_path: Path, change: Any, words: str) -> None:
    folder = ct_series(tmp_path / "study", 6)
    path = folder / "97.dcm"  # slice 2
    if change is None:
        path.unlink()
    elif change == "text":
        path.write_text("JANE DOE")
    else:
        made = pydicom.dcmread(path)
        for name, value in change.items():
            setattr(made, name, value)
        made.save_as(path)
    with pytest.raises(DataError, match=words) as error:
        pictures_of_dicom(folder)
    assert "JANE" not in str(error.value)


def test_slices_are_turned_the_same_way(tmp_path: Path) -> None:
    plain = ct_series(tmp_path / "plain", 3)
    grid = np.arange(16 * 12).reshape(16, 12).astype(np.uint16) * 10
    facts = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1000}
    for place, pixels, orientation in (
        ("a", grid, [1, 0, 0, 0, 1, 0]),
        ("b", grid[:, ::-1], [-1, 0, 0, 0, 1, 0]),
        ("c", grid[::-1], [1, 0, 0, 0, -1, 0]),
        ("d", grid.T, [0, 1, 0, 1, 0, 0]),
    ):
        made = dicom(plain / place, np.ascontiguousarray(pixels), ImageOrientationPatient=orientation, **facts)
        assert np.array_equal(pictures_of_dicom(made)[0][..., 0], CT_WINDOWS[0].grey(grid - 1000.0)), place


def test_an_enhanced_file_is_a_series(tmp_path: Path) -> None:
    frames = np.stack([np.full((8, 8), value, np.uint16) for value in (300, 100, 200)])
    groups = []
    for depth in (6.0, 2.0, 4.0):
        position, group = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, depth]
        group.PlanePositionSequence = Sequence([position])
        groups.append(group)
    scale, plane, shared = Dataset(), Dataset(), Dataset()
    scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1000, "HU"
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelValueTransformationSequence, shared.PlaneOrientationSequence = Sequence([scale]), Sequence([plane])
    path = dicom(
        tmp_path / "x.dcm", frames, Modality="CT", NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=Sequence(groups), SharedFunctionalGroupsSequence=Sequence([shared]),
    )  # fmt: skip
    lung = [int(picture[0, 0, 0]) for picture in pictures_of_dicom(path)]
    assert lung == [int(CT_WINDOWS[0].grey(np.array(hu))) for hu in (-900, -800, -700)]


def _blob() -> NDArray[np.float64]:
    """A volume [x to the left, y to the back, z to the head] that looks different from every side."""
    x, y, z = np.meshgrid(*(np.arange(size) for size in (20, 24, 28)), indexing="ij")
    return 100.0 + x + 40.0 * (y > 12) + 80.0 * (z > 20)


def test_a_nifti_volume_is_seen_from_the_same_side_however_it_is_stored(tmp_path: Path) -> None:
    volume = _blob()
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI counts to the right and to the front
    expected = pictures_of_nifti(nifti(tmp_path / "a.nii.gz", volume, lps))
    assert [picture.shape for picture in expected] == [(24, 20, 3)] * 4 + [(28, 20, 3)] * 4 + [(28, 24, 3)] * 4
    axial, coronal = expected[0][..., 1].astype(int), expected[4][..., 1].astype(int)
    assert (np.diff(axial, axis=1)[0] >= 0).all()  # to the left
    assert axial[23].mean() > axial[0].mean()  # to the back
    assert coronal[0].mean() > coronal[-1].mean()  # head up
    turned = np.ascontiguousarray(volume[::-1].transpose(2, 0, 1))
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 1, 1, -1, 1
    for scale in (1.0, 7.0):
        other = pictures_of_nifti(nifti(tmp_path / "b.nii", turned * scale, affine))
        assert all(np.array_equal(one, two) for one, two in zip(expected, other, strict=True))


def test_a_volume_is_the_same_from_dicom_and_from_nifti(tmp_path: Path) -> None:
    volume = _blob().astype(np.int16)
    for place in range(volume.shape[2]):
        geometry = {"ImagePositionPatient": [0, 0, 1.5 * place], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        (tmp_path / "mr").mkdir(exist_ok=True)
        dicom(
            tmp_path / "mr" / f"{place * 5 % 28}",
            np.ascontiguousarray(volume[:, :, place].T),
            Modality="MR",
            **geometry,
        )
    ours = pictures_of_dicom(tmp_path / "mr")
    theirs = pictures_of_nifti(nifti(tmp_path / "x.nii.gz", volume, np.diag([-1.0, -1.0, 1.5, 1.0])))
    assert all(np.array_equal(one, two) for one, two in zip(ours, theirs, strict=True))


def test_background_and_what_is_no_number_do_not_set_the_grey(tmp_path: Path) -> None:
    volume = np.pad(_blob(), 4)
    plain = pictures_of_nifti(nifti(tmp_path / "a.nii", volume))
    stripped = pictures_of_nifti(nifti(tmp_path / "b.nii", np.where(volume == 0, np.nan, volume)))
    assert all(np.array_equal(one, two) for one, two in zip(plain, stripped, strict=True))


@pytest.mark.parametrize("unit", [1e-12, 1e-3, 1e9])
def test_the_unit_of_a_volume_does_not_matter(tmp_path: Path, unit: float) -> None:
    plain, other = (
        pictures_of_nifti(nifti(tmp_path / f"{times}.nii", (_blob() * times).astype(np.float32)))
        for times in (1.0, unit)
    )
    assert all(np.abs(one.astype(int) - two.astype(int)).max() <= 1 for one, two in zip(plain, other, strict=True))


@pytest.mark.parametrize(("name", "other"), [("a.nii", "b.nii.gz"), ("b.nii.gz", "a.nii")])
def test_a_volume_that_is_not_packed_as_its_name_says_is_refused_so(tmp_path: Path, name: str, other: str) -> None:
    nifti(tmp_path / name, _blob()).rename(tmp_path / other)
    with pytest.raises(DataError, match="packed, other than its name says; rename it"):
        pictures_of_nifti(tmp_path / other)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.zeros((9, 9, 9, 2), np.int16), "holds 2 volumes"),
        (np.ones((9, 9, 9), np.int16), "all alike"),
        (np.zeros((9, 9), np.int16), "2 dimensions"),
        (np.arange(60.0).reshape(3, 4, 5), "too few"),
        (np.ones((9, 9, 9), np.complex64), "complex"),
    ],
)
def test_nifti_files_that_are_refused(tmp_path: Path, values: NDArray[Any], words: str) -> None:
    path = nifti(tmp_path / "x.nii", values)
    with pytest.raises(DataError, match=words):
        pictures_of_nifti(path)


@pytest.mark.parametrize(
    ("qform", "sform", "words"), [(0, 0, "no orientation"), (1, 1, "and sform disagree"), (1, 0, "")]
)
def test_nobody_guesses_where_a_volume_has_its_left(tmp_path: Path, qform: int, sform: int, words: str) -> None:
    import nibabel

    image = nibabel.Nifti1Image(_blob(), np.eye(4))
    image.set_qform(np.diag([-1.0, 1.0, 1.0, 1.0]), qform)
    image.set_sform(np.eye(4), sform)
    nibabel.save(image, tmp_path / "x.nii")
    with pytest.raises(DataError, match=words) if words else nullcontext():
        assert read_nifti(tmp_path / "x.nii")[1][0, 0] == 1.0


def test_nifti_headers_that_carry_text_are_refused(tmp_path: Path) -> None:
    import nibabel

    image = nibabel.Nifti1Image(_blob(), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"JANE DOE"))
    nibabel.save(image, tmp_path / "x.nii")
    with pytest.raises(DataError, match="carries a comment") as error:
        pictures_of_nifti(tmp_path / "x.nii")
    assert "JANE" not in str(error.value)
    (tmp_path / "y").write_bytes((tmp_path / "x.nii").read_bytes())


def test_nifti_values_equal_another_reader(tmp_path: Path) -> None:
    import SimpleITK

    affine = np.array([[0, 0, 2.0, -3], [1.5, 0, 0, 4], [0, -1, 0, 5], [0, 0, 0, 1]])
    path = nifti(tmp_path / "x.nii.gz", _blob().astype(np.int16), affine)
    values, axes = read_nifti(path)
    other = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(other).transpose(2, 1, 0), values)
    direction = np.asarray(other.GetDirection()).reshape(3, 3).T
    assert np.allclose(axes / np.linalg.norm(axes, axis=1, keepdims=True), direction)
    turned = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(other, "LPI"))  # z runs down in ours
    assert np.array_equal(canonical(values, axes), turned)


def _answers(*requests: dict[str, str]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps({**request, "room": [0, 0]}) + "\n" for request in requests)
    replies = io.BytesIO()
    child.answer(io.BytesIO(lines.encode()), replies, 60)
    replies.seek(0)
    answers = []
    for _ in requests:
        reply = json.loads(replies.readline())
        replies.read(sum(int(np.prod(shape)) for shape in reply["shapes"]))
        answers.append(reply)
    return answers


def test_damaged_files_cost_one_typed_sentence(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", np.arange(400, dtype=np.uint16).reshape(20, 20), SeriesDescription="JANE DOE")
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    for trial in range(60):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if trial % 2 else whole)
        for place in rng.integers(0, len(damaged), 8).tolist():
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        (reply,) = _answers({"job": "pictures", "path": str(path)})
        assert reply["shapes"] or (reply["fault"] and "JANE" not in reply["fault"])


def test_ids_of_a_header(tmp_path: Path) -> None:
    facts = {"PatientIdentityRemoved": "YES", "PatientID": "P-1", "AccessionNumber": "A-1"}
    path = dicom(tmp_path / "x.dcm", np.zeros((8, 8), np.uint8), **facts)
    (reply,) = _answers({"job": "ids", "path": str(path)})
    assert (reply["PatientID"], reply["AccessionNumber"], reply["SeriesInstanceUID"]) == ("P-1", "A-1", "1.2.3")


def test_a_child_decodes_and_is_used_again(tmp_path: Path) -> None:
    path = ct_series(tmp_path / "study", 3)
    expected = pictures_of_dicom(path)
    _, pictures = decoder().ask("pictures", path)
    assert all(np.array_equal(one, two) for one, two in zip(expected, pictures, strict=True))
    with pytest.raises(DataError, match="no such file"):
        decoder().ask("pictures", tmp_path / "none.dcm")
    assert len(decoder().ask("pictures", path)[1]) == 3


@pytest.mark.slow
def test_a_child_that_was_killed_costs_no_case(tmp_path: Path) -> None:
    own, path = Decoder(), ct_series(tmp_path / "study", 3)
    assert own.ask("pictures", path)[1]
    (running,) = own._idle
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert own.ask("pictures", path)[1]
    own.close()


@pytest.mark.slow
def test_a_bomb_or_a_file_without_end_costs_its_case_only(tmp_path: Path) -> None:
    own, path = Decoder(5, 1 << 30), ct_series(tmp_path / "study", 3)
    assert own.ask("pictures", path)[1]
    os.mkfifo(tmp_path / "endless.dcm")
    with pytest.raises(DataError, match="more than 5 s"):
        own.ask("pictures", tmp_path / "endless.dcm")
    own.close()
    own = Decoder(100, 640 << 20)
    with pytest.raises(DataError, match="more memory"):
        own.ask("pictures", _bomb(tmp_path / "bomb.dcm", 700 << 20))
    assert own.ask("pictures", path)[1]
    own.close()


def _bomb(path: Path, size: int) -> Path:
    """A small deflated file that unpacks to so many bytes."""
    made = dataset(np.zeros((8, 8), np.uint8))
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    inner, packer = zlib.decompress(content[start:], -15), zlib.compressobj(9, zlib.DEFLATED, -15)
    head = inner[: inner.index(b"\xe0\x7f\x10\x00")] + b"\xe0\x7f\x10\x00OB\x00\x00" + size.to_bytes(4, "little")
    blocks = (packer.compress(bytes(1 << 20)) for _ in range(size >> 20))
    path.write_bytes(content[:start] + packer.compress(head) + b"".join(blocks) + packer.flush())
    return path


def test_a_forked_process_has_children_of_its_own(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", np.arange(120, dtype=np.uint8).reshape(12, 10))
    first = decoder().ask("pictures", path)[1][0]
    process, same = os.fork(), False
    if not process:  # in the other process: whatever happens, it must not go on with the tests
        try:
            same = bool((decoder().ask("pictures", path)[1][0] == first).all())
            decoder().close()
        finally:
            os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert (decoder().ask("pictures", path)[1][0] == first).all()
