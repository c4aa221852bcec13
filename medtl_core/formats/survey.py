"""What lies in a place that no reader knows, and the layout that is nearest to it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from medtl_core.data.faults import Faults
from medtl_core.data.images import SUFFIXES
from medtl_core.errors import DataError
from medtl_core.formats.folders import is_hidden
from medtl_core.formats.table import count_rows, read_csv, read_header
from medtl_core.slides.files import is_slide

#: Files looked at; a larger place is described by its first ones.
_MOST = 20_000
#: DICOM headers that are read to tell series apart.
_HEADERS = 500
#: Suffix of a file that holds others, or a table -> what a person does first.
_OPENED = {
    **dict.fromkeys((".xlsx", ".xls", ".xlsm", ".ods"), "save a sheet as CSV"),
    ".txt": "rename a table to end in .csv or .tsv, or name each text in the column note_path of manifest.csv",
    **dict.fromkeys((".dat", ".data", ".tab", ".asc"), "rename a table to end in .csv or .tsv"),
    **dict.fromkeys((".zip", ".gz", ".tgz", ".tar", ".7z", ".rar"), "unpack it"),
    **dict.fromkeys(
        (".json", ".ndjson", ".jsonl", ".xml", ".hl7", ".sav", ".dta", ".sas7bdat", ".xpt", ".por", ".parquet",
         ".feather", ".pkl", ".rds", ".rdata", ".mat", ".sqlite", ".db", ".mdb", ".accdb", ".numbers"),
        "export a table as CSV UTF-8, a row a case, where it was made",
    ),
    **dict.fromkeys((".pdf", ".docx", ".doc", ".rtf"), "save each text as plain text (.txt), named in manifest.csv"),
    **dict.fromkeys((".gif", ".heic", ".heif", ".avif", ".jp2", ".svg"), "convert pictures to PNG"),
    **dict.fromkeys((".edf", ".bdf", ".scp"), "convert signals to CSV, npz or WFDB"),
    **dict.fromkeys((".hdr", ".img", ".mgz", ".nrrd", ".mha", ".mhd"), "convert a volume to NIfTI (.nii.gz)"),
}  # fmt: skip
_SORTED = "sort them into a folder a class, or let `medtl data draft` list them in manifest.csv"


@dataclass(frozen=True)
class Survey:
    """The files of a place, by what they are; hidden ones do not count."""

    tables: Sequence[Path]
    images: Sequence[Path]
    dicom: Sequence[Path]
    volumes: Sequence[Path]
    slides: Sequence[Path]
    arrays: Sequence[Path]
    others: Sequence[Path]


def look(path: Path) -> Survey:
    """Returns what lies in a folder and below, or the one file."""
    kinds: dict[str, list[Path]] = {
        name: [] for name in ("tables", "images", "dicom", "volumes", "slides", "arrays", "others")
    }
    for number, file in enumerate(_files(path)):
        if number == _MOST:
            break
        kinds[_kind(file)].append(file)
    return Survey(**kinds)


def survey(path: Path) -> str:
    """Returns what lies there and what brings it nearest to a layout, in words that quote no cell."""
    there = look(path)
    nearest = {
        f"DICOM file|{_series(there.dicom)}": "sort them as CLASS/SERIES/FILE, or name each by its path, "
        "sop_instance_uid or accession_number in manifest.csv; `medtl data draft` lists them",
        "NIfTI volume|": _SORTED,
        "slide|": _SORTED,
        "image|": _SORTED,
        "array file|": "MedMNIST's layout is read, with arrays train_images, train_labels and so on",
    }
    words = []
    for files, (what, hint) in zip(
        (there.dicom, there.volumes, there.slides, there.images, there.arrays), nearest.items(), strict=True
    ):
        name, _, more = what.partition("|")
        words += [f"{_count(len(files), name)}{more and ', '}{more}: {hint}"] if files else []
    words += [_tables(there.tables, alone=path.is_file())] if there.tables else []
    if there.others and not words:
        names = sorted({file.suffix or "no suffix" for file in there.others})[:5]
        hints = {_OPENED.get(name.lower(), "") for name in names} - {""}
        what = f"{_count(len(there.others), 'file')} of no kind that is read ({', '.join(names)})"
        words.append("; ".join([what, *sorted(hints)]))
    return "; ".join(words) or "no file"


def cases_of(there: Survey, place: Path) -> list[Path]:
    """Returns images and scans in order; DICOM files that lie in a folder below are the slices of one series."""
    series = {file.parent if file.parent != place else file for file in there.dicom}
    return sorted({*there.images, *there.volumes, *there.slides, *series})


def _tables(files: Sequence[Path], *, alone: bool) -> str:
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        return (
            f"{len(files)} CSV files ({names}): name the one that is meant, or, where each is a hospital's, let `medtl "
            "data draft` make one manifest.csv of them"
        )
    columns, rows, name = read_header(files[0]), count_rows(files[0]), files[0].name
    if not rows:
        try:
            read_csv(files[0], Faults())
        except DataError as error:
            return str(error)
    hints = ["a table of records may have schema.toml"]
    if "label" not in columns:
        hints.insert(0, "rename its column of classes to 'label', or let `medtl data draft` make manifest.csv of it")
    elif not alone:
        hints.insert(0, f"name {name} itself as the data, or rename it to manifest.csv")
    return f"one CSV of {_count(len(columns), 'column')} and {_count(rows, 'row')} ({name}): {'; '.join(hints)}"


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    for place, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(place) / name for name in sorted(names) if not name.startswith("."))


def _kind(file: Path) -> str:
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return "tables"
    if is_slide(file):
        return "slides"
    if suffix in SUFFIXES:
        return "images"
    if file.name.lower().endswith((".nii", ".nii.gz")):
        return "volumes"
    if suffix == ".npz":
        return "arrays"
    return "dicom" if suffix in (".dcm", ".dicom") or _is_dicom(file) else "others"


def _is_dicom(file: Path) -> bool:
    try:
        with file.open("rb") as handle:
            handle.seek(128)
            return handle.read(4) == b"DICM"
    except OSError:
        return False


def _series(files: Sequence[Path]) -> str:
    """How many series there are, where the headers can be read, else how many folders: they say about as much."""
    folders = f"in {_count(len({file.parent for file in files}), 'folder')}"
    if len(files) > _HEADERS or not find_spec("pydicom"):
        return folders
    from pydicom import dcmread

    try:
        heads = [dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"]) for file in files]
    except Exception:  # whatever a damaged header does to the library
        return folders
    return f"{len({str(head.get('SeriesInstanceUID')) for head in heads})} series"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
