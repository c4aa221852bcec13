"""`medtl data draft` of what hospitals send: German exports, a file a hospital, findings, images by name, folders."""

import io
import json
import os
from pathlib import Path

import pytest

from medtl_core.config import Settings
from medtl_core.data.source import open_source
from tests.cli.conftest import Call
from tests.cli.test_data import picture, write

HEAD = "Patientennummer;Klinik;Alter;Kreatinin;Leukozyten;Diagnose"
GERMAN = [
    f"{k:05d};Köln;{20 + 7 * k % 50};1,{k % 9};{4 + k % 8}.{k:03d};{('krank', 'gesund')[k % 2]}" for k in range(30)
]


def values(place: Path) -> list[list[float]]:
    found: list[list[float]] = open_source(Settings(data="", data_path=str(place))).examples["table"].tolist()
    return found


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8-sig", "utf-16"])
def test_points_are_thousands_or_decimals_as_a_person_says(tmp_path: Path, call: Call, encoding: str) -> None:
    write(tmp_path, [HEAD, *GERMAN], encoding, "Export.csv", "\r\n")
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "points in 'Leukozyten', which may be thousands or decimals" in shown
    assert "say --points thousands" in shown and not (tmp_path / "manifest.csv").exists()
    assert "neither thousands nor decimals" in call("data", "draft", tmp_path, "--points", "commas")[1]
    assert call("data", "draft", tmp_path, "--points", "thousands")[0] == 0
    assert values(tmp_path)[:2] == [[20.0, 1.0, 4000.0], [27.0, 1.1, 5001.0]]
    (tmp_path / "manifest.csv").unlink()
    assert call("data", "draft", tmp_path, "--points", "decimals")[0] == 0
    assert values(tmp_path)[1] == [27.0, 1.1, 5.001]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["4.500", "850", "11.200"], "fault"),  # shown with points between thousands
        (["4.500", "5.250", "11.200"], "note"),  # or of three decimals
        (["4.500", "850", "1200"], "note"),
        (["4.5", "850", "11.200"], ""),
        (["1.234.567", "850", "1"], "fault"),
    ],
)
def test_thousands_in_a_file_without_decimal_commas(tmp_path: Path, call: Call, cells: list[str], kind: str) -> None:
    write(tmp_path, ["label;patient_id;a", *(f"{'xy'[k % 2]};{k};{cells[k % 3]}" for k in range(12))])
    code, shown = call("data", "check", tmp_path)
    assert (code == 1) == (kind == "fault") and ("seem to stand between thousands" in shown) == (kind == "fault")
    assert ("and they are read as decimal marks" in shown) == bool(kind)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("12'345", 12345.0), ("12 345,5", 12345.5), ("12\u202f345", 12345.0), ("\u22125,5", -5.5), ("\u20131", -1.0)],
)
def test_numbers_of_more_countries(tmp_path: Path, cell: str, value: float) -> None:
    write(tmp_path, ["label;patient_id;a", f"x;1;{cell}", "y;2;0,25", "x;3;1", "y;4;3"])
    assert open_source(Settings(data="", data_path=str(tmp_path), test_path="x")).examples["table"][0, 0] == value


def test_a_comma_in_a_file_that_commas_separate_has_its_own_remedy(tmp_path: Path, call: Call) -> None:
    write(tmp_path, ["label,patient_id,a", *(f'{"xy"[k % 2]},{k},"{k},5"' for k in range(12))])
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "write no comma in a number, or separate the columns by semicolons" in shown


@pytest.mark.parametrize("units", [";;Jahre;mg/dl;/nl;", ";-;Jahre;mg/dl;/nl;-", ";;[a];;;"])
def test_a_row_of_units_is_no_case(tmp_path: Path, call: Call, units: str) -> None:
    write(tmp_path, [HEAD, units, *(row.replace(".", "") for row in GERMAN)], name="Export.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "row 2 of Export.csv is of no case, as a row of units is, and is left out" in shown
    assert "manifest.csv, 30 rows" in shown and "measurements: Alter, Kreatinin, Leukozyten" in shown
    assert call("data", "check", tmp_path)[0] == 0


def test_a_first_case_with_a_word_is_no_row_of_units(tmp_path: Path, call: Call) -> None:
    write(
        tmp_path,
        ["ID,outcome,sex,a", *(f"{k},{('none', 'CAD')[k % 2]},{'MF'[k // 2 % 2]},{k % 7}" for k in range(40))],
        name="t.csv",
    )
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "manifest.csv, 40 rows" in shown and "'none' would else be a missing one" in shown
    assert json.loads((tmp_path / "task.json").read_text())["classes"] == ["CAD", "none"]
    assert call("data", "check", tmp_path)[0] == 0


def test_a_column_of_numbers_with_a_few_words_is_named_and_not_lost_in_silence(tmp_path: Path, call: Call) -> None:
    rows = [f"{'xy'[k % 2]},{k % 5},{k % 7 if k % 20 else 'high'}" for k in range(40)]
    write(tmp_path, ["label,a,b", *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "to do: 'b' holds no number in 2 of 40 rows, and is left out" in shown


def hospital(place: Path, *columns: str, first: int = 0, sign: str = ",") -> None:
    cells = {"patient": "P{k}", "age": "{age}", "sugar": "{k}.5", "diagnosis": "{word}"}
    rows = [
        sign.join(cells[name].format(k=k, age=20 + k % 9, word=("ill", "well")[k % 2]) for name in columns)
        for k in range(first, first + 20)
    ]
    write(place.parent, [sign.join(columns), *rows], name=place.name)


@pytest.mark.parametrize("names", [("north/patients.csv", "south/patients.csv"), ("north.csv", "south.csv")])
def test_a_file_a_hospital_is_joined_by_the_names_of_columns(
    tmp_path: Path, call: Call, names: tuple[str, str]
) -> None:
    for place in names:
        (tmp_path / place).parent.mkdir(exist_ok=True)
    hospital(tmp_path / names[0], "patient", "age", "sugar", "diagnosis")
    hospital(tmp_path / names[1], "diagnosis", "sugar", "patient", "age", sign=";")
    assert "let `medtl data draft` make one manifest.csv of them" in call("data", "check", tmp_path)[1]
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "20 patients' ids stand in several files: say --own-ids" in shown
    assert call("data", "draft", tmp_path, "--own-ids")[0] == 0
    source = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere"))
    assert source.columns == ("age", "sugar") and {*source.examples["site"]} == {"north", "south"}
    assert source.examples["table"][[1, 21]].tolist() == [[21.0, 1.5], [21.0, 1.5]]
    assert len({*source.examples["patient"]}) == 40


def test_files_with_other_columns_are_not_joined(tmp_path: Path, call: Call) -> None:
    hospital(tmp_path / "north.csv", "patient", "age", "sugar", "diagnosis")
    hospital(tmp_path / "south.csv", "patient", "age", "diagnosis", first=20)
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "north.csv and south.csv differ in sugar" in shown


def test_a_hospital_whose_file_is_empty_is_not_lost(tmp_path: Path, call: Call) -> None:
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
    hospital(tmp_path / "north" / "data.csv", "patient", "age", "sugar", "diagnosis")
    (tmp_path / "south" / "data.csv").write_text("patient,age,sugar,diagnosis\n")
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "south/data.csv holds no case: its hospital would be lost" in shown


FLAGS = ["image,patient,A,B,C"]


def test_columns_of_which_one_is_1_are_the_class_and_images_are_found_by_name(tmp_path: Path, call: Call) -> None:
    for k in range(12):
        picture(tmp_path / "img" / f"ISIC_{k}.png", k * 20)
    rows = [f"ISIC_{k},P{k},{k % 3 == 0:d},{k % 3 == 1:d},{k % 3 == 2:d}" for k in range(12)]
    write(tmp_path, [*FLAGS, *rows], name="labels.csv")
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "labels.csv lies beside the images and is not read" in shown and "`medtl data draft " in shown
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "or --label A,B,C if each is a finding of its own" in shown
    code, shown = call("data", "draft", tmp_path, "--label", "A,B,C")
    assert code == 0 and "label: of A, B, C the one that is 1" in shown and "12 of 12 files were found" in shown
    assert (tmp_path / "manifest.csv").read_text().splitlines()[1:3] == ["A,P0,img/ISIC_0.png", "B,P1,img/ISIC_1.png"]
    assert call("data", "check", tmp_path)[0] == 0


def test_columns_of_which_several_are_1_are_findings(tmp_path: Path, call: Call) -> None:
    for k in range(12):
        picture(tmp_path / "img" / f"{k}.png", k * 20)
    rows = [f"img\\{k}.png,P{k},{('ja', 'nein')[k % 2]},{k % 3 == 1:d},{('', '1', '0')[k % 3]}" for k in range(12)]
    write(tmp_path, [*FLAGS, *rows], name="labels.csv")
    assert call("data", "draft", tmp_path, "--label", "A,B,C")[0] == 0
    stated = json.loads((tmp_path / "task.json").read_text())
    assert stated["classes"] == ["A", "B", "C"] and stated["kind"] == "multi-label"
    labels = open_source(Settings(data="", data_path=str(tmp_path), test_path="elsewhere")).examples["labels"]
    assert labels[:3].tolist() == [[1, 0, -1], [0, 1, 1], [1, 0, 0]]
    (tmp_path / "manifest.csv").unlink()
    write(tmp_path, [*FLAGS, *(row.replace("nein", "maybe") for row in rows)], name="labels.csv")
    code, shown = call("data", "draft", tmp_path, "--label", "A,B,C")
    assert code == 1 and "'A' says neither 1 nor 0 in 6 rows" in shown and "maybe" not in shown


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("{site}/{split}/{label}", "north/train/ill/0.png,ill,north,train"),
        ("{split}/{site}/{label}", "train/north/ill/0.png,ill,north,train"),
        ("{site}/{label}/{split}", "north/ill/train/0.png,ill,north,train"),
        ("{site}/{label}", "north/ill/0.png,ill,north"),
    ],
)
def test_hospitals_classes_and_splits_are_read_off_folders(tmp_path: Path, call: Call, form: str, line: str) -> None:
    for k in range(16):
        words = {
            "site": ("north", "south")[k % 2],
            "label": ("ill", "well")[k // 2 % 2],
            "split": ("train", "test")[k // 4 % 2],
        }
        picture(tmp_path / form.format(**words) / f"{k}.png", k * 15)
    (tmp_path / "west").mkdir()
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "to do: the folder 'west' holds no case" in shown
    assert line in (tmp_path / "manifest.csv").read_text().splitlines()
    assert call("data", "check", tmp_path)[0] == 0


@pytest.mark.parametrize("form", ["train_set/{label}", "fold/{label}", "{label}/P{k}"])
def test_folders_that_are_no_hospitals_are_left_to_a_person(tmp_path: Path, call: Call, form: str) -> None:
    for k in range(8):
        picture(tmp_path / form.format(label=("ill", "well")[k % 2], k=k) / f"{k}.png", k * 15)
    assert call("data", "draft", tmp_path)[0] == 0
    assert (tmp_path / "manifest.csv").read_text().startswith("path,label,patient_id,site\n")


def test_a_draft_that_cannot_be_written_whole_leaves_nothing(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, ["label,a", *(f"{'xy'[k % 2]},{k % 5}" for k in range(12))], name="t.csv")

    class Full(io.TextIOWrapper):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    usual = Path.open

    def opened(path: Path, mode: str = "r", **more):
        return Full(usual(path, "xb")) if mode == "x" else usual(path, mode, **more)

    monkeypatch.setattr(Path, "open", opened)
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "No space left" in shown and [*tmp_path.iterdir()] == [tmp_path / "t.csv"]


@pytest.mark.parametrize("command", [("data", "check"), ("data", "draft"), ("simulate", "--data")])
def test_a_folder_whose_name_is_not_utf_8_is_named_before_anything_starts(
    tmp_path: Path, call: Call, command: tuple[str, str]
) -> None:
    place = write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcnchen")), ["label,a", "x,1", "y,2"])
    code, shown = call(*command, place)
    assert code == 1 and "M\\xfcnchen is not UTF-8; rename" in shown and "Traceback" not in shown


def test_an_image_whose_name_is_not_utf_8_is_in_no_draft(tmp_path: Path, call: Call) -> None:
    picture(tmp_path / "a.png", 1)
    (tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller.png"))
    code, shown = call("data", "draft", tmp_path)
    assert code == 1 and "M\\xfcller.png is not UTF-8" in shown and not (tmp_path / "manifest.csv").exists()


def test_a_column_that_says_the_same_everywhere_is_not_proposed_and_a_text_file_is_a_table(
    tmp_path: Path, call: Call
) -> None:
    rows = [f"x\t{('ill', 'well')[k % 2]}\t{k % 5}" for k in range(12)]
    write(tmp_path, ["Diagnose\tBefund\ta", *rows], name="t.txt")
    assert "rename a table to end in .csv or .tsv" in call("data", "draft", tmp_path)[1]
    (tmp_path / "t.txt").rename(tmp_path / "t.tsv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "label: 'Befund' (proposed)" in shown and "measurements: a" in shown


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_a_table_without_a_header_is_told_and_its_first_patient_is_not_quoted(
    tmp_path: Path, call: Call, sign: str
) -> None:
    rows = [sign.join(["Meier" + "ab"[k % 2] * k, "01.02.1950", str(k), "1.5", "m"]) for k in range(1, 12)]
    write(tmp_path, rows, name="t.csv")
    for words in ((), ("--label", "m"), ("--label", "x")):
        code, shown = call("data", "draft", tmp_path, *words)
        assert (
            code == 1 and "its first line seems to be a case" in shown and "Meier" not in shown and "1950" not in shown
        )
    code, shown = call("data", "check", tmp_path)
    assert code == 1 and "Meier" not in shown and "1950" not in shown


def test_a_column_of_names_that_was_taken_for_the_class_is_not_shown(tmp_path: Path, call: Call) -> None:
    write(tmp_path, ["Name;a", *(f"Meier{k};{k % 7}" for k in range(30))], name="t.csv")
    assert call("data", "draft", tmp_path, "--label", "Name")[0] == 0
    for words in (("data", "check"), ("simulate", "--quiet", "--data")):
        code, shown = call(*words, tmp_path)
        assert code == 1 and "30 classes in 30 cases are no classes" in shown and "Meier" not in shown


def test_columns_of_two_words_become_0_and_1_under_a_name_that_says_which(tmp_path: Path, call: Call) -> None:
    rows = [
        f"{('krank', 'gesund')[k % 2]};{k % 5};{'mw'[k // 2 % 2]};{('ja', 'Nein', 'k.A.')[k % 3]};{'abc'[k % 3]}"
        for k in range(18)
    ]
    write(tmp_path, ["Diagnose;Punkte;Geschlecht;Raucher;Typ", *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "measurements: Punkte, Geschlecht=w, Raucher=ja" in shown
    assert "left out (words, or numbers as ids are): Typ" in shown
    assert (tmp_path / "manifest.csv").read_text().splitlines()[:4] == [
        "label,Punkte,Geschlecht=w,Raucher=ja", "krank,0,0,1", "gesund,1,0,0", "krank,2,1,",
    ]  # fmt: skip
    assert call("data", "check", tmp_path)[0] == 0


def test_a_column_that_is_empty_everywhere_is_no_column(tmp_path: Path, call: Call) -> None:
    rows = [f"{'xy'[k % 2]},,{('', 'n/a')[k % 2]},,{k % 5}" for k in range(12)]
    write(tmp_path, ["label,patient_id,site,split,a", *rows], name="t.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and shown.count("is empty in every row, and is left out") == 3
    assert (tmp_path / "manifest.csv").read_text().startswith("label,a\nx,0\n")
    assert call("data", "check", tmp_path)[0] == 0


def test_a_known_set_needs_no_draft(tmp_path: Path, call: Call) -> None:
    header = "site,age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num"
    rows = [
        f"{site},5{k % 9},1,1,145,233,1,2,150,0,2.3,3,0,6,{k % 2}" for site in ("cleveland", "va") for k in range(9)
    ]
    write(tmp_path, [header, *rows], name="heart_disease_4sites.csv")
    code, shown = call("data", "draft", tmp_path)
    assert code == 0 and "is the known set heart_uci" in shown and len([*tmp_path.iterdir()]) == 1
