"""The known data sets: what they hold, how their files are laid out, under which licence they come.

Their facts stand in `catalog.toml`; the reader of known sets only follows them. Nothing is ever downloaded: a set
is recognised where it lies.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from medtl_core.errors import DataError
from medtl_core.values import Task


@dataclass(frozen=True)
class Layout:
    """Where a set's files keep what medtl reads; an empty column name means the set has none.

    Attributes:
        kind: "images" (a CSV naming image files), "volumes" (a CSV naming NIfTI files or folders of DICOM series),
            "records" (a CSV and a schema that comes with medtl), "arrays" (one npz with images, labels, patient,
            is_test), "medmnist" (one npz of MedMNIST), "built-in" or "own" (not in the catalog).
        label, patient, site, split, image: CSV columns.
        labels: CSV value -> class.
        pattern: image file under the folder, with {} for the image column's value.
    """

    kind: str
    label: str = ""
    patient: str = ""
    site: str = ""
    split: str = ""
    image: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    pattern: str = "{}"

    @property
    def columns(self) -> list[str]:
        """The CSV columns that the set has."""
        return [name for name in (self.label, self.patient, self.site, self.split, self.image) if name]


@dataclass(frozen=True)
class Entry:
    """What is known about one data set, by the name that `settings.data` takes.

    Attributes:
        files: marker files that recognise the folder (any one of them for MedMNIST, else all).
        partition: the split over hospitals that suits the set.
        views: label-preserving views.
        synthetic: True if no patient stands behind it.
        note: caveat shown with results.
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


@cache
def catalog() -> Mapping[str, Entry]:
    """Returns every known set by name, in the order of `catalog.toml`, which is read once."""
    return read_entries((files("medtl_core.data") / "catalog.toml").read_text(encoding="utf-8"))


def read_entries(text: str) -> Mapping[str, Entry]:
    """Returns the entries of a catalog in TOML.

    A set's table holds the attributes of its `Entry`, and instead of the task its name (that of the set if left out)
    and its classes. What a set leaves out is taken from its `family`, whose title and files may say {name}.

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
    facts["layout"] = Layout(**facts["layout"])
    facts["task"] = Task(facts.pop("task", name), tuple(facts.pop("classes")))
    facts["title"] = facts["title"].replace("{name}", name)
    facts["files"] = [file.replace("{name}", name) for file in facts["files"]]
    return Entry(name, **_tuples(facts))


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}


def matches(entry: Entry, path: Path) -> bool:
    """Says whether `path` (a folder, or one of the entry's own files) holds the data set."""
    if path.is_file():
        return path.name in entry.files and _header_fits(entry, path.parent)
    if not entry.files:
        return False
    present = [(path / name).exists() for name in entry.files]
    return any(present) if entry.layout.kind == "medmnist" else all(present) and _header_fits(entry, path)


def recognise(path: Path) -> Entry | None:
    """Returns the catalog's entry for a folder or file, or None if it is not one of the known sets.

    Raises:
        DataError: the folder holds several known sets.
    """
    present = [entry for entry in catalog().values() if matches(entry, path)]
    if len(present) > 1:
        names = ", ".join(entry.name for entry in present)
        raise DataError(f"{path} holds several known sets ({names}): set data to one of these names")
    return present[0] if present else None


def _header_fits(entry: Entry, folder: Path) -> bool:
    """Tells sets apart whose CSV files share a name; an unreadable header fits nothing."""
    from medtl_core.formats.table import read_header

    tables = [name for name in entry.files if name.endswith(".csv")]
    return not tables or {*entry.layout.columns} <= {*read_header(folder / tables[0])}
