"""The known sets: files in the layout that the catalog states."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import Entry
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names
from medtl_core.data.readers import Facts, Reader, known_reader
from medtl_core.errors import DataError
from medtl_core.formats.arrays import MedMnist, read_arrays
from medtl_core.formats.joined import FAULT, LEFT_OUT, kept, left_out, places, with_columns
from medtl_core.formats.layouts import recognise
from medtl_core.formats.lesions import ham10000, isic2019
from medtl_core.formats.manifest import image_files
from medtl_core.formats.needs import encode, require, splits
from medtl_core.formats.numbered import numbered
from medtl_core.formats.radiographs import chest_xray14, chexpert, covid_cxr, mimic_cxr
from medtl_core.formats.records import read_records
from medtl_core.formats.report_labels import finding_matrix, one_label, settled, unlabelled
from medtl_core.formats.schema_file import shipped
from medtl_core.formats.table import CsvTable, read_csv
from medtl_core.values import MULTI_LABEL, Array, Examples, Task, any_finding


class KnownSet(Reader):
    """A set of the catalog, recognised by its own files.

    Attributes:
        entry: the set that is meant; None = the one that is there.
    """

    name = "known"

    def __init__(self, entry: Entry | None = None) -> None:
        self.entry = entry

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        return recognise(path) is not None

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; the task is the catalog's."""
        entry = self.entry or recognise(path)
        if entry is None:
            raise DataError(f"{path} is none of the known sets")
        layout, notes = entry.layout, (entry.note,) if entry.note else ()
        if layout.kind in ("notes", "signals"):
            return known_reader(entry).read(path, task, faults)
        folder = path if path.is_dir() else path.parent
        if layout.kind == "medmnist":
            examples, _ = MedMnist().read(file := _largest(entry, path), entry.task, faults)
            return examples, Facts(entry, (*notes, f"Read from {file.name}."), has_patients=False)
        if layout.kind == "arrays":
            return read_arrays(folder / entry.files[0], entry, faults), Facts(entry, notes)
        if layout.kind == "records":
            examples, facts = read_records(shipped(entry.name), folder / entry.files[0], entry.task, faults)
            return examples, replace(facts, entry=entry, notes=(*notes, *facts.notes))
        table = KINDS[layout.kind](entry, folder)
        examples, left = listed(entry, folder, table, faults)
        patients = bool(layout.patient) or "patient" in table.columns
        return examples, Facts(entry, (*notes, *table.notes, *left), patients)


def _plain(entry: Entry, folder: Path) -> CsvTable:
    """The one table of a set that has no more."""
    table = read_csv(folder / entry.files[0], Faults())
    require(table, entry.layout.columns)
    return table


#: Kind of a layout -> what makes one table of it, a row an image, with the columns of the layout; those it does not
#: name stand under label, patient, site, split and image.
KINDS: Mapping[str, Callable[[Entry, Path], CsvTable]] = {
    "images": _plain,
    "volumes": _plain,
    "mimic-cxr": mimic_cxr,
    "chest-xray14": chest_xray14,
    "chexpert": chexpert,
    "covid-cxr": covid_cxr,
    "isic2019": isic2019,
    "ham10000": ham10000,
    "numbered": numbered,
}


def listed(entry: Entry, folder: Path, whole: CsvTable, faults: Faults) -> tuple[Examples, list[str]]:
    """Returns the cases of a table that names image files, or holds none, and in sentences which are left out.

    Guarantee:
        Unit: patient. Whether an image is left out follows from its patient's own rows and files.
    """
    layout = entry.layout
    name = {what: getattr(layout, what) or what for what in ("label", "patient", "site", "split", "image")}
    images = name["image"] in whole.columns
    if images:
        whole = with_columns(whole, {name["image"]: places(whole, name["image"], folder, layout.pattern)})
    reasons = left_out(whole, name, folder, layout)
    matrix = finding_matrix(whole, layout) if layout.findings else None
    if matrix:
        reasons.append(unlabelled(matrix, layout))
    rows, left = _read_rows(reasons, whole.whole)
    table = kept(whole, rows, faults)
    if matrix:
        matrix.fault(table, rows)
        told = _told(matrix.values[rows], entry)
    else:
        told = {"label": encode(table, name["label"], entry.task, layout.labels)[0]}
    said = np.asarray([*table.columns.get(FAULT, ())], np.str_)
    for what in filter(None, np.unique(said).tolist()):
        table.fault(name["image"], said == what, what, "fetch the files of the set again")
    columns: dict[str, Array] = {
        **told,
        "patient": table.names(name["patient"], table.row_names().tolist()),
        "site": hospital_names(table.names(name["site"], entry.name.partition(":")[0])),
        "split": splits(table, name["split"]),
        **({"path": image_files(table, name["image"], folder)} if images else {}),
    }
    read = {*layout.columns, *layout.findings, *name.values(), *columns, LEFT_OUT, FAULT}
    return Examples({**columns, **table.others(read)}, entry.task), left


def _told(values: NDArray[np.int8], entry: Entry) -> dict[str, Array]:
    """The columns of `Examples` that say what images show, from the matrix of findings, which is kept."""
    if entry.task.kind == MULTI_LABEL:
        labels = settled(values, entry.layout)
        return {"labels": labels, "label": any_finding(labels), "findings": values}
    return {"label": one_label(values, entry.layout), "findings": values}


def _read_rows(reasons: Sequence[tuple[Array, str]], whole: Array) -> tuple[Array, list[str]]:
    """Which rows are read (bool [n]), and a sentence for every reason that leaves out some; broken rows are faults."""
    rows, left = np.ones(len(whole), dtype=bool), []
    for those, why in reasons:
        count = int((those & rows & whole).sum())
        rows &= ~those | ~whole
        left += [f"{count} image(s) {why} are left out."] if count else []
    return rows, left


def _largest(entry: Entry, path: Path) -> Path:
    if path.is_file():
        return path
    for name in reversed(entry.files):
        if (path / name).is_file():
            return path / name
    raise DataError(f"{path} holds none of {', '.join(entry.files)}")


READERS, known = (KnownSet(),), KnownSet
