"""Names, numbers and rows that mean something else than they seem to: refused, joined by the stated rule, or said."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.names import alike, is_missing
from medtl_core.data.shared import check_sides
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError
from medtl_core.formats.alike import look_of_class, look_of_name

USUAL = [f"{('ill', 'well')[k % 2]},P{k},{('north', 'south')[k // 2 % 2]},{k % 7}.5" for k in range(40)]


def opened(
    path: Path,
    *rows: str,
    header: str = "label,patient_id,site,a",
    faults: Faults | None = None,
    encoding: str = "utf-8",
) -> Source:
    path.mkdir(exist_ok=True)
    (path / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return open_source(Settings(data="", data_path=str(path), backbone="table", test_path="elsewhere"), faults)


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (("north", "n\u043erth", "south"), 1),  # a Cyrillic o
        (("St. Anna", "St.-Anna"), 1),
        (("St. Anna", "St.\u2013Anna"), 1),
        (("Mary's", "Mary\u2019s"), 1),
        (("K\u00f6ln", "Koeln"), 1),
        (("K\u00f6ln", "K\u00c3\u00b6ln"), 1),  # UTF-8 that was read as Windows-1252
        (("lung_cancer", "lung cancer"), 1),
        (("north", "north."), 1),
        (("\uff4eorth", "north"), 1),
        (("Centre 2", "Centre-2", "centre2"), 1),
        (("Orl\u00e9ans", "Orleans"), 1),
        (("KILIN\u00c7", "k\u0131l\u0131n\u00e7"), 1),  # as a Turkish spreadsheet writes small letters
        (("\u0130zmir", "\u00ddzmir"), 1),  # Windows-1254 that was read as Windows-1252
        (("'north", "north"), 1),
        (("Ward 1", "Ward 11"), 0),
        (("K\u00f6ln", "Kolin"), 0),
        (("HER2+", "HER2-"), 0),
        (("1.5", "15"), 0),
        (("T1", "T2"), 0),
        (("-1", "1"), 0),
        (("nor th", "north"), 0),
    ],
)
def test_names_that_look_alike_are_refused_and_others_are_not(
    tmp_path: Path, names: tuple[str, ...], groups: int
) -> None:
    assert len(alike(names, look_of_name)) == groups
    rows = [f'{"xy"[k % 2]},{k},"{names[k // 2 % len(names)]}",{k % 5}' for k in range(24)]
    if groups:
        with pytest.raises(DataError, match=r"hospitals .* look alike|holds a letter that was lost"):
            opened(tmp_path, *rows)
    else:
        assert {*opened(tmp_path, *rows).examples["site"]} == {*names}


@pytest.mark.parametrize(
    ("classes", "groups"),
    [
        (("yes", "no", "Y", "N"), 2),
        (("1", "0", "pos", "neg"), 2),
        (("ja", "nein", "Ja"), 1),
        (("\u0434\u0430", "yes", "\u043d\u0435\u0442", "no"), 2),
        (("s\u00ed", "s\u00ec", "negativo", "n\u00e9gatif"), 2),
        (("\u9633\u6027", "positive", "evet", "\u03bd\u03b1\u03b9"), 1),
        (("hay\u0131r", "HAYIR", "\u03cc\u03c7\u03b9", "\u5426"), 1),
        (("N", "S", "V", "F", "Q"), 0),
        (("0", "1", "2"), 0),
        (("1", "01", "+1", "1.0"), 1),
        (("wahr", "true", "falsch"), 1),
        (("COVID-19", "Covid 19", "covid19"), 1),
    ],
)
def test_classes_say_yes_and_no_in_one_way(classes: tuple[str, ...], groups: int) -> None:
    assert len(alike(classes, look_of_class)) == groups


@pytest.mark.parametrize(
    "word",
    [
        "k.A.", "k. A.", "keine Angabe", "unbekannt", "unknown", "#NV", "#WERT!", "#VALEUR!", "n.d.", "\u2013",
        "(leer)", "\\N", "#N/A N/A", "-1.#IND", "1.#QNAN", "<NULL>", "NA_character_", "#ERROR!", ".a", "n.v.t.",
        "onbekend", "brak danych", "n\u00e3o informado", "uppgift saknas", "\u672a\u77e5",
    ],
)  # fmt: skip
def test_words_for_missing_in_other_languages(tmp_path: Path, word: str) -> None:
    faults = Faults()
    odd = [f"{word},P90,north,1", f"ill,{word},north,1", f"ill,P91,{word},1", f"ill,P92,north,{word}"]
    source = opened(tmp_path, *USUAL, *odd, faults=faults)
    assert (
        is_missing(word) and faults.rows.tolist() == [40, 41, 42] and {*source.examples["site"]} == {"north", "south"}
    )
    assert source.examples.task.classes == ("ill", "well") and np.isnan(source.examples["table"][-1, 0])


def test_a_class_called_none_is_a_gap_whose_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the class is missing.*is the word a class, name it in task.json"):
        opened(tmp_path, *(row.replace("well", "none") for row in USUAL))


@pytest.mark.parametrize(
    "row",
    ["label,patient_id,site,a", "Summe,,,99", "Total,,all,99", "x,P9,north,--9--"],
)
def test_a_row_that_is_no_case_brings_no_class(tmp_path: Path, row: str) -> None:
    faults = Faults()
    source = opened(tmp_path, *USUAL[:20], row, *USUAL[20:], faults=faults)
    assert source.examples.task.classes == ("ill", "well") and faults.rows.tolist() == [20]


@pytest.mark.parametrize("files", [2, 3])
def test_files_put_one_below_the_other_cost_their_headers_only(tmp_path: Path, files: int) -> None:
    header, faults = "label,patient_id,site,a", Faults()
    rows = [row for part in range(files) for row in (header, *(row.replace("P", f"{part}P") for row in USUAL))][1:]
    assert len(opened(tmp_path, *rows, header=header, faults=faults).examples) == 40 * files
    (fault,) = faults.causes
    assert "repeats the header" in fault.cause and len(fault.places) == files - 1 and fault.places[0] == "row 42"


@pytest.mark.parametrize(
    ("bad", "cases", "lost"), [(20, 20, True), (3, 20, True), (1, 20, False), (1, 6, False), (2, 6, True), (1, 1, True)]
)
def test_a_hospital_that_would_be_lost_stops_the_run_however_small_its_share(
    tmp_path: Path, bad: int, cases: int, lost: bool
) -> None:
    rows = [f"{'xy'[k % 2]},P{k},{'south' if k >= 220 else 'north'},{k % 7}" for k in range(220 + cases)]
    rows[220 : 220 + bad] = [row.rsplit(",", 1)[0] + ",high" for row in rows[220 : 220 + bad]]
    if lost:
        with pytest.raises(DataError, match=f"{bad} of {cases} cases of 'south' cannot be used, more than 10%"):
            opened(tmp_path, *rows)
    else:
        assert {*opened(tmp_path, *rows).examples["site"]} == {"north", "south"}


@pytest.mark.parametrize("cell", ["1.23E2", "1.23E+10", "1,5E7", "4E+09"])
def test_an_id_of_which_a_spreadsheet_dropped_digits_is_a_fault(tmp_path: Path, cell: str) -> None:
    faults = Faults()
    opened(
        tmp_path, *USUAL, f'ill,"{cell}",north,1', "ill,12E4,north,1", faults=faults
    )  # the last is a hospital's code
    assert faults.rows.tolist() == [40]


@pytest.mark.parametrize("encoding", ["", "cp850", "mac_roman"])
@pytest.mark.parametrize("column", ["label", "patient_id", "site"])
def test_a_letter_that_was_lost_is_a_fault(tmp_path: Path, column: str, encoding: str) -> None:
    word = {"": "M\ufffdller", "cp850": "K\u00f6ln", "mac_roman": "M\u00fcnchen"}[encoding]
    word = word.encode(encoding).decode("cp1252") if encoding else word  # as a line that is no UTF-8 is read
    cells = {"label": "ill", "patient_id": "P90", "site": "north", column: word}
    faults = Faults()
    opened(tmp_path, *USUAL, ",".join(cells.values()) + ",1", faults=faults)
    assert [fault.cause for fault in faults.causes] == [f"manifest.csv: column {column!r} holds a letter that was lost"]


def test_a_label_of_nearly_as_many_words_as_cases_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="40 classes in 40 cases are no classes"):
        opened(tmp_path, *(f"{k * 1.37:.2f}," + row.split(",", 1)[1] for k, row in enumerate(USUAL)))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (lambda k, south: 5 + k % 7 / 10 if south else 90 + k % 7, True),  # mmol/L and mg/dL
        (lambda k, south: k % 2 + south, True),  # 0, 1 and 1, 2
        (lambda k, south: 36.5 + k % 7 / 4 if south else 97.7 + k % 7 / 2, True),  # degrees C and F
        (lambda k, south: k % 2, False),
        (lambda k, south: 40 + k % 9 + 3 * south, False),  # older patients
        (lambda k, south: k % 3 if south else k % 2, False),  # a code that one of them lacks
    ],
)
def test_a_column_that_two_hospitals_mean_otherwise_is_said(tmp_path: Path, values, said: bool) -> None:
    rows = [row.rsplit(",", 1)[0] + f",{values(k // 4, 'south' in row):g}" for k, row in enumerate(USUAL * 2)]
    notes = opened(tmp_path, *(row.replace(",P", f",{k}P") for k, row in enumerate(rows))).notes
    assert any("Column 'a' holds other values at" in note for note in notes) == said


def test_classes_and_hospitals_that_do_not_meet_are_said(tmp_path: Path) -> None:
    notes = opened(
        tmp_path, *(row.replace("ill", "krank").replace("well", "gesund") if "south" in row else row for row in USUAL)
    ).notes
    assert "The hospitals 'south' and 'north' have no class in common: do they call the same otherwise?" in notes
    notes = opened(tmp_path, *(row.replace("well", "ill") if "south" in row else row for row in USUAL)).notes
    assert "All cases are of one class at 'south'." in notes


@pytest.mark.parametrize(
    ("cells", "gone"), [("1,0", "No case shows 'B'."), ("0,", "No case shows 'A', 'B'."), ("1,1", "")]
)
def test_a_finding_that_no_case_shows_is_said(tmp_path: Path, cells: str, gone: str) -> None:
    (tmp_path / "task.json").write_text('{"name": "t", "classes": ["A", "B"], "kind": "multi-label"}')
    rows = [f"P{k},{cells},{k % 7}" for k in range(20)]
    notes = opened(tmp_path, *rows, header="patient_id,A,B,a").notes
    assert [note for note in notes if note.startswith("No case")] == [gone] * bool(gone)


@pytest.mark.parametrize(
    "column", ["Geburtsjahr", "birth_year", "PLZ", "zip code", "Telefon", "visit date", "Aufnahmedatum"]
)
def test_a_number_that_may_tell_who_a_patient_is_is_said(tmp_path: Path, column: str) -> None:
    notes = opened(tmp_path, *USUAL, header=f"label,patient_id,site,{column}").notes
    assert any(f"column {column!r} may tell who a patient is" in note for note in notes)


@pytest.mark.parametrize(("first", "said"), [(20240100, True), (20240000, False), (18000100, False), (240100, False)])
def test_numbers_that_are_days_are_said(tmp_path: Path, first: int, said: bool) -> None:
    rows = [f"{('ill', 'well')[k % 2]},P{k},north,{first + 200 * (k % 5) + k % 28 + 1}" for k in range(40)]
    notes = opened(tmp_path, *rows).notes
    assert any("column 'a' may tell who a patient is" in note for note in notes) == said


@pytest.mark.parametrize(("kept", "refused"), [(1, True), (2, False)])
def test_a_test_set_of_training_rows_is_refused_though_nobody_says_whose_they_are(
    tmp_path: Path, kept: int, refused: bool
) -> None:
    """Every second row of the same table, and other rows between."""
    lines = [f"{'xy'[k % 2]},{k * k % 97},{k * 7 % 31}" for k in range(60)]
    other = [f"{'xy'[k % 2]},{k * k % 89},{200 + k}" for k in range(60)]
    for name, rows in (("train", lines), ("test", lines[:20] + other[: 20 * kept - 20] * 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text("\n".join(["label,a,b", *rows]) + "\n")
    places = {"data_path": str(tmp_path / "train"), "test_path": str(tmp_path / "test")}
    chosen = Settings(data="", backbone="table", image_size=0, sites=2, shots=0, **places)
    if refused:
        with pytest.raises(DataError, match="20 of 20 test cases are equal to training cases"):
            check_sides(chosen)
    else:
        check_sides(chosen)


@pytest.mark.parametrize(("slips", "said"), [(0, False), (3, True), (20, False)])
def test_a_few_patients_of_two_classes_are_said(tmp_path: Path, slips: int, said: bool) -> None:
    again = [("well" if k % 2 == 0 else "ill") + f",P{k},north,9.{k}" for k in range(slips)]
    notes = opened(tmp_path, *USUAL, *again).notes
    assert any(f"{slips} patients have rows of several classes" in note for note in notes) == said


def test_rows_that_repeat_others_are_counted(tmp_path: Path) -> None:
    rows = [f"{'xy'[k % 2]},P{k},{k % 29},{k % 31}" for k in range(40)]
    notes = opened(tmp_path, *rows, *(row.replace("P", "Q") for row in rows[:7]), header="label,patient_id,a,b").notes
    assert any(note.startswith("7 rows are equal to another one") for note in notes)


def picture(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """Ten pictures of each of two classes."""
    for k in range(20):
        picture(tmp_path / "set" / ("ill", "s\u00f6")[k % 2] / f"{k}.png", k)
    yield tmp_path / "set"


def folder(path: Path) -> Source:
    return open_source(Settings(data="", data_path=str(path), test_path="elsewhere"))


@pytest.mark.parametrize(
    "names",
    [("test_set", "train_set"), ("Testdaten", "Trainingsdaten"), ("holdout", "internal"), ("Train", "VALID")],
)
def test_folders_that_seem_to_be_splits_are_no_hospitals_and_no_classes(images: Path, names: tuple[str, ...]) -> None:
    for k, name in enumerate(names):
        picture(images.parent / "all" / name / "ill" / f"{k}.png", k)
    with pytest.raises(DataError, match=rf"'{names[0]}' is no split .*; rename it to '(train|test)'"):
        folder(images.parent / "all")


@pytest.mark.parametrize("name", ["unlabeled", "New Folder", "neuer_ordner", "thumbs", "Backup"])
def test_a_folder_of_what_is_not_sorted_is_no_class(images: Path, name: str) -> None:
    picture(images / name / "0.png", 99)
    with pytest.raises(DataError, match=f"'{name}' says no class; move it out"):
        folder(images)


def test_a_class_folder_is_its_name_as_people_read_it(images: Path) -> None:
    (images / "s\u00f6").rename(images / "so\u0308\u200b")  # as another system writes it
    (images / "task.json").write_text('{"name": "t", "classes": ["s\u00f6", "ill"]}', encoding="utf-8")
    assert np.bincount(folder(images).examples["label"]).tolist() == [10, 10]
    picture(images / "ill\u00a0" / "0.png", 99)
    with pytest.raises(DataError, match="look alike"):
        folder(images)


@pytest.mark.parametrize(
    "name", ["Task.json", "TASK.JSON", "task.json.txt", "Manifest.csv", "manifest.CSV", "manifest.csv.txt"]
)
def test_a_file_with_nearly_the_right_name_is_not_passed_over(images: Path, name: str) -> None:
    (images / name).write_text("{}")
    with pytest.raises(DataError, match=f"{name} is not read"):
        folder(images)


def test_task_json_in_a_split_or_with_a_word_twice_is_refused(images: Path) -> None:
    (images / "task.json").write_text('{"name": "t", "classes": ["a", "b"], "classes": ["b", "a"]}')
    with pytest.raises(DataError, match="states a word twice"):
        folder(images)
    (images / "task.json").rename(images / "ill" / "task.json")
    images.rename(images.parent / "train")
    (images.parent / "train" / "ill" / "task.json").rename(images.parent / "train" / "task.json")
    with pytest.raises(DataError, match=r"task.json is not read: its name must be task.json or manifest.csv, in"):
        folder(images.parent)


def test_a_folder_that_cannot_be_looked_into_is_not_empty(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = os.scandir

    def scandir(place):
        if str(place).endswith("ill"):
            raise PermissionError(13, "Permission denied", str(place))
        return usual(place)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"ill cannot be read \(Permission denied\); permit it"):
        folder(images)


@pytest.mark.parametrize("mask", ["{}_mask.png", "{}_mask_1.png", "{}-seg.png", "{}_GT.png", "{} label.bmp"])
def test_the_mask_of_an_image_is_no_case(images: Path, mask: str) -> None:
    for k in range(0, 20, 2):
        picture(images / "ill" / mask.format(k), 100 + k)
    faults = Faults()
    source = open_source(Settings(data="", data_path=str(images), test_path="elsewhere"), faults)
    assert len(source.examples) == 20 and len(faults.rows) == 10
    assert "seems to be the mask of another one" in faults.causes[0].cause


@pytest.mark.parametrize("name", ["mask.png", "7_mask.png", "0_masked.png"])
def test_an_image_that_is_only_called_so_is_a_case(images: Path, name: str) -> None:
    picture(images / "ill" / name, 100)  # 7.png lies in the other folder
    assert len(folder(images).examples) == 21


@pytest.mark.parametrize("unseen", ["\x07", "\x1a", "\ufe0f", "\u2800", "\u3164", "\u034f"])
def test_signs_that_nobody_sees_make_no_second_name(tmp_path: Path, unseen: str) -> None:
    rows = [f"ill,P{k},north{unseen},{k}" if k % 2 else f"well{unseen},P{k}{unseen},north,{k}" for k in range(20)]
    examples = opened(tmp_path, *rows, "well,P0,north,7").examples
    assert examples.task.classes == ("ill", "well") and {*examples["site"]} == {"north"}
    assert len({*examples["patient"]}) == 20


@pytest.mark.parametrize("spelt", ['="007"', "'007", '"007"', "+7", "7\x07"])
def test_an_id_that_a_spreadsheet_keeps_as_text_is_the_same_patient(tmp_path: Path, spelt: str) -> None:
    quoted = spelt.replace('"', '""')
    examples = opened(tmp_path, *USUAL, "ill,7,north,1", f'well,"{quoted}",north,2').examples
    assert len({*examples["patient"]}) == len(USUAL) + 1


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("Gda\u0144sk", "cp1250"),
        ("\u0141\u00f3d\u017a", "cp1250"),
        ("\u041c\u043e\u0441\u043a\u0432\u0430", "cp1251"),
        ("\u4e1c\u4eac", "gb18030"),
    ],
)
def test_names_in_the_encoding_of_another_country_are_refused_where_they_can_be_told(
    tmp_path: Path, name: str, encoding: str
) -> None:
    rows = [f"{'ill' if k % 2 else 'well'},P{k},{name if k % 4 < 2 else 'north'},{k}" for k in range(24)]
    faults = Faults()
    sites = {*opened(tmp_path, *rows, faults=faults, encoding=encoding).examples["site"]}
    if name.startswith("Gda"):  # Gda\u00f1sk could be a word
        assert sites == {"Gda\u00f1sk", "north"}
    else:
        assert sites == {"north"} and "holds a letter that was lost" in str(faults.causes[0])
    assert {*opened(tmp_path, *rows).examples["site"]} == {name, "north"}
