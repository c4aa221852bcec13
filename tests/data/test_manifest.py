import re
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import content_key, decode
from medtl_core.data.readers import Facts, reader_of
from medtl_core.data.source import open_source
from medtl_core.errors import DataError
from medtl_core.values import Examples, Task

HEADER = "path,label,patient_id,site,split\n"


def manifest(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder


def read(path: Path, task: Task | None = None, word: str = "") -> tuple[Examples, Facts, list[str]]:
    """All cases, what is known beside, and what is wrong with some of them."""
    faults = Faults()
    examples, facts = reader_of(path, word).read(path, task, faults)
    return examples, facts, [str(fault) for fault in faults.causes if "no file that is there" not in fault.cause]


def test_reads_columns_labels_and_free_columns(tmp_path: Path) -> None:
    rows = "b.png, sick ,p2,north,test,40\n\na.png,fit,p1,south,train,\n"
    examples, _, faults = read(manifest(tmp_path, "\ufeff" + HEADER.strip() + ",age\n" + rows))
    assert examples.task.classes == ("fit", "sick") and examples["label"].tolist() == [1, 0]
    assert examples["path"].tolist() == [str(tmp_path / "b.png"), str(tmp_path / "a.png")]
    assert examples["patient"].tolist() == ["p2", "p1"] and examples["site"].tolist() == ["north", "south"]
    assert examples["split"].tolist() == ["test", "train"] and examples["age"].tolist() == ["40", ""]
    assert faults == []


def test_site_and_split_may_be_absent_and_the_task_orders_the_classes(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,label,patient_id\na.png,b,1\n") / "manifest.csv"
    examples, _, _ = read(path, Task("t", ("c", "b")))
    assert examples["label"].tolist() == [1]
    assert examples["site"].tolist() == ["site"] and examples["split"].tolist() == ["train"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("path,label,patient\na,b,c\n", "'patient' looks like 'patient_id'"),
        ("file_path,label,patient_id\na,b,c\n", "'path' is missing.*did you mean 'file_path'"),
        ("path,diagnosis,patient_id\na,b,c\n", "'label' is missing.*expected path, label, patient_id"),
        ("path,label,patient_id,Site\na,b,c,d\n", "'Site' looks like 'site'"),
        ("path,label,patient_id,splits\na,b,c,train\n", "'splits' looks like 'split'"),
        ("path:label:patient_id\na:b:c\n", "first line names one column"),
        ("path,label,patient_id,label\na,b,c,b\n", "distinct; see columns 2, 4"),
        ("path,label,,patient_id\na,b,,c\n", "must be filled"),
        ("path,label,patient_id,patient\na,b,c,d\n", "'patient' is reserved"),
        (HEADER + 'a,"x,1,s,train\n', "not a readable CSV"),
    ],
)
def test_bad_manifests_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(manifest(tmp_path, text), word="images")


GOOD = "a,x,1,s,train\n"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,b,c,d\n", "longer or shorter than the header in row 3"),
        ("a,b,c,s,test,f\n", "longer or shorter than the header in row 3"),
        ("b,NaN,2,s,train\nc,,3,s,test\n", "'label' is empty or NaN in row 3, row 4"),
        ("a,x,,s,train\n", "'patient_id' is empty or NaN in row 3"),
        ("a,x,1,,train\n", "'site' is empty"),
        (",x,1,s,train\n", "'path' is empty"),
        ("a,x,1,s,dev\n", "'split' holds no split in row 3; .* train, val, test"),
    ],
)
def test_a_bad_row_costs_that_row_and_is_named(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "task.json").write_text('{"name": "t", "classes": ["x", "y"]}')
    (fault,) = read(manifest(tmp_path, HEADER + GOOD + rows), Task("t", ("x", "y")))[2]
    assert re.search(message, fault)
    with pytest.raises(DataError, match="cannot be used, more than 10%"):
        opened(tmp_path)
    assert len(opened(manifest(tmp_path, HEADER + GOOD * 40 + rows))) == 40


def opened(path: Path) -> Examples:
    return open_source(Settings(data="", data_path=str(path), test_path="elsewhere")).examples


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read(tmp_path, word="images")
    (tmp_path / "manifest.csv").write_bytes(b"path,label\n\0\xff\xfe")
    with pytest.raises(DataError, match="line 2 holds binary data"):
        read(tmp_path, word="images")


def test_unknown_labels_name_the_first_five_lines_and_the_classes(tmp_path: Path) -> None:
    rows = "".join(f"{number}.png,{'nevuss' if number else 'nevus'},{number}\n" for number in range(8))
    (fault,) = read(manifest(tmp_path, "path,label,patient_id\n" + rows), Task("skin", ("melanoma", "nevus")))[2]
    assert "row 3, row 4, row 5, row 6, row 7 and 2 more; expected one of melanoma, nevus" in fault


NOTE = "Mrs Smith, 54, cough"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (HEADER + f'\na.png,"{NOTE}",1,s,train\n', 3),
        (HEADER + f'"a\nb.png",x,1,s,train\nc.png,"{NOTE}",1,s,train\n', 4),  # a row may run over several lines
        (HEADER + f'a.png,x,1,s,"{NOTE}"\n', 2),
        (HEADER + f'a.png,x,1,s,train,"{NOTE}"\n', 2),
        (f'a.png,"{NOTE}",1\nb.png,x,2\n', 0),  # no header at all
        (f'"{NOTE}","{NOTE}"\nb.png,x\n', 0),
        (f"{NOTE.replace(',', ';')}\nb.png\n", 0),
    ],
)
def test_no_message_quotes_a_patients_cell(tmp_path: Path, text: str, line: int) -> None:
    try:
        said = "; ".join(read(manifest(tmp_path, text), Task("t", ("x", "y")), "images")[2])
    except DataError as error:
        said = str(error)
    assert "Smith" not in said and "cough" not in said
    assert f"row {line}" in said if line else "manifest.csv" in said


def test_a_note_in_the_place_of_a_file_name_is_not_quoted(tmp_path: Path) -> None:
    folder = manifest(tmp_path, HEADER + f'"{NOTE}",x,1,s,train\n')
    (folder / "task.json").write_text('{"name": "t", "classes": ["x", "y"]}')
    cases = read(folder)[0]
    with pytest.raises(DataError, match=r"'path' names no file that is there in row 2") as refused:
        opened(folder)
    assert "Smith" not in str(refused.value)
    for act in (lambda: decode(cases["path"][0]), lambda: content_key(cases["path"][0])):
        with pytest.raises(DataError, match=r"ends in \.jpg") as caught:
            act()
        assert "Smith" not in str(caught.value)


def test_measurements_stand_beside_images_where_they_are_asked_for(tmp_path: Path) -> None:
    text = "path,label,patient_id,age,bp\na.png,x,1,40,?\nb.png,y,2,50,1e2\n"
    for name in "ab":
        (tmp_path / f"{name}.png").touch()
    settings = Settings(data="", data_path=str(manifest(tmp_path, text)), backbone="lite0+table", test_path="elsewhere")
    source = open_source(settings)
    np.testing.assert_array_equal(source.examples["table"], [[40, np.nan], [50, 100]])
    assert source.columns == ("age", "bp") and source.examples["path"][0].endswith("a.png")
    assert "table" not in open_source(settings.replace(backbone="lite0")).examples.columns
    (fault,) = read(manifest(tmp_path, text.replace("50", "old")), word="images+table")[2]
    assert "'age' holds no number in row 3" in fault


def test_numbers_keep_gaps_as_nan(tmp_path: Path) -> None:
    examples, facts, _ = read(manifest(tmp_path, "label,patient_id,age,bp\nx,1,40,?\ny,2,,1e2\n"))
    assert facts.columns == ("age", "bp")
    np.testing.assert_array_equal(examples["table"], [[40, np.nan], [np.nan, 100]])
    for cell, cause in (
        ("old", "no number"),
        ("inf", "no number"),
        ("1e39", "a number beyond"),
        ("-1e14", "a number beyond"),
    ):
        (fault,) = read(manifest(tmp_path, f"label,patient_id,age\nx,1,40\ny,2,{cell}\n"))[2]
        assert f"'age' holds {cause}" in fault and "in row 3" in fault
    with pytest.raises(DataError, match="no column of measurements"):
        read(manifest(tmp_path, "label,patient_id\nx,1\n"), word="table")


@pytest.mark.parametrize(
    "stated",
    [
        "{", "[]", '{"name": "t"}', '{"name": "t", "classes": ["a", "b"], "colour": 1}',
        '{"name": "t", "classes": ["a", "a"]}', '{"name": "t", "classes": "ab"}', '{"name": 3, "classes": ["a", "b"]}',
        '{"name": "t", "classes": ["a", "b"], "views": ["flip"]}',
    ],
)  # fmt: skip
def test_bad_task_files_are_refused(tmp_path: Path, stated: str) -> None:
    (tmp_path / "task.json").write_text(stated)
    with pytest.raises(DataError, match=r"task\.json"):
        opened(manifest(tmp_path, "path,label,patient_id\na,a,1\n"))
