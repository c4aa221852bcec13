"""New cases as people name them: files, folders and tables, without a label."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.images import SUFFIXES
from medtl_core.data.synthetic.built_in import BUILT_IN
from medtl_core.data.synthetic.phantom import DEFAULT_SIZE
from medtl_core.errors import DataError
from medtl_core.features.encoders import CaseEncoder
from medtl_core.formats.decoder import decoder, kind_of
from medtl_core.formats.dicom_series import BESIDE
from medtl_core.formats.folders import is_hidden, refuse_closed
from medtl_core.formats.measurements import read_measurements
from medtl_core.values import Array, Examples, Task

#: Nothing is asked about it.
_TASK = Task("new cases", ("unknown",))
#: Files that lie beside images and are none.
_BESIDE = (".csv", ".json", ".toml", ".txt", ".md", ".html", ".xml")


@dataclass(frozen=True)
class NewCases:
    """NewCases to be answered.

    Attributes:
        names: of each, as it is told to the person who asked.
        examples: the same without labels: a `path` or a `table` column.
        faults: of cases that are not among them, by their names.
        left: files that are no cases, and were left.
    """

    names: tuple[str, ...]
    examples: Examples
    faults: tuple[tuple[str, str], ...] = ()
    left: tuple[str, ...] = ()

    @property
    def paths(self) -> Sequence[str]:
        """The files of the images; "" where there are none."""
        return [str(path) for path in self.examples.columns.get("path", [""] * len(self.names))]


def image_cases(places: Sequence[Path | str]) -> NewCases:
    """Returns image files and scans as cases; of a folder all that lie in it and below.

    A folder that holds DICOM files and nothing else, of fewer series than files, is one case, the slices of one series.

    Raises:
        DataError: a place is not there, or there is no case.
    """
    found: list[tuple[str, str]] = []
    left: list[str] = []
    for place in map(Path, places):
        if not place.exists():
            raise DataError(f"{place} does not exist")
        if not place.is_dir() or _is_series(place):
            found.append((str(place), str(place)))
            continue
        for file in _files_below(place):
            # A link to nothing is a case without its file, a pipe is none
            is_file = file.is_file() or not file.exists() or (file.is_dir() and not file.is_symlink())
            if is_file and (file.suffix.lower() in SUFFIXES or kind_of(file)):
                found.append((str(file), str(file)))
            else:
                left.append(str(file))
    if not found:
        links = f"; {left[0]} is left, as links to folders are" if left and Path(left[0]).is_dir() else ""
        raise DataError(
            f"no image in {', '.join(map(str, places))}{links}; name scans, or files that end in {', '.join(SUFFIXES)}"
        )
    names, paths = zip(*found, strict=True)
    return NewCases(names, unlabelled({"path": np.asarray(paths, np.str_)}), left=tuple(left))


def drawn_cases(name: str, size: int, column: str = "image", count: int = 8) -> NewCases:
    """Returns a few cases of a built-in set that no simulation trains on, named by what they are drawn as.

    Args:
        name: of the set.
        size: of its pictures.
        column: that the head reads.
        count: how many.

    Raises:
        DataError: the set holds no such column.
    """
    drawn = BUILT_IN[name](Settings(image_size=max(size, DEFAULT_SIZE), data=name))
    if column not in drawn.columns:
        what, files = ("pictures", "image files") if column == "image" else (column, f"files with a {column}")
        raise DataError(f"the built-in set {name!r} holds no {what}, which the head reads; name {files}")
    rows = np.flatnonzero(drawn["split"] == "test")
    rows = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    names = tuple(f"{name} {row} (drawn as {drawn.task.classes[drawn['label'][row]]})" for row in rows.tolist())
    return NewCases(names, unlabelled({column: drawn[column][rows]}))


def encoded_cases(encoder: CaseEncoder, places: Sequence[Path | str], columns: Sequence[str]) -> NewCases:
    """Returns what an encoder reads in files and folders, such as notes, as cases.

    Raises:
        DataError: a place is not there, or holds no case.
    """
    found = [*encoder.opened([*map(Path, places)], columns)]
    faults = tuple((name, fault) for name, _, fault in found if fault)
    cases = [(name, content) for name, content, fault in found if not fault]
    column = np.empty(len(cases), object)
    column[:] = [content for _, content in cases]
    known = {name for name, _, _ in found}
    below = (file for place in map(Path, places) if place.is_dir() for file in _files_below(place))
    left = tuple(str(file) for file in below if str(file) not in known and not file.with_suffix(".hea").exists())
    return NewCases(tuple(name for name, _ in cases), unlabelled({encoder.column: column}), faults, left)


def table_cases(path: Path, columns: Sequence[str]) -> NewCases:
    """Returns the rows of a table as cases, as `formats.measurements` reads them.

    Args:
        path: of a CSV file, or a folder with `schema.toml`.
        columns: names that the head reads, in its order.

    Raises:
        DataError: the file cannot be read, or lacks a column.
    """
    faults = Faults()
    table, values, read = read_measurements(path, columns, faults)
    place, rows = faults.place, faults.usable(len(table))
    wrong = {name: f"{fault.cause}; {fault.remedy}" for fault in faults.causes for name in fault.places}
    names = tuple(place(int(row)) for row in rows)
    left = tuple(f"column {name!r}" for name in table.columns if name not in read)
    return NewCases(names, unlabelled({"table": values[rows]}), tuple(wrong.items()), left)


def unlabelled(columns: dict[str, Array]) -> Examples:
    """Returns cases of which only these columns are known."""
    count = len(next(iter(columns.values())))
    words = {name: np.full(count, "new") for name in ("patient", "site", "split")}
    return Examples({"label": np.zeros(count, np.int64), **words, **columns}, _TASK)


def _files_below(folder: Path) -> Iterator[Path]:
    """Files in and below a folder, and folders below it that hold the slices of one series."""
    for place, folders, names in os.walk(folder, onerror=refuse_closed):
        if Path(place) != folder and not folders and _is_series(Path(place)):
            yield Path(place)
            continue
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        links = [name for name in folders if Path(place, name).is_symlink()]  # not entered: they may go round
        for name in sorted([*names, *links]):
            if not name.startswith(".") and Path(name).suffix.lower() not in _BESIDE:
                yield Path(place, name)


def _is_series(folder: Path) -> bool:
    """Whether a folder holds slices: DICOM files alone, of fewer series than files."""
    files = sorted(file for file in folder.iterdir() if not BESIDE.search(file.name))
    if len(files) < 2 or not all(file.is_file() and kind_of(file) == "dicom" for file in files):
        return False
    heads = decoder().ask_each("ids", files)
    return len({"" if isinstance(head, DataError) else head[0]["SeriesInstanceUID"] for head in heads}) < len(files)
