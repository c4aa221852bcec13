"""Tables and manifests as people meet them: what is one name, what is missing, what is left out, what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError
from medtl_core.features.spec import feature_spec


def opened(path: Path, text: str, task: str = "", faults: Faults | None = None) -> Source:
    (path / "manifest.csv").write_text(text, encoding="utf-8")
    if task:
        (path / "task.json").write_text(task, encoding="utf-8")
    return open_source(Settings(data="", data_path=str(path), backbone="table", test_path="elsewhere"), faults)


def rows(*changed: str, count: int = 30) -> str:
    """A table of label, patient_id, site and a, the last rows of which are as given."""
    usual = [f"{'xy'[number % 2]},{100 + number},north,{number}" for number in range(count)]
    return "\n".join(["label,patient_id,site,a", *usual, *changed]) + "\n"


@pytest.mark.parametrize(
    ("header", "order"),
    [("a,b,c", "0,1,2"), ("c,a,b", "2,0,1"), ("b,c,a", "1,2,0"), ("\ufeffc, b ,a", "2,1,0")],
)
def test_columns_are_taken_by_name(tmp_path: Path, header: str, order: str) -> None:
    source = opened(tmp_path, f"{header},label,patient_id\n" + "".join(f"{order},{k},{k}\n" for k in "pq"))
    assert source.columns == ("a", "b", "c") and source.examples["table"].tolist() == [[0, 1, 2]] * 2


def test_other_columns_make_other_features_but_as_version_2_made_them() -> None:
    table = Settings(backbone="table")
    prints = [feature_spec(table, (), names).fingerprint for names in (("a", "b"), ("a", "c"), ("b", "a"), ("a",))]
    assert len({*prints}) == 4
    old = [feature_spec(table.replace(features="rich@2"), (), names).fingerprint for names in (("a", "b"), ("a", "c"))]
    assert old[0] == old[1] not in prints


@pytest.mark.parametrize(
    "word", ["#N/A", "<NA>", "NaT", "-nan", "None", "#REF!", "#DIV/0!", "N/A", "null", " ", "-", "\u200b", "\u00a0"]
)
def test_a_word_for_missing_is_no_class_no_patient_and_no_number(tmp_path: Path, word: str) -> None:
    faults = Faults()
    source = opened(tmp_path, rows(f"{word},1,north,1", f"x,{word},north,1", f"x,2,north,{word}"), faults=faults)
    assert source.examples.task.classes == ("x", "y") and faults.rows.tolist() == [30, 31]
    assert np.isnan(source.examples["table"][-1, 0])


@pytest.mark.parametrize(
    ("place", "cause"), [("", "in no layout that medtl reads"), ("manifest.csv", "no ordinary file")]
)
def test_a_pipe_in_place_of_a_table_is_refused_and_not_waited_for(tmp_path: Path, place: str, cause: str) -> None:
    os.mkfifo(tmp_path / "manifest.csv")
    with pytest.raises(DataError, match=cause):
        open_source(Settings(data="", data_path=str(tmp_path / place), backbone="table"))


def test_a_class_that_the_task_states_may_be_called_none(tmp_path: Path) -> None:
    source = opened(tmp_path, rows("none,1,north,1"), '{"name": "t", "classes": ["none", "x", "y"]}')
    assert source.examples["label"].tolist()[-1] == 0 and source.faults == ()


@pytest.mark.parametrize("label", ["X", "\uff58", "x\u200b", "x\u00a0", " x "])
def test_classes_that_look_alike_are_refused_and_what_nobody_sees_does_not_count(tmp_path: Path, label: str) -> None:
    if label.casefold().strip() in ("x", "\uff58") and label.strip() != "x":
        with pytest.raises(DataError, match="look alike; spell them the same"):
            opened(tmp_path, rows(f"{label},1,north,1"))
    else:
        assert opened(tmp_path, rows(f"{label},1,north,1")).examples.task.classes == ("x", "y")


@pytest.mark.parametrize(
    ("classes", "patients"),
    [
        (("0", "1.0", "1"), 0),
        (("a", "e\u0301", "\u00e9"), 2),
        (("01", "1", "2"), 0),
        (("-1", "+1", "1"), 0),
        (("1", "10", "2"), 3),
        (("Stra\u00dfe", "STRASSE", "b"), 0),
    ],
)
def test_numbers_forms_and_cases_of_a_class_are_one(tmp_path: Path, classes: tuple[str, ...], patients: int) -> None:
    text = rows(*(f"{name},{place},north,1" for place, name in enumerate(classes)), count=0)
    if patients:  # the composed form is the same name
        assert len(opened(tmp_path, text).examples.task.classes) == patients
    else:
        with pytest.raises(DataError, match="look alike"):
            opened(tmp_path, text)


@pytest.mark.parametrize("spelt", ["007", "7.0", "7", "7,00", "7.", " 7 ", "7\u200b"])
def test_ids_equal_as_numbers_are_one_patient(tmp_path: Path, spelt: str) -> None:
    cell = f'"{spelt}"'
    patients = opened(tmp_path, rows("x,7,north,1", f"y,{cell},north,2", "x,p1,north,3", "x,P1,north,3")).examples
    assert len(np.unique(patients["patient"])) == 32
    assert patients["patient"][0] == "100"  # others keep their own form


@pytest.mark.parametrize("site", ["North", "NORTH", "n\u00f6rth", "nor th"])
def test_hospitals_that_look_alike_are_refused(tmp_path: Path, site: str) -> None:
    if site.lower() == "north":
        with pytest.raises(DataError, match=r"hospitals .* look alike"):
            opened(tmp_path, rows(f"x,1,{site},1"))
    else:
        assert len(np.unique(opened(tmp_path, rows(f"x,1,{site},1")).examples["site"])) == 2


@pytest.mark.parametrize(
    ("column", "meant"),
    [("hospital", "site"), ("Centre", "site"), ("institution", "site"), ("Site", "site"), ("sites", "site"),
     ("fold", "split"), ("Split", "split"), ("subject_id", "patient_id"), ("PID", "patient_id"),
     ("hospital_name", "site"), ("Center ID", "site"), ("Klinikum", "site"), ("h\u00f4pital", "site"),
     ("is_test", "split"),
     ("dataset_split", "split"), ("train_test", "split"), ("pat_id", "patient_id"), ("Fall-Nr", "patient_id"),
     ("Patientennummer", "patient_id"), ("subject id", "patient_id"), ("participantNo", "patient_id")],
)  # fmt: skip
def test_a_column_that_is_near_enough_to_be_meant_is_refused_by_name(tmp_path: Path, column: str, meant: str) -> None:
    with pytest.raises(DataError, match=f"column '{column}' looks like '{meant}'; rename it"):
        opened(tmp_path, f"label,a,{column}\nx,1,p\ny,2,q\n")


def test_a_manifest_without_patients_counts_every_case_as_one(tmp_path: Path) -> None:
    source = opened(tmp_path, "label,a\nx,1\ny,2\nx,1\n")
    assert len(np.unique(source.examples["patient"])) == 3 and not source.has_patients
    assert "every row counts as one patient" in source.notes[0]


@pytest.mark.parametrize("blank", ["\n", "\n\n", ",,,\n", "  \n", '"",,,\n'])
def test_rows_are_numbered_as_an_editor_numbers_lines(tmp_path: Path, blank: str) -> None:
    faults = Faults()
    text = rows(count=3) + blank + 'z,1,north,1\n"x\n",2,north,2\nx,3,north,two\n'
    opened(tmp_path, text, '{"name": "t", "classes": ["x", "y"]}', faults)
    first = 5 + blank.count("\n")
    assert {fault.places for fault in faults.causes} == {(f"row {first}",), (f"row {first + 3}",)}


@pytest.mark.parametrize("column", ["label", "patient_id", "site", "note"])
def test_one_long_cell_costs_its_own_room_and_at_most_its_row(tmp_path: Path, column: str) -> None:
    cells = {"label": "x", "patient_id": "1", "site": "north", "note": "-", column: "w" * 300_000}
    (tmp_path / "a.png").touch()
    usual = "".join(f"a{number}.png,x,{number},north,-\n" for number in range(20))
    for number in range(20):
        (tmp_path / f"a{number}.png").touch()
    stated = '{"name": "t", "classes": ["x", "y"]}'
    (tmp_path / "task.json").write_text(stated)
    (tmp_path / "manifest.csv").write_text(
        "path,label,patient_id,site,note\n" + usual + f"a.png,{','.join(cells.values())}\n"
    )
    source = open_source(Settings(data="", data_path=str(tmp_path)))
    assert len(source.examples) == (21 if column == "note" else 20)
    assert max(values.nbytes for values in source.examples.columns.values()) < 200_000


@pytest.mark.parametrize("second", ["a.png", "./a.png", "../{}/a.png"])
def test_an_image_has_one_label(tmp_path: Path, second: str) -> None:
    for number in range(20):
        (tmp_path / f"a{number}.png").touch()
    (tmp_path / "a.png").touch()
    usual = "".join(f"a{number}.png,{'xy'[number % 2]},{number}\n" for number in range(20))
    text = usual + f"a.png,x,1\n{second.format(tmp_path.name)},y,1\n"
    (tmp_path / "manifest.csv").write_text("path,label,patient_id\n" + text)
    (fault,) = open_source(Settings(data="", data_path=str(tmp_path))).faults
    assert fault.cause == "an image is listed with several labels" and fault.places == ("row 22", "row 23")


@pytest.mark.parametrize("text", ["label,a\nx,1\nx,2\n", "label,a\nx,1\nx,2\nnan,3\n", "label,a\n1,1\n1,2\n"])
def test_one_class_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError):
        opened(tmp_path, text)
    faults = Faults()
    opened(tmp_path, text, faults=faults)
    assert "all cases are of one class" in str(faults.causes[-1])


@pytest.mark.parametrize("column", ["tumor_site", "subject_age", "fold_change", "dataset", "test", "setting", "case"])
def test_a_column_of_another_meaning_is_none_that_is_meant(tmp_path: Path, column: str) -> None:
    source = opened(tmp_path, f"label,a,{column}\nx,1,2\ny,2,2\nx,3,1\ny,1,1\n")
    assert source.columns == tuple(sorted(("a", column)))


def test_a_table_may_be_as_wide_as_a_genome(tmp_path: Path) -> None:
    header = ",".join(["label", *(f"gene-{number}" for number in range(30_000))])
    cells = (",".join(["xy"[row % 2], *["0.5", "1.5", "3"] * 10_000]) for row in range(4))
    with pytest.raises(DataError, match=r"distinct; see columns 2, 30002"):
        opened(tmp_path, f"{header},gene-0\n" + "".join(f"{row},1\n" for row in cells))


def test_a_hospital_that_does_not_train_is_told(tmp_path: Path) -> None:
    lines = [f"{'xy'[k % 2]},{k},{('north', 'south')[k // 10]},{k % 7},{('train', 'test')[k // 10]}" for k in range(20)]
    notes = opened(tmp_path, "\n".join(["label,patient_id,site,a,split", *lines]) + "\n").notes
    assert "All cases of 'south' are test cases: it judges and does not train." in notes
