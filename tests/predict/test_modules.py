"""DICOM answers attribute by attribute against the tables of the standard's part 3, which highdicom carries."""

import json
from collections import defaultdict
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag

from medtl_core.cli.app import app
from tests.formats.dicom_made import dicom
from tests.predict.heads import film, made

pytestmark = pytest.mark.usefixtures("one_torch_thread")
#: What a content item of each value type must hold; the tables have all of them as one module's.
CONTENT = {
    "CONTAINER": "ContinuityOfContent", "TEXT": "TextValue", "NUM": "MeasuredValueSequence", "UIDREF": "UID",
    "CODE": "ConceptCodeSequence", "IMAGE": "ReferencedSOPSequence", "PNAME": "PersonName", "DATETIME": "DateTime",
}  # fmt: skip
Path_ = tuple[str, ...]


def table(name: str) -> Any:
    place = files("highdicom") / "_standard" / f"{name}.json"
    if not place.is_file():
        pytest.skip("this version of highdicom carries no tables of the standard")
    return json.loads(place.read_text())


def faults(written: Dataset) -> Iterator[str]:
    """What is missing, empty, or in no module of the object's kind."""
    key, attributes = table("sop_class_iod_map")[written.SOPClassUID], table("module_attribute_map")
    allowed, needed = defaultdict[Path_, set[str]](set), defaultdict[Path_, dict[str, str]](dict)
    for module in table("iod_module_map")[key]:
        rows = attributes[module["key"]]
        used = module["usage"] == "M" or any(row["keyword"] in written.dir() for row in rows if not row["path"])
        for row in rows:
            allowed[(*row["path"],)].add(row["keyword"])
            if used and row["type"] in ("1", "2") and module["key"] != "sr-document-content":
                needed[(*row["path"],)][row["keyword"]] = row["type"] if module["usage"] == "M" else "1C"
    yield from _level(written, (), allowed, needed)


def _level(item: Dataset, path: Path_, allowed: dict[Path_, set[str]], needed: dict[Path_, Any]) -> Iterator[str]:
    there = {keyword_for_tag(element.tag): element for element in item if element.tag.group != 2}
    if "ValueType" in there:
        value = there.get(CONTENT[item.ValueType])
        if value is None or value.is_empty or not (path == () or item.RelationshipType):
            yield f"{path}: a content item of type {item.ValueType} is not whole"
    for name, kind in needed.get(path, {}).items():
        if (kind != "1C" and name not in there) or (kind == "1" and there[name].is_empty):
            yield f"{path}: {name} of type {kind} is missing or empty"
    for name, element in there.items():
        if name not in allowed.get(path, {name}):
            yield f"{path}: {name} is in no module"
        if element.VR == "SQ":
            below = path if name == "ContentSequence" and path[-1:] == (name,) else (*path, name)  # the tree goes on
            for one in element.value:
                yield from _level(one, below, {**allowed, below: allowed.get(below, set()) | {name}}, needed)


@pytest.mark.parametrize("of", ["picture", "study"])
def test_every_attribute_stands_in_a_module_and_none_that_must_be_is_missing(tmp_path: Path, of: str) -> None:
    pytest.importorskip("highdicom", reason="highdicom is not installed")
    made(tmp_path / "heads", scale=0.02)
    told = {"BurnedInAnnotation": "NO", "StudyInstanceUID": "1.2.3.4", "PatientIdentityRemoved": "YES"}
    ramp = (np.arange(64 * 64) % 251).astype(np.uint8).reshape(64, 64)
    case = film(tmp_path).path if of == "picture" else dicom(tmp_path / "a.dcm", ramp, PatientID="case-17", **told)
    words = ["predict", tmp_path / "heads" / "made", case, "--format", "dicom", "--out", tmp_path / "out"]
    assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
    for kind in ("sr", "sc"):
        written = pydicom.dcmread(tmp_path / "out" / f"00001.{kind}.dcm")
        assert [*faults(written)] == []
        kept = written.SOPInstanceUID, written.StudyDate, written.Modality
        del written.StudyDate
        written.Modality = ""
        written.PatientBirthName = "x"
        assert kept and sum(word in one for one in faults(written) for word in ("StudyDate", "Modality", "Birth")) == 3
