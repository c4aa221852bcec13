"""Scans as cases of a run: class folders, manifests, patients of headers; and that no identity leaves."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import content_key, read_pictures
from medtl_core.data.source import Source, open_source
from medtl_core.data.views import views_of
from medtl_core.errors import DataError
from medtl_core.formats.image_check import check_images
from simulations.ct_phantom import write_set
from tests.formats.dicom_made import ct_series, dataset, dicom, nifti

REMOVED = {"PatientIdentityRemoved": "YES"}


def opened(path: Path, faults: Faults | None = None) -> Source:
    return open_source(Settings(data="", data_path=str(path), test_path="elsewhere"), faults or Faults())


def grey(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (12, 10)).astype(np.uint8)


def test_class_folders_of_files_and_of_series(tmp_path: Path) -> None:
    for place, name in enumerate(("ill", "well")):
        (tmp_path / name).mkdir()
        dicom(tmp_path / name / "a", grey(place), PatientID=f"P{place}", **REMOVED)
        dicom(tmp_path / name / "b.dcm", grey(place + 5), PatientID=f"P{place}", **REMOVED)
        ct_series(tmp_path / name / "study", 4, PatientID="P9", **REMOVED)
    source = opened(tmp_path)
    examples = source.examples
    assert examples.task.classes == ("ill", "well")
    assert np.bincount(examples["label"]).tolist() == [3, 3]
    assert [len(read_pictures(path)) for path in examples["path"].tolist()] == [1, 1, 4, 1, 1, 4]
    assert source.has_patients
    assert len(set(examples["patient"].tolist())) == 3  # two cases of each, and P9 twice
    assert not [name for name in examples["patient"].tolist() if "P" in name]
    assert opened(tmp_path).examples["patient"].tolist() == examples["patient"].tolist()


def test_another_hospital_knows_the_same_patient_by_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ill", "well"):
        (tmp_path / "data" / name).mkdir(parents=True)
        dicom(tmp_path / "data" / name / "a.dcm", grey(1 + (name == "ill")), PatientID=f"P-{name}", **REMOVED)
    names = set()
    for home in ("one", "two"):
        monkeypatch.setenv("MEDTL_HOME", str(tmp_path / home))
        names |= set(opened(tmp_path / "data").examples["patient"].tolist())
        assert (tmp_path / home / "patients.key").stat().st_mode & 0o777 == 0o600
    assert len(names) == 4


@pytest.mark.parametrize("column", ["sop_instance_uid", "accession_number"])
def test_a_manifest_names_files_by_number(tmp_path: Path, column: str) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(4):
        facts = {"SOPInstanceUID": f"1.2.{number}", "AccessionNumber": f"1.2.{number}", "PatientID": f"P{number % 2}"}
        dicom(tmp_path / "deep" / f"{number}", grey(number), **facts, **REMOVED)
    rows = [f"1.2.{number},{'ill' if number % 2 else 'well'}" for number in range(4)]
    (tmp_path / "manifest.csv").write_text("\n".join([f"{column},label", *rows, "1.2.77,ill"]))
    faults = Faults()
    examples = opened(tmp_path, faults).examples
    assert examples["label"].tolist() == [1, 0, 1, 0]
    assert [Path(path).name for path in examples["path"].tolist()] == ["0", "1", "2", "3"]
    assert len(set(examples["patient"].tolist())) == 2
    assert opened(tmp_path / "manifest.csv").examples["patient"].tolist() == examples["patient"].tolist()
    (fault,) = faults.causes
    assert fault.places == ("row 6",)
    assert "no readable file" in fault.cause


@pytest.mark.parametrize(
    ("ids", "other", "patients", "note"),
    [
        ("ABCC", "CR", 3, ""),
        (["ANON"] * 4, "CR", 4, "No patient ids"),
        ("7777", "CR", 1, "All cases are of one patient, so that nobody is left to judge on: whose are they?"),
        ("ABCD", "US", 4, "of several modalities, which may tell the classes apart: CR 2, US 2."),
    ],
)
def test_what_all_headers_say_is_told(tmp_path: Path, ids: Any, other: str, patients: int, note: str) -> None:
    for number, one in enumerate(ids):
        (place := tmp_path / ("ill", "well")[number % 2]).mkdir(exist_ok=True)
        dicom(place / str(number), grey(number), PatientID=one, Modality=("CR", other)[number % 2], **REMOVED)
    source = opened(tmp_path)
    assert len({*source.examples["patient"].tolist()}) == patients
    assert note in " ".join(source.notes) and (note or len(source.notes) == 0)


def test_a_number_of_another_name_and_ids_that_headers_contradict_are_told(tmp_path: Path) -> None:
    for number in range(4):
        dicom(tmp_path / f"{number}.dcm", grey(number), AccessionNumber=f"A{number}", PatientID="P0", **REMOVED)
    rows = [f"A{number},{'ill' if number % 2 else 'well'},Q{number}" for number in range(4)]
    (tmp_path / "manifest.csv").write_text("\n".join(["AccessionNumber,label,patient_id", *rows]))
    with pytest.raises(DataError, match=r"did you mean 'AccessionNumber'. Rename it to 'accession_number'"):
        opened(tmp_path)
    (tmp_path / "manifest.csv").write_text("\n".join(["accession_number,label,patient_id", *rows, "A0,well,Q0"]))
    for said in ("1 patients of the headers have several ids in manifest.csv", "1 rows name an image that another row"):
        assert said in " ".join(opened(tmp_path).notes)


def test_a_manifest_of_paths_names_series_and_volumes(tmp_path: Path) -> None:
    ct_series(tmp_path / "study", 4)
    nifti(tmp_path / "x.nii.gz", np.random.default_rng(0).random((10, 11, 12)))
    rows = "path,label,patient_id\nstudy,ill,A\nx.nii.gz,well,B\n"
    (tmp_path / "manifest.csv").write_text(rows)
    paths = opened(tmp_path).examples["path"].tolist()
    assert [len(read_pictures(path)) for path in paths] == [4, 12]
    assert views_of(paths[1], 16, ("identity", "flip-h")).shape == (24, 16, 16, 3)
    assert content_key(paths[0]) == content_key(str(ct_series(tmp_path / "again", 4)))
    (tmp_path / "study" / "97.dcm").unlink()
    assert content_key(paths[0]) != content_key(tmp_path / "again")
    with pytest.raises(DataError, match="a slice is missing"):
        read_pictures(paths[0])


def test_a_folder_a_series_is_no_folder_a_class_and_a_draft_lists_the_cases(tmp_path: Path) -> None:
    from medtl_core.cli.app import app

    for number in range(4):
        for place in range(2):
            facts = {"SeriesInstanceUID": f"1.2.{number}", "PatientID": f"P{number}", **REMOVED}
            (tmp_path / f"P{number}").mkdir(exist_ok=True)
            dicom(tmp_path / f"P{number}" / f"{place}.dcm", grey(2 * number + place), **facts)
    (tmp_path / "CHECKSUMS").write_text("12345")  # what lies beside does not hide it
    with pytest.raises(DataError, match="no class"):
        opened(tmp_path)
    (tmp_path / "volumes").mkdir()
    nifti(tmp_path / "volumes" / "v.nii.gz", np.random.default_rng(0).random((10, 11, 12)))
    listed = {tmp_path / "volumes": ["v.nii.gz,,,"], tmp_path: ["P0,,,", "P1,,,", "P2,,,", "P3,,,"]}
    for place, rows in listed.items():
        assert CliRunner().invoke(app, ["data", "draft", str(place)]).exit_code == 0
        assert (place / "manifest.csv").read_text().splitlines() == ["path,label,patient_id,site", *rows]
        shutil.rmtree(tmp_path / "volumes", ignore_errors=True)


def test_class_folders_of_volumes(tmp_path: Path) -> None:
    for place, name in enumerate(("large", "small")):
        (tmp_path / name).mkdir()
        nifti(tmp_path / name / "v.nii.gz", np.random.default_rng(place).random((10, 11, 12)))
    source = opened(tmp_path)
    assert source.examples["label"].tolist() == [0, 1]
    assert not source.has_patients


def test_masks_and_files_of_other_kinds_are_no_volumes(tmp_path: Path) -> None:
    from medtl_core.data.faults import Faults

    for number, name in enumerate(("large", "small")):
        (tmp_path / name).mkdir()
        for place in range(3):
            values = np.random.default_rng(10 * number + place).random((10, 11, 12))
            nifti(tmp_path / name / f"{place}.nii.gz", values)
            nifti(tmp_path / name / f"{place}_seg.nii.gz", values)
    (tmp_path / "small" / "0.png").write_bytes(b"a preview")
    (tmp_path / "participants.tsv").write_text("a\tb\n")
    faults = Faults()
    source = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere"), faults)
    assert source.examples["label"].tolist() == [0, 0, 0, 1, 1, 1]
    assert {len(fault.places): fault.cause for fault in faults.causes} == {
        6: "the file seems to be the mask of another one beside it",
        1: "the file is none of the volumes beside it",
    }


def test_volumes_a_folder_a_participant_are_drafted_from_their_table(tmp_path: Path) -> None:
    from medtl_core.cli.app import app

    for number in range(4):
        (tmp_path / f"sub-{number}" / "anat").mkdir(parents=True)
        values = np.random.default_rng(number).random((10, 11, 12))
        nifti(tmp_path / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz", values)
    rows = [f"sub-{number}\t{'ab'[number % 2]}\t{number}" for number in range(4)]
    (tmp_path / "participants.tsv").write_text("\n".join(["participant_id\tdiagnosis\tage", *rows]))
    with pytest.raises(DataError, match="its 4 folders are called as patients are"):
        opened(tmp_path)
    assert CliRunner().invoke(app, ["data", "draft", str(tmp_path)]).exit_code == 0
    found = opened(tmp_path).examples
    assert found["patient"].tolist() == [f"sub-{number}" for number in range(4)]
    assert [Path(path).name for path in found["path"]] == [f"sub-{number}_T1w.nii.gz" for number in range(4)]


def test_the_synthetic_ct_set_is_a_known_one(tmp_path: Path) -> None:
    write_set(tmp_path / "ct", 1)
    source = opened(tmp_path / "ct")
    assert (source.entry.name, source.examples["label"].tolist()) == ("ct_phantom", [0])
    assert {len(read_pictures(path)) for path in source.examples["path"].tolist()} == {12}


#: What a patient is called in each test below: a name, a number, a date.
PLANTED = ("QUENBY", "884422", "19310713")


def _planted(folder: Path, count: int) -> None:
    """Class folders whose every text-bearing element, private ones and file names among them, is a planted identity."""
    from pydicom.datadict import dictionary_VR, keyword_dict

    text = {"PN": "QUENBY^OTTOLINE", "DA": PLANTED[2], "DT": PLANTED[2], "AS": "093Y", "UI": "1.2.884422"}
    text |= dict.fromkeys(("LO", "SH", "ST", "LT", "UT", "UC", "AE"), "QUENBY 884422")
    (folder / "dicom.toml").write_text('permit = ["names", "ids", "dates", "comments", "private"]')
    tags = {name: text[dictionary_VR(tag)] for name, tag in keyword_dict.items() if dictionary_VR(tag) in text}
    kept = ("TransferSyntaxUID", "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "MediaStorageSOPClassUID")
    tags = {name: value for name, value in tags.items() if keyword_dict[name] >> 16 > 2 and name not in kept}
    for number in range(count):
        place = folder / ("ill", "well")[number % 2]
        place.mkdir(exist_ok=True)
        made = dataset(grey(number) // (1 + number % 2), **tags)
        made.PatientID = f"{PLANTED[1]}-{number}"
        made.private_block(0x0011, "QUENBY", create=True).add_new(0x10, "LO", "QUENBY 884422")
        made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
        made.save_as(place / f"QUENBY_884422_{number}.dcm", enforce_file_format=True)


def _tells(text: str) -> list[str]:
    return [word for word in PLANTED if word in text]


@pytest.mark.slow
def test_planted_identities_appear_in_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from medtl_core.cli.app import app

    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    _planted(data, 24)
    monkeypatch.setenv("MEDTL_CACHE", str(cache))
    monkeypatch.setenv("MEDTL_HOME", str(tmp_path / "home"))
    words = ["simulate", "--data", str(data), "--out", str(tmp_path / "run"), "--wire", "backbone=random:lite0"]
    words += ["image-size=32", "features=plain", "methods=ridge", "sites=2", "shots=6", "bootstrap=5"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    printed = capfd.readouterr()
    written = [path for place in ("run", "cache", "home") for path in (tmp_path / place).rglob("*")]
    assert len(written) > 5
    for path in written:
        assert not _tells(path.name)
        assert not path.is_file() or not _tells(path.read_bytes().decode("latin-1")), path
    assert not _tells(result.output + printed.out + printed.err)


def test_a_refusal_quotes_no_identity(tmp_path: Path) -> None:
    _planted(tmp_path, 2)
    (tmp_path / "dicom.toml").unlink()
    (tmp_path / "ill" / "QUENBY_broken.dcm").write_bytes(b"QUENBY 884422" * 9)
    faults = Faults()
    source = opened(tmp_path, faults)
    check_images(source.examples, range(3), faults)
    assert len(faults.rows) == 3
    assert not _tells(" ".join(fault.cause + fault.remedy for fault in faults.causes))


def _example(heading: str, place: int) -> str:
    """One of the code blocks below a heading of docs/data.md."""
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return section.split("```\n")[2 * place + 1]


@pytest.mark.parametrize(("heading", "place"), [("DICOM", 0), ("DICOM", 1), ("CT", 0), ("MRI", 0)])
def test_the_examples_of_the_page_are_read(tmp_path: Path, heading: str, place: int) -> None:
    text = _example(heading, place)
    (tmp_path / "manifest.csv").write_text(text)
    (tmp_path / "dicom.toml").write_text(_example("DICOM", 2))
    for number, line in enumerate(text.splitlines()[1:]):
        file = tmp_path / line.partition(",")[0]
        file.parent.mkdir(exist_ok=True)
        if "accession" in text:
            dicom(file, grey(number), AccessionNumber=file.name, PatientID=file.name, StudyDate="20240131")
        elif file.name.endswith(".nii.gz"):
            nifti(file, np.random.default_rng(number).random((10, 11, 12)))
        elif file.suffix:
            dicom(file, grey(number), PatientID="7")
        else:
            ct_series(file, 3 + number, PatientID="8")
    faults = Faults()
    examples = opened(tmp_path, faults).examples
    check_images(examples, range(len(examples)), faults)
    assert not faults.causes
    assert len(set(examples["label"].tolist())) == 2
