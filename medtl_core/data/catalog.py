"""The known data sets: what they hold, how their files are laid out, under which licence they come.

Their facts stand in `catalog.toml`; the reader of known sets only follows them. Nothing is ever downloaded: a set
is recognised where it lies.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from medtl_core.errors import DataError
from medtl_core.values import Task


@dataclass(frozen=True)
class Layout:
    """Where a set's files keep what medtl reads; an empty column name means the set has none.

    Attributes:
        kind: "images" (a CSV naming image files), "volumes" (a CSV naming NIfTI files or folders of DICOM series),
            "records" (a CSV and a schema that comes with medtl), "arrays" (one npz with images, labels, patient,
            is_test), "medmnist" (one npz of MedMNIST), "signals" (one npz, whose arrays are named below), "drawn"
            (signals that are computed), "notes" (a CSV whose column `image` holds texts), "drawn notes", "built-in" or
            "own" (not in the catalog), or one of those in `formats.known`, where a set needs more than one table.
        label, patient, site, split, image, view: CSV columns.
        labels: CSV value -> class.
        pattern: image file under the folder, with {} for the image column's value; * stands for any folder, and |
            separates the places that are looked into.
        number: pattern of a file's name whose groups say whose it is.
        beside: files that must be there besides those that recognise the set.
        without: files that are not there; else it is another set.
        shown: values of the view column that are read.
        findings: what an image may show at once, by the names of the set.
        uncertain: finding -> "ones", "zeros" or "ignore", where a report is not certain; "ignore" unless stated.
        finding: the one that is the task, if it is one.
        partial: whether copies with some of the patients are usual.
        apart: whether training cases of somebody in the official test are left out.
        scale: what the numbers of signals are divided by.
        leads: of built-in signals, as `Facts.columns` has them.
    """

    kind: str
    label: str = ""
    patient: str = ""
    site: str = ""
    split: str = ""
    image: str = ""
    view: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    pattern: str = "{}"
    number: str = ""
    beside: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    uncertain: Mapping[str, str] = field(default_factory=dict)
    finding: str = ""
    partial: bool = False
    apart: bool = False
    scale: float = 1.0
    leads: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        """The CSV columns that the set has."""
        return [name for name in (self.label, self.patient, self.site, self.split, self.image, self.view) if name]


@dataclass(frozen=True)
class Entry:
    """What is known about one data set, by the name that `settings.data` takes.

    Attributes:
        files: marker files that recognise the folder (any one of them for MedMNIST, else all); * stands for anything,
            and a CSV file may be packed (.csv.gz).
        partition: the split over hospitals that suits the set.
        views: label-preserving views.
        synthetic: True if no patient stands behind it.
        note: caveat shown with results: how patients are known, what leaks.
        hospitals: which hospitals the data tell apart, in words.
        obtain: how a person comes by the set, in words.
        same: other names of the pictures, by which a backbone may say that it learnt from them.
    """

    name: str
    title: str
    modality: str
    task: Task
    files: tuple[str, ...]
    layout: Layout
    partition: str
    views: tuple[str, ...]
    licence: str
    citation: str
    url: str
    synthetic: bool = False
    note: str = ""
    hospitals: str = "one"
    obtain: str = ""
    same: tuple[str, ...] = ()


@cache
def catalog() -> Mapping[str, Entry]:
    """Returns every known set by name, in the order of `catalog.toml`, which is read once."""
    return read_entries((files("medtl_core.data") / "catalog.toml").read_text(encoding="utf-8"))


def read_entries(text: str) -> Mapping[str, Entry]:
    """Returns the entries of a catalog in TOML.

    A set's table holds the attributes of its `Entry`, and instead of the task its name (that of the set if left out),
    its classes (the layout's findings if left out) and its kind ("classes" if left out). What a set leaves out is taken
    from its `family`, whose title and files may say {name}.

    Raises:
        DataError: it is not TOML, or an entry lacks a fact or states one that no entry has.
    """
    try:
        facts = tomllib.loads(text)
        families = facts.get("family", {})
        return {
            name: _entry(name, **families.get(row.pop("family", ""), {}) | row) for name, row in facts["set"].items()
        }
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"the catalog of data sets is damaged ({error}); install medtl again") from error


def _entry(name: str, **facts: Any) -> Entry:
    facts["layout"] = Layout(**_tuples(facts["layout"]))
    classes = facts.pop("classes", facts["layout"].findings)
    facts["task"] = Task(facts.pop("task", name), tuple(classes), facts.pop("kind", "classes"))
    facts["title"] = facts["title"].replace("{name}", name)
    facts["files"] = [file.replace("{name}", name) for file in facts["files"]]
    return Entry(name, **_tuples(facts))


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
