"""Class folders and archives as they lie on a disk: nothing is missed in silence."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.source import Source, open_source
from medtl_core.errors import DataError

BOTH = '{"name": "t", "classes": ["sick", "fit"]}'


def opened(path: Path, faults: Faults | None = None) -> Source:
    return open_source(Settings(data="", data_path=str(path), test_path="elsewhere"), faults)


def picture(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), value, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve pictures of each of two classes."""
    for number in range(12):
        for name in ("fit", "sick"):
            picture(tmp_path / "images" / name / f"{number}.png", number)
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["Test", "TEST", "valid", "Train", "dev", "tst", "trn", "Validate", "External Test"])
def test_a_folder_near_a_splits_name_is_refused(folder: Path, name: str) -> None:
    (folder / name / "sick").mkdir(parents=True)
    with pytest.raises(DataError, match=f"'{name}' is no split"):
        opened(folder)


@pytest.mark.parametrize("name", ["extra", "sick", "external"])
def test_a_folder_beside_train_is_refused(folder: Path, name: str) -> None:
    picture(folder.parent / "train" / "sick" / "0.png")
    folder.rename(folder.parent / name)
    with pytest.raises(DataError, match=f"'{name}' is no split"):
        opened(folder.parent)


@pytest.mark.parametrize("links", [1, 7])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ""])
def test_links_to_nothing_are_counted_and_named(folder: Path, links: int, suffix: str) -> None:
    for number in range(links):
        (folder / "sick" / f"gone-{number}{suffix}").symlink_to("/not/mounted")
    faults = Faults()
    assert len(opened(folder, faults).examples) == 24
    (fault,) = faults.causes
    assert fault.cause == "the file is a link to nothing" and len(fault.places) == links
    assert fault.places[0] == f"sick/gone-0{suffix}"


def test_links_that_lead_in_circles_end(folder: Path) -> None:
    (folder / "sick" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "fit" / "here").symlink_to(folder / "fit", target_is_directory=True)
    (fault,) = opened(folder).faults
    assert fault.places == ("fit/here", "sick/up") and "or deeper" in fault.cause


def test_links_to_something_are_read(folder: Path) -> None:
    (folder / "sick" / "linked.png").symlink_to(folder / "fit" / "0.png")
    (folder / "well").symlink_to(folder / "fit", target_is_directory=True)
    assert len(opened(folder).examples) == 37


@pytest.mark.parametrize("name", ["well", "fit2"])
def test_a_class_that_is_a_link_to_nothing_is_refused(folder: Path, name: str) -> None:
    (folder / name).symlink_to("/not/mounted", target_is_directory=True)
    with pytest.raises(DataError, match=f"{name} is a link to nothing"):
        opened(folder)


@pytest.mark.parametrize("name", ["scan.dcm", "scan.nii.gz", "a.gif", "b.jp2", "IM0001", "c.heic"])
def test_files_of_another_format_are_named(folder: Path, name: str) -> None:
    (folder / "sick" / name).touch()
    (fault,) = opened(folder).faults
    assert fault.cause.startswith("no image (.jpg") and fault.places == (f"sick/{name}",)


@pytest.mark.parametrize("name", ["notes.txt", "Thumbs.db", ".DS_Store", "labels.csv", "__MACOSX/a.png"])
def test_what_lies_beside_images_is_no_case(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / "sick" / Path(name).name).touch() if "/" not in name else (folder / name).touch()
    source = opened(folder)
    assert len(source.examples) == 24 and source.faults == () and len(source.examples.task.classes) == 2


def test_folders_of_texts_are_told_how_texts_are_named(tmp_path: Path) -> None:
    for name in ("fit", "sick"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.txt").write_text("The lungs are clear.")
    with pytest.raises(DataError, match=r"without an image \(\.txt\); texts are named by the column note_path"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["sick/patient-1/0.png", "0.png", "fit/a/b/c.png"])
def test_a_picture_too_deep_or_in_no_class_is_named(folder: Path, name: str) -> None:
    picture(folder / name)
    (fault,) = opened(folder).faults
    assert "in no folder of a class, or deeper" in fault.cause and fault.places == (name,)


@pytest.mark.parametrize(
    ("stated", "first"), [(BOTH, "sick"), ('{"name": "t", "classes": ["fit", "sick", "dead"]}', "fit")]
)
def test_task_json_orders_the_classes_of_folders(folder: Path, stated: str, first: str) -> None:
    (folder / "task.json").write_text(stated)
    examples = opened(folder).examples
    assert examples.task.classes[0] == first
    assert {examples.task.classes[label] for label in examples["label"]} == {"fit", "sick"}
    assert all(
        examples.task.classes[label] in path for label, path in zip(examples["label"], examples["path"], strict=True)
    )


@pytest.mark.parametrize("classes", ['["ill", "fit"]', '["Sick", "fit"]', '["x", "y"]'])
def test_classes_that_do_not_fit_task_json_are_refused(folder: Path, classes: str) -> None:
    (folder / "task.json").write_text(f'{{"name": "t", "classes": {classes}}}')
    with pytest.raises(DataError, match="in no folder of a class"):
        opened(folder)


@pytest.mark.parametrize("name", [b"st\xe9nose", b"\xfcber", b"a\xff"])
def test_a_folder_whose_name_is_not_utf_8_is_refused_by_name(folder: Path, name: bytes) -> None:
    (folder / "sick").rename(folder / os.fsdecode(name))
    with pytest.raises(DataError, match="not UTF-8; rename it") as caught:
        opened(folder)
    str(caught.value).encode()


def test_a_file_whose_name_is_not_utf_8_is_a_patient_that_can_be_written_down(folder: Path) -> None:
    (folder / "sick" / "0.png").rename(folder / "sick" / os.fsdecode(b"\xe9.png"))
    assert "\\xe9.png" in "".join(opened(folder).examples["patient"]).encode().decode()


def archive(path: Path, labels: list[int]) -> Path:
    count = len(labels)
    held = {f"{split}_images": np.zeros((count, 4, 4), np.uint8) for split in ("train", "val", "test")}
    held |= {f"{split}_labels": np.asarray(labels)[:, None] for split in ("train", "val", "test")}
    np.savez(path, **held)
    return path


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([0, 255], ("0", "255")), ([1, 2], ("1", "2")), ([0, 1, 3], ("0", "1", "3")), ([0, 1], ("0", "1"))],
)
def test_classes_of_an_archive_are_the_numbers_that_occur(
    tmp_path: Path, labels: list[int], classes: tuple[str, ...]
) -> None:
    source = opened(archive(tmp_path / "own.npz", labels))
    assert source.examples.task.classes == classes
    assert any("gaps" in note for note in source.notes) == (classes != ("0", "1"))
    assert source.examples["label"].max() == len(classes) - 1


def test_task_json_names_the_classes_of_an_archive(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text(BOTH)
    assert opened(archive(tmp_path / "own.npz", [0, 1])).examples.task.classes == ("sick", "fit")
    with pytest.raises(DataError, match="no class of task"):
        opened(archive(tmp_path / "own.npz", [0, 2]))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("stated", ["ham10000_sites"])
def test_a_known_set_refuses_other_classes_beside_it(tmp_path: Path, split: str, stated: str) -> None:
    picture(tmp_path / "images" / "a.jpg")
    (tmp_path / "metadata.csv").write_text(f"image_id,lesion_id,dx,site,split\na,l,nv,s,{split}\n")
    assert opened(tmp_path).entry.name == stated
    (tmp_path / "task.json").write_text(BOTH)
    with pytest.raises(DataError, match=f"other classes than '{stated}'"):
        opened(tmp_path)


@pytest.mark.parametrize("name", ["@eaDir", "$RECYCLE.BIN", "lost+found", "System Volume Information", "DICOMDIR"])
def test_what_systems_keep_beside_a_persons_files_is_no_class(folder: Path, name: str) -> None:
    picture(folder / name / "0.png", 77)
    picture(folder / "fit" / name / "0.png", 78)
    faults = Faults()
    source = opened(folder, faults)
    assert (source.examples.task.classes, len(source.examples), faults.causes) == (("fit", "sick"), 24, ())


@pytest.mark.parametrize("name", ["fold1", "New folder (2)", "split_2", "Kopie", "augmented"])
def test_a_numbered_folder_that_says_no_class_is_refused(folder: Path, name: str) -> None:
    picture(folder / name / "0.png", 77)
    with pytest.raises(DataError, match="says no class"):
        opened(folder)


def test_one_folder_around_all_is_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"holds one folder, which holds the others: name .*images itself"):
        opened(folder.parent)


@pytest.mark.parametrize(("there", "named"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_file_is_found_however_its_letters_are_written(tmp_path: Path, there: Any, named: Any) -> None:
    rows = ["path,label,patient_id"]
    for number in range(8):
        picture(tmp_path / unicodedata.normalize(there, f"s\u00f6/{number}.png"), number)
        rows.append(unicodedata.normalize(named, f"s\u00f6/{number}.png") + f",{'xy'[number % 2]},{number}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows), encoding="utf-8")
    assert all(Path(path).is_file() for path in opened(tmp_path).examples["path"])
