"""Public chest radiographs as their publishers lay them out: each becomes one table, a row an image."""

import re
from pathlib import Path

import numpy as np

from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.errors import DataError
from medtl_core.formats.joined import FAULT, LEFT_OUT, looked_up, stacked, unclear, with_columns
from medtl_core.formats.layouts import needed
from medtl_core.formats.needs import require
from medtl_core.formats.table import CsvTable, read_csv

#: Where a path of CheXpert begins below the folder that the person unpacked, and whose image it is.
_CHEXPERT = re.compile(r"(?:.*/)?((?:train|valid)/(patient\d+)/.+)")
#: What a finding of the COVID-19 collection is called that nobody has filled in.
_OPEN = ("", "todo", "unknown")


def mimic_cxr(entry: Entry, folder: Path) -> CsvTable:
    """Returns MIMIC-CXR-JPG: the images of its metadata, with the findings of their studies and the official split."""
    images, labels, splits = _tables(entry, folder)
    require(images, [*entry.layout.columns, "study_id"])
    require(labels, ["study_id", *entry.layout.findings])
    require(splits, ["dicom_id", "split"])
    studies, dicoms = images.columns["study_id"], images.columns["dicom_id"]
    columns = {name: looked_up(studies, labels, "study_id", name) for name in entry.layout.findings}
    words = looked_up(dicoms, splits, "dicom_id", "split")
    columns["split"] = ["val" if word == "validate" else word or "train" for word in words]
    asked = zip(unclear(studies, labels, "study_id", needed=False), unclear(dicoms, splits, "dicom_id"), strict=True)
    columns[FAULT] = [one or other for one, other in asked]
    rows = zip(images.columns["subject_id"], studies, dicoms, strict=True)
    columns["dicom_id"] = [f"files/p{one[:2]}/p{one}/s{study}/{image}.jpg" for one, study, image in rows]
    return with_columns(images, columns)


def chest_xray14(entry: Entry, folder: Path) -> CsvTable:
    """Returns NIH ChestX-ray14: its table, with the split of the two official lists."""
    table = read_csv(needed(entry, folder, entry.files[0]), Faults())
    require(table, entry.layout.columns)
    train, test = (_lines(needed(entry, folder, name)) for name in entry.layout.beside)
    images, lists = table.columns[entry.layout.image], " and ".join(entry.layout.beside)
    words = {2: f"stands in both of {lists}", 0: f"stands in neither of {lists}"}
    fault = [words.get((image in train) + (image in test), "") for image in images]
    return with_columns(table, {"split": ["test" if image in test else "train" for image in images], FAULT: fault})


def chexpert(entry: Entry, folder: Path) -> CsvTable:
    """Returns CheXpert: its two tables, of which `valid.csv`, labelled by radiologists, is the test split."""
    tables = _tables(entry, folder)
    for table in tables:
        require(table, [*entry.layout.columns, *entry.layout.findings])
    table = stacked(tables)
    paths = [_CHEXPERT.fullmatch(path) for path in table.columns["Path"]]
    columns = {
        "Path": [path[1] if path else "" for path in paths],
        "patient": [path[2] if path else "" for path in paths],
        "split": np.repeat(["train", "test"], [len(each) for each in tables]).tolist(),
    }
    return with_columns(table, columns)


def covid_cxr(entry: Entry, folder: Path) -> CsvTable:
    """Returns the COVID-19 image collection: X-rays of which somebody has filled in the finding."""
    table = read_csv(needed(entry, folder, entry.files[0]), Faults())
    require(table, [*entry.layout.columns, "modality"])
    covid, other = entry.task.classes[1], entry.task.classes[0]
    words = [re.split(r"[/,]\s*", cell) for cell in table.columns[entry.layout.label]]
    label = [covid if covid in each else other for each in words]
    rows = zip(table.columns["modality"], table.columns[entry.layout.view], strict=True)
    view = [view if kind == "X-ray" else kind for kind, view in rows]
    left = ["whose finding is not known" if each[0].lower() in _OPEN else "" for each in words]
    files = table.columns.get("file", table.columns[entry.layout.image])  # of copies under other names
    more = {entry.layout.label: label, entry.layout.view: view, entry.layout.image: files, LEFT_OUT: left}
    return with_columns(table, more)


def _tables(entry: Entry, folder: Path) -> list[CsvTable]:
    """The set's own table, and those beside it."""
    return [read_csv(needed(entry, folder, name), Faults()) for name in (entry.files[0], *entry.layout.beside)]


def _lines(path: Path) -> set[str]:
    try:
        return {*path.read_text(encoding="utf-8-sig").split()}
    except (OSError, UnicodeError) as error:
        raise DataError(f"{path} is not a readable list of images: {error}") from error
