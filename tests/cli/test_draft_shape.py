"""`medtl data draft` of tables in which a row is no case, or a number means what another cell says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.source import open_source
from tests.cli.conftest import Call
from tests.cli.test_data import picture, write
from tests.formats.dicom_made import dicom

LABS = (("CRP", "{}.5", "mg/L"), ("Na", "14{}", "mmol/L"), ("Leukocytes", "{}00.1", "/nL"))


@pytest.mark.parametrize("names", ["patient,label,test,value,unit", "patient,label,x,y,z", "a,label,itemid,valuenum,u"])
def test_a_measurement_a_row_is_no_case(tmp_path: Path, call: Call, names: str) -> None:
    told = [(k, str(50900 + n) if "itemid" in names else what, value.format(k % 9 + 1), unit)
            for k in range(20) for n, (what, value, unit) in enumerate(LABS)]  # fmt: skip
    write(
        tmp_path,
        [names, *(f"P{k},{('ill', 'well')[k % 2]},{what},{value},{unit}" for k, what, value, unit in told)],
        name="lab.csv",
    )
    code, shown = call("data", "draft", tmp_path)
    _, _, what, number, _ = names.split(",")
    assert code == 1 and not (tmp_path / "manifest.csv").exists()
    assert f"{what!r} says what was measured, and {number!r} the number: a row is one measurement and no case" in shown


def test_several_visits_or_eyes_of_a_patient_are_cases(tmp_path: Path, call: Call) -> None:
    rows = [
        f"P{k // 2},{('ill', 'well')[k % 4 // 2]},{('left', 'right')[k % 2]},{k % 2 * 90},{k * 7 % 13}"
        for k in range(40)
    ]
    write(tmp_path, ["patient,label,eye,day,pressure", *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "measurements: day, pressure, eye=right" in shown


@pytest.mark.parametrize(
    ("name", "units", "refused"),
    [
        ("hb_unit", ("g/dL", "g/L"), True),
        ("Einheit", ("mg/dl", "mmol/l"), True),
        ("Einheit Hb", ("G", "SI"), True),
        ("hb_unit", ("g/dL", "g/dL"), False),
        ("hb_unit", ("g/dL", ""), False),
        ("sex", ("m", "f"), False),
    ],
)
def test_numbers_of_several_units_are_no_column(
    tmp_path: Path, call: Call, name: str, units: tuple[str, str], refused: bool
) -> None:
    rows = [
        f"{('ill', 'well')[k // 2 % 2]};{(12 + k % 4) * (10 if refused and k % 2 else 1)};{units[k % 2]}"
        for k in range(30)
    ]
    write(tmp_path, [f"label;hb;{name}", *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == int(refused)
    assert (f"{name!r} names 2 units, so numbers of several units stand in one column: convert" in shown) == refused


def test_rows_of_repeated_forms_are_no_cases(tmp_path: Path, call: Call) -> None:
    head = "record_id,redcap_event_name,redcap_repeat_instrument,redcap_repeat_instance,diagnosis,age,crp"
    rows = [row for k in range(20) for row in (f"{k},a,,,{'xy'[k % 2]},{k % 7},", f"{k},a,lab,1,,,{k % 5}")]
    write(tmp_path, [head, *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "'redcap_repeat_instrument' is filled, so rows of one patient are of several forms" in shown
    write(tmp_path, [head, *rows[::2]], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "patient_id: 'record_id' (proposed)" in shown and "measurements: age" in shown


@pytest.mark.parametrize("first", ["record_id,diagnosis,age,crp", "Record ID,Final diagnosis,Age (a),CRP (mg/L)"])
def test_a_second_row_of_names_is_no_case(tmp_path: Path, call: Call, first: str) -> None:
    heads = ["Record ID,Final diagnosis,Age (a),CRP (mg/L)", "record_id,diagnosis,age,crp"]
    second = heads[first == heads[0]]
    write(tmp_path, [first, second, *(f"R{k},{'xy'[k % 2]},{k % 7 + 40},{k % 5}.5" for k in range(20))], name="t.csv")
    label, patient = first.split(",")[1], first.split(",")[0]
    code, shown = call("data", "draft", tmp_path, "--label", label, "--patient", patient)
    assert code == 0 and "row 2 of t.csv names the columns once more and is left out" in shown
    assert "manifest.csv, 20 rows" in shown and f"measurements: {', '.join(first.split(',')[2:])}" in shown


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["<0.01", "0.05"], "limits such as < or > in 10 of 20 rows, and is left out: write one number for each"),
        (["<0,5", "> 100"], "limits such as < or > in 20 of 20 rows"),
        (["1,5", "2,5"], "numbers with commas in 20 of 20 rows, and is left out: write points for decimals only"),
        (["4,500", "1,234,567"], "numbers with commas in 20 of 20 rows"),
        (["5.1 mg/L", "0.9 mg/dL"], "numbers with words behind them in 20 of 20 rows, and is left out: write numbers"),
        (["45%", "3"], "numbers with words behind them in 10 of 20 rows"),
    ],
)
def test_numbers_that_cannot_be_read_are_no_words(tmp_path: Path, call: Call, cells: list[str], words: str) -> None:
    write(tmp_path, ["label,a,b", *(f'{"xy"[k % 2]},{k % 7},"{cells[k // 2 % 2]}"' for k in range(20))], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and f"to do: 'b' holds {words}" in shown
    assert (tmp_path / "manifest.csv").read_text().startswith("label,a\n")


def test_commas_that_may_be_thousands_are_no_decimals_beside_points(tmp_path: Path, call: Call) -> None:
    rows = [f"{'xy'[k % 2]};{k % 7}.5;{k % 9 + 1},{k:03d}" for k in range(20)]
    write(tmp_path, ["label;crp;wbc", *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path, "--points", "decimals")
    assert code == 1 and "commas in column 'wbc' stand before three digits only, and may be thousands" in shown
    assert not (tmp_path / "manifest.csv").exists()


@pytest.mark.parametrize(
    ("classes", "codes"),
    [
        ("0 1 9", ["9"]),
        ("1 2 8 9", ["8", "9"]),
        ("-99 0 1", ["-99"]),
        ("-1 0 1", ["-1"]),
        ("0.0 1.0 999.0", ["999.0"]),
        ("0 1 2 98", ["98"]),
        ("6 7 8 9", []),
        ("-1 1", []),
        ("0 1 2", []),
        ("no yes 9", []),
    ],
)
def test_a_class_that_is_a_code_for_not_known_is_a_fault_unless_it_is_stated(
    tmp_path: Path, call: Call, classes: str, codes: list[str]
) -> None:
    names = classes.split()
    rows = [f"{names[k % len(names)]},P{k},north,{k % 7}.5" for k in range(60)]
    write(tmp_path, ["label,patient_id,site,a", *rows])
    said = "manifest.csv: the class '{}' seems to stand for 'not known'"
    code, shown = call("data", "check", tmp_path)
    assert code == bool(codes) and all(said.format(name) in shown for name in codes)
    code, shown = call("data", "draft", tmp_path)
    assert code == bool(codes) and (not codes or said.format(codes[0]) in shown)
    (tmp_path / "task.json").write_text(json.dumps({"name": "t", "classes": names}))
    assert call("data", "check", tmp_path)[0] == 0


def test_folders_of_patients_say_the_patient_and_no_class(tmp_path: Path, call: Call) -> None:
    for k in range(24):
        picture(tmp_path / ("ill", "well")[k % 2] / f"P{k // 4:03d}" / f"{k}.png", k)
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "patient_id: the folders P000, P001, P002 ... (proposed)" in shown
    assert "to do: fill in label and site; delete a column that nobody needs" in shown
    rows = (tmp_path / "manifest.csv").read_text().splitlines()
    assert rows[:2] == ["path,label,patient_id,site", "ill/P000/0.png,,P000,"]


def test_hospitals_and_classes_stand_above_folders_of_patients(tmp_path: Path, call: Call) -> None:
    for k in range(24):
        picture(tmp_path / ("north", "south")[k // 2 % 2] / ("ill", "well")[k % 2] / f"pat {k // 4}" / f"{k}.png", k)
    assert call("data", "draft", tmp_path)[0] == 0
    source = open_source(Settings(data="", data_path=str(tmp_path))).examples
    assert source.task.classes == ("ill", "well") and {*source["site"].tolist()} == {"north", "south"}
    assert {*source["patient"].tolist()} == {f"pat {k}" for k in range(6)}


def test_a_folder_a_patient_is_refused_where_classes_are_read(tmp_path: Path, call: Call) -> None:
    for k in range(12):
        (tmp_path / f"Patient_{k // 2}").mkdir(exist_ok=True)
        picture(tmp_path / f"Patient_{k // 2}" / f"{k}.png", k)
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "its 6 folders are called as patients are" in shown and "Patient_" not in shown
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "manifest.csv, 12 rows" in shown and "to do: fill in label" in shown
    (tmp_path / "manifest.csv").unlink()
    (tmp_path / "task.json").write_text(json.dumps({"name": "who", "classes": [f"Patient_{k}" for k in range(6)]}))
    assert call("data", "check", tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"label": "ill"}]', "is JSON, no table; export it as CSV UTF-8 where it was made"),
        (b"<!DOCTYPE html><html>", "is a page (HTML or XML), no table; export it as CSV UTF-8"),
        ("label,a\nill,1\n".encode("utf-32"), "is UTF-32; export it as CSV UTF-8"),
        (b"PAR1\x15\x04", "is Parquet; export it as CSV UTF-8"),
        (b"label,label\nill,1\n", "column names must be filled and distinct"),
        (b"", "holds no rows: a header and at least one case are needed"),
    ],
)
def test_what_is_only_called_a_table_is_said_to_be_none(tmp_path: Path, call: Call, content: bytes, words: str) -> None:
    (tmp_path / "export.csv").write_bytes(content)
    for command in ("check", "draft"):
        code, shown = call("data", command, tmp_path)
        assert code == 1 and words in " ".join(shown.split())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bundle.json", "export a table as CSV UTF-8, a row a case, where it was made"),
        ("study.SAV", "export a table as CSV UTF-8, a row a case, where it was made"),
        ("scan.heic", "convert pictures to PNG"),
        ("night.edf", "convert signals to CSV, npz or WFDB"),
        ("letter.pdf", "save each text as plain text (.txt), named in manifest.csv"),
    ],
)
def test_files_of_other_programs_have_a_remedy(tmp_path: Path, call: Call, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"\1\2\3")
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and words in " ".join(shown.split())


def test_images_that_a_table_does_not_name_are_not_left_in_silence(tmp_path: Path, call: Call) -> None:
    write(tmp_path, ["patient,label,age", *(f"P{k},{'xy'[k % 2]},{k % 7}" for k in range(12))], name="patients.csv")
    for k in range(24):
        picture(tmp_path / f"P{k // 2}" / f"{k % 2}.png", k)
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "no column of patients.csv names the 24 images or scans that lie beside it" in shown
    code, shown = call("data", "draft", tmp_path / "patients.csv")
    assert code == 0 and "measurements: age" in shown


def test_dicom_files_are_named_by_numbers_of_their_headers(tmp_path: Path, call: Call) -> None:
    (tmp_path / "scans").mkdir()
    for k in range(12):
        tags: dict[str, Any] = {"SOPInstanceUID": f"1.2.{k + 1}", "PatientIdentityRemoved": "YES", "PatientID": f"P{k}"}
        dicom(tmp_path / "scans" / f"{k}.dcm", np.full((8, 8), k, np.uint8), **tags)
    write(tmp_path, ["SOPInstanceUID,Diagnose", *(f"1.2.{k + 1},{'xy'[k % 2]}" for k in range(12))], name="labels.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "sop_instance_uid: 'SOPInstanceUID' (proposed)" in shown and "to do" not in shown
    code, shown = call("data", "check", tmp_path)
    assert code == 0 and "read as: dicom" in shown
