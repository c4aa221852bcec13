"""Answers for an archive and for a record: DICOM and FHIR that their own libraries take, and nobody is named."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result

from medtl_core.cli import app as cli
from medtl_core.predict import Predictor
from tests.formats.dicom_made import dicom
from tests.predict.heads import film, made, made_of_table

pytestmark = pytest.mark.usefixtures("one_torch_thread")
RAMP = (np.arange(64 * 64) % 251).astype(np.uint8).reshape(64, 64)
FLOORS = {"level": 0.9, "floors": [-1e9, -1e9, None], "cases": [20, 20, 4]}
IDENTITY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID")


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("head")


@pytest.fixture(scope="module")
def predictor(head: Path) -> Predictor:
    return made(head, scale=0.02, conformal=FLOORS)


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.app, ["predict", *map(str, words)])


@pytest.mark.slow
def test_dicom_files_hold_the_answer_and_name_nobody(predictor: Predictor, head: Path, tmp_path: Path) -> None:
    sr = pytest.importorskip("highdicom", reason="highdicom is not installed").sr
    ended = run(head / "made", film(tmp_path).path, "--format", "dicom", "--out", tmp_path / "out")
    assert ended.exit_code == 0, ended.output
    (answer,) = predictor.answers([tmp_path / "film 0.png"])
    report = sr.srread(tmp_path / "out" / "00001.sr.dcm")
    (group,) = report.content.get_image_measurement_groups()
    shares = {one.name.meaning.removeprefix("Probability of "): one.value for one in group.get_measurements()}
    assert shares == pytest.approx(dict(answer.probabilities), abs=1e-9)
    said = [(one.name.value, one.value.meaning) for one in group.get_qualitative_evaluations()]
    assert said == [("answer", answer.likeliest), *(("likely", name) for name in answer.likely)]
    assert (report.PreliminaryFlag, report.VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")
    capture = pydicom.dcmread(tmp_path / "out" / "00001.sc.dcm")
    assert capture.pixel_array.shape == (64, 64, 3) and capture.StudyInstanceUID == report.StudyInstanceUID
    for written in (report, capture):
        assert all(not written.get(name) for name in IDENTITY) and "film 0" not in str(written)


def test_a_scan_of_another_machine_is_in_doubt(predictor: Predictor, tmp_path: Path) -> None:
    told = {"BurnedInAnnotation": "NO", "PatientIdentityRemoved": "YES"}
    files = [dicom(tmp_path / f"{word}.dcm", RAMP, Modality=word, **told) for word in ("US", "DX", "OT")]
    assert [one.doubt for one in predictor.answers(files)] == ["is US, and the head reads chest X-ray", "", ""]


def test_a_dicom_case_stays_in_its_study(predictor: Predictor, head: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    told = {"BurnedInAnnotation": "NO", "StudyInstanceUID": "1.2.3.4", "PatientIdentityRemoved": "YES"}
    path = dicom(tmp_path / "a.dcm", RAMP, PatientID="case-17", **told)
    dicom(tmp_path / "b.dcm", RAMP, PatientName="Doe^Jane", **told)
    ended = run(head / "made", path, tmp_path / "b.dcm", "--format", "dicom", "--out", tmp_path / "out")
    assert ended.exit_code == 1 and "Jane" not in ended.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["00001.sc.dcm", "00001.sr.dcm"]
    for kind in ("sr", "sc"):
        written = pydicom.dcmread(tmp_path / "out" / f"00001.{kind}.dcm")
        assert (written.StudyInstanceUID, written.PatientID, str(written.PatientName or "")) == (
            "1.2.3.4",
            "case-17",
            "",
        )
    assert pydicom.dcmread(path).SOPInstanceUID in str(pydicom.dcmread(tmp_path / "out" / "00001.sr.dcm"))


def test_dicom_needs_a_folder(head: Path, predictor: Predictor, tmp_path: Path) -> None:
    assert run(head / "made", film(tmp_path).path, "--format", "dicom").exit_code == 1


def test_fhir_is_a_bundle_that_its_library_takes(tmp_path: Path) -> None:
    bundles = pytest.importorskip("fhir.resources.bundle", reason="fhir.resources is not installed")
    predictor = made_of_table(tmp_path, ("a", "b"))
    (tmp_path / "new.csv").write_text("a,b\n9,1\n1,9\nx,1\n1,1\n")
    ended = run(tmp_path / "made", tmp_path / "new.csv", "--format", "fhir", "--least", "0.5")
    assert ended.exit_code == 1  # a row cannot be read
    bundle = json.loads(ended.stdout)
    bundles.Bundle.model_validate(bundle)
    expected = list(predictor.answers([tmp_path / "new.csv"], least=0.5))
    resources = [entry["resource"] for entry in bundle["entry"]]
    reports = [one for one in resources if one["resourceType"] == "DiagnosticReport"]
    seen = [one for one in resources if one["resourceType"] == "Observation"]
    assert len({entry["fullUrl"] for entry in bundle["entry"]}) == 8
    for answer, observation, report in zip(expected, seen, reports, strict=True):
        assert (observation["status"], report["status"]) == ("preliminary", "preliminary")
        assert observation.get("valueCodeableConcept", {}).get("text", "") == answer.likeliest
        assert bool(observation.get("dataAbsentReason")) == (not answer.likeliest)
        shares = [one["valueQuantity"]["value"] for one in observation.get("component", ())]
        assert shares == list(answer.probabilities.values())
        assert "subject" not in observation and "subject" not in report
