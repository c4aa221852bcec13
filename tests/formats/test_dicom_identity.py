"""Whose picture a file is: refused by default, never quoted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicomanonymizer import anonymize_dataset
from pydicom import Dataset
from pydicom.sequence import Sequence

from medtl_core.errors import ConfigError, DataError
from medtl_core.formats.dicom_identity import check_identity, identities
from medtl_core.formats.dicom_pixels import read_dataset
from tests.formats.dicom_made import dataset, dicom

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def nested(**tags: Any) -> dict[str, Any]:
    """Tags inside a sequence."""
    item = Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return {"RequestAttributesSequence": Sequence([item])}


@pytest.mark.parametrize(
    ("tags", "kinds"),
    [
        ({"PatientName": "DOE^JANE"}, {"names"}),
        ({"OperatorsName": "X"}, {"names"}),
        ({"PatientID": "4711"}, {"ids"}),
        ({"AccessionNumber": "A1"}, {"ids"}),
        ({"PatientAddress": "1 Main St"}, {"ids"}),
        ({"StudyDate": "20240131"}, {"dates"}),
        ({"PatientBirthDate": "19700101"}, {"dates"}),
        ({"ImageComments": "Mrs Doe"}, {"comments"}),
        ({"BurnedInAnnotation": "YES"}, {"burned-in"}),
        (nested(PatientID="4711"), {"ids"}),
        (nested(ScheduledProcedureStepStartDate="20240131"), {"dates"}),
        ({"PatientName": "", "PatientID": "", "StudyDate": "", "BurnedInAnnotation": "NO"}, set()),
        ({"PatientName": "ANONYMIZED", "PatientID": "Anonymous", "StudyDate": "00010101"}, set()),
        ({"PatientName": "ANONYMIZED^DOE"}, {"names"}),
        ({"PatientIdentityRemoved": "YES", "PatientID": "LIDC-7", "StudyDate": "20000101"}, set()),
        ({"PatientIdentityRemoved": "YES", "PatientName": "DOE^JANE"}, {"names"}),
        ({"PatientIdentityRemoved": "NO", "PatientID": "LIDC-7"}, {"ids"}),
    ],
)
def test_kinds_of_identity(tmp_path: Path, tags: dict[str, Any], kinds: set[str]) -> None:
    path = dicom(tmp_path / "x.dcm", GREY, **tags)
    assert identities(read_dataset(path)) == kinds


def test_private_elements() -> None:
    made = dataset(GREY)
    made.private_block(0x0013, "CTP", create=True).add_new(0x10, "LO", "JANE DOE")
    assert identities(made) == {"private"}
    made.PatientIdentityRemoved = "YES"
    assert identities(made) == {"private"}
    made.DeidentificationMethod = "DCM:113100/113111"  # the method that keeps safe private elements
    assert identities(made) == set()


def test_refusal_names_kinds_and_remedy_and_no_value(tmp_path: Path) -> None:
    path = dicom(tmp_path / "x.dcm", GREY, PatientName="DOE^JANE", PatientBirthDate="19700101")
    with pytest.raises(DataError, match=r"names of persons, dates:.*dicom-anonymizer.*permit") as error:
        check_identity(read_dataset(path), path.parent)
    assert not {"DOE", "JANE", "1970"} & {
        str(error.value)[at : at + 4].strip("^") for at in range(len(str(error.value)))
    }


def test_a_hospital_permits_by_kind(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = dicom(tmp_path / "a" / "b" / "x.dcm", GREY, PatientID="7", StudyDate="20240131")
    (tmp_path / "dicom.toml").write_text('permit = ["ids", "dates"]')
    check_identity(read_dataset(path), path.parent)
    (tmp_path / "a" / "dicom.toml").write_text('permit = ["ids"]')  # the nearest one holds
    other = dicom(tmp_path / "a" / "y.dcm", GREY, PatientID="7", StudyDate="20240131")
    with pytest.raises(DataError, match="holds dates:"):
        check_identity(read_dataset(other), other.parent)


@pytest.mark.parametrize("text", ["permit = 7", 'permit = ["id"]', "permit = [", 'allow = ["ids"]'])
def test_permits_that_mean_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "dicom.toml").write_text(text)
    path = dicom(tmp_path / "x.dcm", GREY, PatientID="7")
    with pytest.raises(ConfigError, match=r"dicom\.toml"):
        check_identity(read_dataset(path), path.parent)


def test_what_dicom_anonymizer_leaves_passes() -> None:
    facts = {
        "PatientName": "DOE^JANE",
        "PatientID": "4711",
        "StudyDate": "20240131",
        "OperatorsName": "X",
        "StudyID": "1",
    }
    made = dataset(GREY, **facts, **nested(PatientID="4711"), AccessionNumber="9", ImageComments="Mrs Doe")
    made.private_block(0x0013, "X", create=True).add_new(0x10, "LO", "JANE DOE")
    assert identities(made) == {"names", "ids", "dates", "comments", "private"}
    anonymize_dataset(made)
    assert identities(made) == set()
