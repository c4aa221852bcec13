"""`medtl data check` and `medtl data draft` as a data manager meets them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.config import Settings
from medtl_core.data.source import open_source
from tests.cli.conftest import Call
from tests.formats.clinic import ROWS as RECORDS
from tests.formats.clinic import clinic

HEADER = "label;patient_id;site;Größe;Alter"
ROWS = [f"{'krank' if k % 2 else 'gesund'};P{k};Köln;{1 + k / 8:.3f};{20 + k}".replace(".", ",") for k in range(12)]


def write(folder: Path, lines: list[str], encoding: str = "utf-8", name: str = "manifest.csv", end: str = "\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes((end.join(lines) + end).encode(encoding))
    return folder


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", "separated by semicolons, decimal commas."),
        ("utf-8-sig", "separated by semicolons, UTF-8 with a byte order mark, decimal commas."),
        ("utf-16", "separated by semicolons, UTF-16, decimal commas."),
        ("utf-16-le", "separated by semicolons, UTF-16-LE, decimal commas."),
        ("utf-16-be", "separated by semicolons, UTF-16-BE, decimal commas."),
        ("cp1252", "separated by semicolons, decimal commas, 13 lines in Windows-1252."),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_german_excel_csv_reads_in_check_and_run_alike(
    tmp_path: Path, call: Call, encoding: str, said: str, end: str
) -> None:
    write(tmp_path, [HEADER, *ROWS], encoding, end=end)
    code, shown = call("data", "check", tmp_path)
    assert code == 0 and f"note: manifest.csv is read as: {said}" in shown and "read as: table" in shown
    examples = open_source(Settings(data="", data_path=str(tmp_path))).examples
    assert examples["table"].tolist() == [[20 + k, 1 + k / 8] for k in range(12)]
    assert {*examples["site"]} == {"Köln"}


def test_what_may_be_turkish_is_told(tmp_path: Path, call: Call) -> None:
    write(tmp_path, [HEADER, *(row.replace("K\u00f6ln", "\u0130zmir") for row in ROWS)], "cp1254")
    assert "has letters such as ý, þ or ð: if it is Turkish, export it anew" in call("data", "check", tmp_path)[1]


@pytest.mark.parametrize("first", ["sep=;", "\ufeffsep=;", "", " "])
@pytest.mark.parametrize(("sign", "word"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_separators_and_the_line_that_states_one(tmp_path: Path, call: Call, first: str, sign: str, word: str) -> None:
    write(tmp_path, [line.replace(";", sign) for line in (first, HEADER, *ROWS, "gesund;;Köln;1;2")])
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and f"separated by {word}" in shown and "'patient_id' is empty or NaN in row 15" in shown


@pytest.mark.parametrize(
    ("cells", "value"),
    [("1,5", 1.5), ("-1,5", -1.5), ("1.234,5", 1234.5), ("1.234.567,25", 1234567.25), (",5", 0.5), ("2", 2.0),
     ("1,5e3", 1500.0)],
)  # fmt: skip
def test_numbers_of_other_countries(tmp_path: Path, cells: str, value: float) -> None:
    write(tmp_path, ["label;patient_id;a", f"x;1;{cells}", "y;2;0,25", "x;3;", "y;4;3"])
    table = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere")).examples["table"]
    assert table[[0, 1, 3], 0].tolist() == [value, 0.25, 3.0] and np.isnan(table[2, 0])


@pytest.mark.parametrize("cell", ["1.234", "12.5", "1.234.567"])
def test_two_decimal_marks_in_a_file_are_refused_for_a_thousand_may_be_one(
    tmp_path: Path, call: Call, cell: str
) -> None:
    write(tmp_path, ["label;patient_id;a;b", f"x;1;{cell};1", *(f"{'xy'[k % 2]};{k};2;0,5" for k in range(2, 40))])
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "numbers have points in column 'a', and the file has decimal commas" in shown


def test_points_are_decimal_marks_where_no_number_has_a_comma(tmp_path: Path) -> None:
    write(tmp_path, ["label;patient_id;a", "x;1;1.234", "y;2;2.5"])
    source = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere"))
    assert source.examples["table"][:, 0].tolist() == [1.234, 2.5]


def test_a_line_of_another_encoding_changes_no_other_line(tmp_path: Path) -> None:
    lines = ["label,patient_id,site,a", "x,1,Köln,1", "y,2,Köln,2"]
    write(tmp_path, lines)
    (tmp_path / "manifest.csv").write_bytes("\n".join(lines).encode() + "\nx,3,Nürnberg,3".encode("cp1252"))
    source = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere"))
    assert source.examples["site"].tolist() == ["Köln", "Köln", "Nürnberg"]


@pytest.mark.parametrize("first", [b"PK\x03\x04sheet", b"\xd0\xcf\x11\xe0sheet"])
def test_a_workbook_is_named_as_one(tmp_path: Path, call: Call, first: bytes) -> None:
    (tmp_path / "manifest.csv").write_bytes(first)
    code, shown = call("data", "check", tmp_path, "--as", "table")
    assert code == 1 and "is a workbook; in the spreadsheet program save it as CSV UTF-8" in shown


def test_every_cause_is_named_at_once_with_its_count(tmp_path: Path, call: Call) -> None:
    rows = [f"{k}.png,{'xy'[k % 2]},p{k},s{k % 2},{'test' if k > 8 else 'train'}" for k in range(12)]
    for k in range(12):
        picture(tmp_path / f"{k}.png", 9 * k)
    (tmp_path / "3.png").write_bytes(b"broken")
    bad = [
        "gone.png,x,p20,s0,train",
        "1.png,,p21,s0,train",
        "2.png,x,,s0,train",
        "4.png,x,p5,s0,test",
        "5.png,x,p4,s1,test",
    ]
    write(tmp_path, ["path,label,patient_id,site,split", *rows, *bad, "6.png,x"])
    code, shown = call("data", "check", tmp_path)
    faults = [line for line in shown.splitlines() if line.startswith("fault: ")]
    for words in (
        "1 case(s): manifest.csv: the row is longer or shorter", "1 case(s): manifest.csv: column 'path' names no file",
        "1 case(s): manifest.csv: column 'label' is empty", "1 case(s): manifest.csv: column 'patient_id' is empty",
        "an image is listed with several labels", "3.png",
    ):  # fmt: skip
        assert len([line for line in faults if words in line]) == 1, words
    assert code == 1 and shown.rstrip().endswith("fault(s)")


def test_all_pairs_on_two_sides_are_counted(tmp_path: Path, call: Call) -> None:
    rows = [f"{'xy'[k % 2]},p{k % 5},north,{'test' if k > 9 else 'train'},{k}" for k in range(14)]
    write(tmp_path, ["label,patient_id,site,split,a", *rows])
    code, shown = call("data", "check", tmp_path)
    (fault,) = [line for line in shown.splitlines() if "are of one patient" in line]
    assert code == 1 and fault.startswith("fault: 4 pair(s), such as case ")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.csv": b"x,y,z\n1,2,3\n4,5,6\n"}, "one CSV of 3 columns and 2 rows (a.csv)"),
        ({"a.csv": b"x,y\n", "b.csv": b"x\n"}, "2 CSV files (a.csv, b.csv): name the one that is meant"),
        ({"s1/a": bytes(128) + b"DICM", "s2/b.dcm": b"", "s2/c.dcm": b""}, "3 DICOM files"),
        ({"a.nii.gz": b"", "b.nii": b""}, "2 NIfTI volumes"),
        ({"a.png": b"", "b.JPG": b""}, "2 images"),
        ({"a.docx": b""}, "1 file of no kind that is read (.docx)"),
        ({}, "no file"),
    ],
)
def test_the_nearest_layout_is_named_where_none_is_known(
    tmp_path: Path, call: Call, files: dict[str, bytes], words: str
) -> None:
    from medtl_core.formats.survey import survey

    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and words in survey(tmp_path)
    assert words in " ".join(shown.split()) or "DICOM" in words or "NIfTI" in words  # those have readers of their own


def test_a_kind_is_given_by_its_word_and_an_unknown_one_is_refused(tmp_path: Path, call: Call) -> None:
    write(tmp_path, [HEADER, *ROWS])
    assert "column 'path' is missing" in call("data", "check", tmp_path, "--as", "images")[1]
    assert "read as: table" in call("data", "check", tmp_path, "--as", "table")[1]
    code, shown = call("data", "check", tmp_path, "--as", "tabel")
    assert code == 1 and "'tabel' is no kind of data; did you mean 'table'?" in shown


def test_a_table_beside_class_folders_is_said_to_be_unread(tmp_path: Path, call: Call) -> None:
    for k in range(6):
        picture(tmp_path / "ab"[k % 2] / f"{k}.png", k * 40)
    (tmp_path / "metadata.csv").write_text("x,y\n")
    code, shown = call("data", "check", tmp_path)
    assert code == 0 and "note: metadata.csv lies beside the images and is not read" in shown
    assert "read as: folders" in shown and "modality=WORD" in shown


@pytest.mark.parametrize("listed", [8, 12])
def test_images_that_no_row_names_are_counted(tmp_path: Path, call: Call, listed: int) -> None:
    for k in range(12):
        picture(tmp_path / "img" / f"{k}.png", k * 20)
    write(tmp_path, ["path,label", *(f"./img/{k}.png,{'ab'[k % 2]}" for k in range(listed))])
    code, shown = call("data", "check", tmp_path)
    assert code == 0 and ("4 images below the folder are in no row of manifest.csv" in shown) == (listed == 8)


def test_the_draft_of_a_foreign_table_is_read_as_drafted(tmp_path: Path, call: Call) -> None:
    header = "Fallnr;Diagnose;Patient;Klinik;Größe;Bemerkung"
    rows = [f"{900 + k};{'xy'[k % 2]};P{k // 2};Süd;1,{k};Frau Meier, {k}" for k in range(40)]
    write(tmp_path, [header, *rows], "cp1252", "Export.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "label: 'Diagnose' (proposed)" in shown and "Fallnr, Bemerkung" in shown
    text = (tmp_path / "manifest.csv").read_text(encoding="utf-8")
    assert text.splitlines()[:2] == ["label,patient_id,site,Größe", "x,P0,Süd,1"] and "Meier" not in text + shown
    assert call("data", "check", tmp_path)[0] == 0
    assert "20 patients in 40 rows" in call("data", "draft", tmp_path)[1]
    stated = json.loads((tmp_path / "task.json").read_text())
    assert stated == {"name": tmp_path.name, "classes": ["x", "y"], "modality": "table", "one_patient_a_row": False}
    assert call("data", "check", tmp_path)[0] == 0


def test_columns_of_a_draft_may_be_given_and_must_be_there(tmp_path: Path, call: Call) -> None:
    write(tmp_path, ["u,v,w,x,y", *(f"{'ab'[k % 2]},{k % 7},1.5,{k},z" for k in range(30))], name="t.csv")
    assert "give --label COLUMN: u, v, w, x, y" in call("data", "draft", tmp_path)[1]
    assert "has no column 'q'" in call("data", "draft", tmp_path, "--label", "q")[1]
    code, shown = call("data", "draft", tmp_path / "t.csv", "--label", "u", "--patient", "v")
    assert code == 0 and "measurements: w" in shown and "x, y" in shown
    assert (tmp_path / "manifest.csv").read_text().startswith("label,patient_id,w\na,0,1.5\n")


@pytest.mark.parametrize("column", ["id", "Nr", "index", "case number", "Record_ID", "Fallnummer", "Unnamed: 0"])
def test_a_column_that_numbers_the_rows_is_no_measurement(tmp_path: Path, call: Call, column: str) -> None:
    write(tmp_path, [f"label,a,{column}", *(f"{'ab'[k % 2]},{k % 7},{100 + k}" for k in range(20))], name="t.csv")
    code, shown = call("data", "check", tmp_path / "t.csv")
    assert code == 1 and repr(column) in shown and "101" not in shown
    write(tmp_path, [f"label,a,{column}", *(f"{'ab'[k % 2]},{k % 7},{k % 5}" for k in range(20))], name="t.csv")
    code, shown = call("data", "check", tmp_path / "t.csv", "--as", "table")
    assert code == 0 and f"measurements: {', '.join(sorted((column, 'a')))}" in shown  # it measures something, by name


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_table_under_another_name_is_read_where_it_is_named(tmp_path: Path, call: Call, suffix: str) -> None:
    sign = {"csv": ",", "tsv": "\t"}[suffix]
    write(
        tmp_path, [sign.join(("label", "a")), *(f"{'ab'[k % 2]}{sign}{k % 7}" for k in range(20))], name=f"t.{suffix}"
    )
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and f"name t.{suffix} itself as the data" in shown and "rename its column" not in shown
    code, shown = call("data", "check", tmp_path / f"t.{suffix}")
    assert code == 0 and "every row counts as one patient" in shown and "measurements: a" in shown


def test_a_column_of_units_or_words_is_one_fault_and_no_draft(tmp_path: Path, call: Call) -> None:
    write(
        tmp_path, ["label,sat,sex", *(f"{'ab'[k % 2]},{90 + k % 7} %,{'mf'[k % 2]}" for k in range(20))], name="t.csv"
    )
    code, shown = call("data", "check", tmp_path / "t.csv")
    assert code == 1 and shown.count("no cell of it does: write a unit into the column's name") == 2
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "none of sat, sex holds numbers alone" in shown and not (tmp_path / "manifest.csv").exists()


def test_a_draft_of_notes_keeps_the_text_and_a_spreadsheet_is_named(tmp_path: Path, call: Call) -> None:
    words = ["cough", "fever", "fall", "rash", "pain"]
    notes = [f"p{k},{'ab'[k % 2]},{words[k % 5]} after {words[k // 5]} at work" for k in range(20)]
    write(tmp_path, ["pid,Diagnosis,Report", *notes], name="t.csv")
    assert call("data", "draft", tmp_path)[0] == 0
    assert (tmp_path / "manifest.csv").read_text().startswith("label,patient_id,note\na,p0,cough after cough at work\n")
    (tmp_path / "sheet").mkdir()
    (tmp_path / "sheet" / "cases.xlsx").write_bytes(b"PK")
    assert "save a sheet as CSV" in call("data", "check", tmp_path / "sheet")[1]


def test_equal_images_with_two_labels_are_told_once(tmp_path: Path, call: Call) -> None:
    for k in range(12):
        picture(tmp_path / "ab"[k % 2] / f"{k}.png", k * 20)
    for k in range(0, 6, 2):
        picture(tmp_path / "b" / f"copy{k}.png", k * 20)
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and shown.count("byte-equal images with different labels") == 1


def test_an_id_that_a_spreadsheet_cut_short_is_no_patient(tmp_path: Path, call: Call) -> None:
    rows = [f"{'xy'[k % 2]},{'1.23E+10' if k == 3 else f'P{k}'},{k % 7}" for k in range(20)]
    write(tmp_path, ["label,patient_id,a", *rows])
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "'patient_id' holds a number in scientific notation in row 5" in shown and "1.23" not in shown


@pytest.mark.parametrize(
    ("cells", "doubt"),
    [
        ([-999, 3, 4, 5], "holds -999 in 10 rows"),
        ([9999, 3, 4, 5], "holds 9999 in 10 rows"),
        ([99, 99, 60, 60, 81, 81], ""),  # 99 is one of them
        ([7, 8, 7, 8], "alone tells every class"),
        ([7, 8, 7, 7], ""),
        ([0, 1, 2, 3], "alone tells every class"),
    ],
)
def test_what_a_column_may_mean_beside_is_said_and_changes_nothing(
    tmp_path: Path, call: Call, cells: list[int], doubt: str
) -> None:
    write(
        tmp_path,
        ["label,patient_id,a,b", *(f"{'xy'[k % 2]},P{k},{cells[k % len(cells)]},{k * k / 7}" for k in range(40))],
    )
    code, shown = call("data", "check", tmp_path)
    assert code == 0 and ("note: manifest.csv: column 'a'" in shown) == bool(doubt) and doubt in shown
    assert "column 'b'" not in shown


def test_folders_of_masks_are_no_class_and_hospitals_of_classes_are_drafted(tmp_path: Path, call: Call) -> None:
    for k in range(12):
        picture(tmp_path / "m" / ("images", "Masks")[k % 2] / f"{k}.png", k * 20)
        picture(tmp_path / "h" / ("east", "north")[k % 2] / ("ill", "well")[k // 2 % 2] / f"{k}.png", k * 20)
    code, shown = call("data", "check", tmp_path / "m")
    assert code == 1 and "'Masks' is a folder of masks, no class" in shown
    assert "where folders are hospitals, `medtl data draft` lists the cases" in call("data", "check", tmp_path / "h")[1]
    assert call("data", "draft", tmp_path / "h")[0] == 0
    assert (tmp_path / "h" / "manifest.csv").read_text().startswith("path,label,site\neast/ill/0.png,ill,east\n")
    code, shown = call("data", "check", tmp_path / "h")
    assert code == 0 and "north" in shown and "no fault found" in shown


def test_a_draft_says_which_cells_are_to_be_filled_in(tmp_path: Path, call: Call) -> None:
    rows = [f"{k}.nii.gz,,{'ab'[k % 2]},{k if k else ''}" for k in range(4)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,kind,patient", *rows]))
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "'label' of t.csv is empty in every row" in shown and "few different words: kind" in shown
    code, shown = call("data", "draft", tmp_path, "--label", "kind")
    assert code == 0 and "to do: fill in patient_id, empty in 1 of 4 rows" in shown
    assert (tmp_path / "manifest.csv").read_text().splitlines()[:2] == ["label,patient_id,path", "a,,0.nii.gz"]
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "t.csv").write_text("file,label\n1.nii,CT\n2.nii,CT\n")
    assert "'label' says the same of every row; two classes" in call("data", "draft", tmp_path / "one")[1]


def test_a_draft_overwrites_nothing(tmp_path: Path, call: Call) -> None:
    write(tmp_path, [HEADER, *ROWS])
    (tmp_path / "task.json").write_text('{"name": "mine", "classes": ["gesund", "krank"]}')
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "is not overwritten" in shown and "mine" in (tmp_path / "task.json").read_text()


def test_loose_images_are_listed_for_a_person_to_fill_in(tmp_path: Path, call: Call) -> None:
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    assert call("data", "draft", tmp_path)[0] == 0
    assert (tmp_path / "manifest.csv").read_text().splitlines() == [
        "path,label,patient_id,site", "0.png,,,", "1.png,,,", "2.png,,,",
    ]  # fmt: skip
    assert call("data", "check", tmp_path)[0] == 1


def test_one_patient_a_row_is_held_to(tmp_path: Path, call: Call) -> None:
    write(tmp_path, [HEADER, *ROWS, ROWS[0]])
    (tmp_path / "task.json").write_text('{"name": "t", "classes": ["gesund", "krank"], "one_patient_a_row": true}')
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "task.json says one patient a row, and a patient has several" in shown


def test_every_cause_of_every_file_is_shown_at_once(tmp_path: Path, call: Call) -> None:
    (tmp_path / "task.json").write_text('{"name": "t", "classes": ["x"], "views": ["flop"]}')
    write(tmp_path, ["diagnosis,patient,hospital,a", "x,1,n,1"])
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and shown.count("fault: ") == 5
    for words in (
        "classes must be",
        "unknown view 'flop'",
        "'label' is missing",
        "'patient' looks",
        "'hospital' looks",
    ):
        assert words in shown
    write(tmp_path, ["label,patient_id,site,a", "x,1,n,1", "y,2,n,two", "y,,n,1", "y,3"])
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and shown.count("fault: ") == 5
    for words in ("holds no number in row 3", "empty or NaN in row 4", "shorter than the header in row 5"):
        assert f"fault: 1 case(s): manifest.csv: {'the row is longer or ' * ('row 5' in words)}" in shown
        assert words in shown


def test_a_schema_names_all_its_faults(tmp_path: Path, call: Call) -> None:
    write(tmp_path, ["a,b", "1,2"], name="records.csv")
    (tmp_path / "schema.toml").write_text(
        'classes = ["x", "y"]\n[column.a]\ntype = "number"\n[column.b]\ntype = "date"\n[column.c]\ntipe = "flag"\n'
    )
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and [f"[column.{name}]" in shown for name in "abc"] == [True] * 3


@pytest.mark.parametrize("word", ["train", "testing", "other"])
def test_folders_that_are_no_split_are_all_named(tmp_path: Path, call: Call, word: str) -> None:
    for name in ("train", "valid", "Test", word):
        picture(tmp_path / name / "a" / "1.png", 3)
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and {f"'{name}'" in shown for name in {"valid", "Test", word} - {"train"}} == {True}


def test_records_say_how_their_table_is_written(tmp_path: Path, call: Call) -> None:
    lines = [line.replace(",", ";").replace(".", ",") for line in RECORDS.splitlines()]
    call("data", "check", write(clinic(tmp_path), lines, "cp1252", name="records.csv"))
    _, shown = call("data", "check", tmp_path)
    assert "records.csv is read as: separated by semicolons, decimal commas." in shown


def test_a_report_shows_rows_and_counts_what_has_a_name(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 3)
    lines = [*(f"a.png,x,{number}" for number in range(20)), "meier.png,x,1", "a.png,,2"]
    write(tmp_path, ["path,label,patient_id", *lines])
    (tmp_path / "task.json").write_text('{"name": "t", "classes": ["x", "y"]}')
    faults = open_source(Settings(data="", data_path=str(tmp_path))).faults
    assert "row 22 (meier.png)" in " ".join(map(str, faults)) and "meier" not in " ".join(f.counted for f in faults)
    assert ["row 22" in fault.counted or "row 23" in fault.counted for fault in faults] == [True, True]
