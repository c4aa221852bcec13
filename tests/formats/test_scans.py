"""Scans as cases of a run: class folders, manifests, patients of headers; and that no identity leaves."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import content_key, read_pictures
from medtl_core.data.source import Source, open_source
from medtl_core.data.views import views_of
from medtl_core.errors import DataError
from tests.formats.dicom_made import ct_series, dicom, nifti

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
    examples = opened(tmp_path, faults).examples if column else None
    assert examples is not None
    assert examples["label"].tolist() == [1, 0, 1, 0]
    assert [Path(path).name for path in examples["path"].tolist()] == ["0", "1", "2", "3"]
    assert len(set(examples["patient"].tolist())) == 2
    (fault,) = faults.causes
    assert fault.places == ("row 6",)
    assert "no readable file" in fault.cause


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


def test_class_folders_of_volumes(tmp_path: Path) -> None:
    for place, name in enumerate(("large", "small")):
        (tmp_path / name).mkdir()
        nifti(tmp_path / name / "v.nii.gz", np.random.default_rng(place).random((10, 11, 12)))
    source = opened(tmp_path)
    assert source.examples["label"].tolist() == [0, 1]
    assert not source.has_patients
