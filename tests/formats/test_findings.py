"""Manifests of multi-label tasks: a column a finding, or findings in one cell; what is wrong costs that case."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError
from tests.formats.public import medmnist
from tests.house import ROOT

CLASSES = ("Edema", "Pleural effusion", "Nodule")


def folder(place: Path, header: str, rows: Sequence[str], **stated: object) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    task = {"name": "chest", "classes": CLASSES, "kind": "multi-label", **stated}
    (place / "task.json").write_text(json.dumps(task), encoding="utf-8")
    (place / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return place


def table(place: Path, header: str, rows: Sequence[str], **stated: object) -> tuple[Source, Faults]:
    faults = Faults()
    data = folder(
        place, f"{header},patient_id,a,b", [f"{row},p{at},{at},{at * at}" for at, row in enumerate(rows)], **stated
    )
    return open_source(Settings(data="", data_path=str(data), backbone="table"), faults), faults


def test_a_column_a_finding_says_what_is_there_what_is_not_and_what_nobody_knows(tmp_path: Path) -> None:
    rows = ["1,0,", "0.0,1.0,nan", ",,1", "0,0,0"]
    source, faults = table(tmp_path, "Edema,Pleural effusion,Nodule", rows)
    assert source.examples["labels"].tolist() == [[1, 0, -1], [0, 1, -1], [-1, -1, 1], [0, 0, 0]]
    assert source.examples["label"].tolist() == [1, 1, 1, 0]
    assert source.columns == ("a", "b") and not faults.causes
    assert source.examples["labels"].dtype == np.int8


def test_findings_in_one_cell_say_that_all_others_are_not_there(tmp_path: Path) -> None:
    rows = ["Edema", "Nodule|Edema", "No Finding", "Pleural effusion | Nodule"]
    source, faults = table(tmp_path, "label", rows)
    assert source.examples["labels"].tolist() == [[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert not faults.causes


@pytest.mark.parametrize(
    "header, rows, cause",
    [
        ("Edema,Pleural effusion,Nodule", ["1,0,0", "0,1,2", "0,0,1"], "'Nodule' holds no label"),
        ("Edema,Pleural effusion,Nodule", ["1,0,0", "yes,1,0", "0,0,1"], "'Edema' holds no label"),
        ("label", ["Edema", "Edema|Fracture", "Nodule"], "names what is no finding"),
        ("label", ["Edema", "No Finding|Edema", "Nodule"], "names what is no finding"),
        ("label", ["Edema", "", "Nodule"], "is empty"),
    ],
)
def test_a_wrong_cell_costs_its_case_and_is_not_quoted(
    tmp_path: Path, header: str, rows: list[str], cause: str
) -> None:
    source, faults = table(tmp_path, header, rows)
    (fault,) = faults.causes
    assert cause in fault.counted and len(fault.places) == 1
    assert "Fracture" not in str(fault) and "yes" not in str(fault)
    assert source.examples["patient"].tolist() == ["p0", "p2"]


def test_an_image_has_its_findings_and_no_column_may_be_missing(tmp_path: Path) -> None:
    for at in range(2):
        tmp_path.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), 100 * at, np.uint8)).save(tmp_path / f"{at}.png")
    data = folder(tmp_path, "path,Edema,Pleural effusion,Nodule,note", ["0.png,1,0,0,x", "1.png,0,,1,y"])
    examples = open_source(Settings(data="", data_path=str(data))).examples
    assert examples["labels"].tolist() == [[1, 0, 0], [0, -1, 1]] and "note" in examples.columns
    folder(tmp_path, "path,Edema,Nodule", ["0.png,1,0", "1.png,0,1"])
    with pytest.raises(DataError, match="'Pleural effusion' is missing"):
        open_source(Settings(data="", data_path=str(data)))
    folder(tmp_path, "path,Edema,Pleural effusion,Nodule,label", ["0.png,1,0,0,Edema", "1.png,0,1,1,Nodule"])
    with pytest.raises(DataError, match="leave one of them out"):
        open_source(Settings(data="", data_path=str(data)))


def test_one_image_with_other_findings_in_another_row_is_at_fault(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "0.png")
    data, faults = folder(tmp_path, "path,label", ["0.png,Edema", "0.png,Edema|Nodule"]), Faults()
    with pytest.raises(DataError):
        open_source(Settings(data="", data_path=str(data)))
    with pytest.raises(DataError, match="no case"):
        open_source(Settings(data="", data_path=str(data)), faults)
    assert any("several labels" in str(fault) for fault in faults.causes)


def test_layouts_that_tell_one_class_a_case_refuse_the_task(tmp_path: Path) -> None:
    for name in CLASSES:
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / name / "0.png")
    stated = {"name": "chest", "classes": CLASSES, "kind": "multi-label"}
    (tmp_path / "task.json").write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(DataError, match="multi-label"):
        open_source(Settings(data="", data_path=str(tmp_path)))
    (tmp_path / "task.json").write_text(json.dumps({**stated, "kind": "several"}), encoding="utf-8")
    with pytest.raises(DataError, match="kind must be classes or multi-label"):
        open_source(Settings(data="", data_path=str(tmp_path)))


def test_the_examples_of_the_documentation_are_read(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    section = page.partition("\n## Several findings a case\n")[2].partition("\n## ")[0]
    task, columns, cells = re.findall(r"```\n(.*?)```", section, re.DOTALL)
    (tmp_path / "images").mkdir()
    for at in (1, 2):
        Image.fromarray(np.full((8, 8), 90 * at, np.uint8)).save(tmp_path / "images" / f"000{at}.png")
    (tmp_path / "task.json").write_text(task, encoding="utf-8")
    for text, expected in ((columns, [[1, 0, -1], [0, 0, 0]]), (cells, [[1, 0, 1], [0, 0, 0]])):
        (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
        source = open_source(Settings(data="", data_path=str(tmp_path)))
        assert source.examples["labels"].tolist() == expected
        assert source.entry.modality == "chest X-ray"


def _several(path: Path, labels: np.ndarray) -> Path:
    """A MedMNIST file whose twelve images have these labels."""
    with np.load(medmnist(path, (9, 9))) as held:
        arrays = dict(held)
    for split, place in (("train", slice(6)), ("val", slice(6, 8)), ("test", slice(8, 12))):
        arrays[f"{split}_labels"] = labels[place]
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def test_chestmnist_has_fourteen_findings_and_own_files_of_its_kind_need_their_names(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (12, 14), np.uint8)
    source = open_source(Settings(data="", data_path=str(_several(tmp_path / "chestmnist.npz", labels))))
    assert source.entry.name == "chestmnist" and source.examples["labels"].tolist() == labels.tolist()
    assert source.examples["label"].tolist() == labels.any(axis=1).astype(int).tolist()
    (tmp_path / "own").mkdir()
    own = _several(tmp_path / "own" / "ours.npz", labels[:, :3])
    with pytest.raises(DataError, match="several labels"):
        open_source(Settings(data="", data_path=str(own)))
    stated = {"name": "x", "classes": CLASSES, "kind": "multi-label"}
    (tmp_path / "own" / "task.json").write_text(json.dumps(stated))
    assert open_source(Settings(data="", data_path=str(own))).examples["labels"].tolist() == labels[:, :3].tolist()
    _several(own, labels[:, :2])
    with pytest.raises(DataError, match="3 findings"):
        open_source(Settings(data="", data_path=str(own)))


def test_what_gives_a_case_one_class_refuses_a_multi_label_task(tmp_path: Path) -> None:
    stated = {"name": "x", "classes": ("ill", "well"), "kind": "multi-label"}
    for name in stated["classes"]:
        (tmp_path / "folders" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "folders" / name / "a.png")
    (tmp_path / "records").mkdir()
    for place in ("folders", "records"):
        (tmp_path / place / "task.json").write_text(json.dumps(stated))
    schema = 'name = "x"\nclasses = ["ill", "well"]\nfile = "a.csv"\n[roles]\nlabel = "d"\n'
    schema += '[column.age]\ntype = "number"\nrange = [0, 120]\n'
    (tmp_path / "records" / "a.csv").write_text("d,age\nill,1\nwell,2\n")
    (tmp_path / "records" / "schema.toml").write_text(schema)
    for place in ("folders", "records"):
        with pytest.raises(DataError, match="a column for each finding"):
            open_source(Settings(data="", data_path=str(tmp_path / place), backbone="table"))
    (tmp_path / "records" / "schema.toml").write_text('kind = "multi-label"\n' + schema)
    with pytest.raises(DataError, match="one class a row"):
        open_source(Settings(data="", data_path=str(tmp_path / "records"), backbone="table"))
