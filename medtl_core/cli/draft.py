"""`medtl data draft`: files that own data need, as a proposal for a person to read. Nothing is overwritten."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from medtl_core.cli import console
from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.source import Source, open_source
from medtl_core.data.task import MANIFEST, TASK
from medtl_core.errors import DataError
from medtl_core.formats.own import find_modality, modalities
from medtl_core.formats.survey import Survey, look, survey
from medtl_core.store import to_json

if TYPE_CHECKING:
    from medtl_core.formats.table import CsvTable

#: Column of a manifest -> the words that a table may have for it, letters only.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "label": ("label", "diagnosis", "diagnose", "class", "klasse", "target", "outcome", "dx", "finding", "befund"),
    "patient_id": (
        "patientid", "patient", "patientin", "patientennummer", "patientnumber", "patid", "patnr", "pid", "subject",
        "subjectid", "mrn", "fallnummer",
    ),
    "site": ("site", "hospital", "centre", "center", "clinic", "klinik", "krankenhaus", "standort", "institution"),
    "split": ("split", "fold", "subset", "partition"),
    "path": ("path", "filepath", "file", "filename", "image", "imagepath", "imagefile", "bild", "datei", "dateiname"),
    "note": ("note", "notes", "text", "report", "findings", "transcription", "bericht", "arztbrief"),
}  # fmt: skip
#: A column of more different words than this may say who a patient is, and stays out of a draft.
_MOST_WORDS = 12


def draft_command(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the classes.")] = "",
    patient: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the patients' ids.")] = "",
    site: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the hospitals.")] = "",
    split: Annotated[str, typer.Option(metavar="COLUMN", help="Column of train and test.")] = "",
    image: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the image files.")] = "",
    modality: Annotated[str, typer.Option(metavar="WORD", help="What the images show, e.g. dermoscopy.")] = "",
) -> None:
    """Write the task.json, or the manifest.csv, that the data lack.

    Of data that can be read: task.json with classes, modality and views. Of another CSV file, or of images and scans
    in no order: manifest.csv beside them. Columns not given are proposed by their names. No file is overwritten.
    """
    path = Path(folder)
    if not path.exists():
        raise DataError(f"there is no folder or file {folder!r}")
    word = find_modality(modality) if modality else ""
    place, given = path if path.is_dir() else path.parent, {"label": label, "patient_id": patient, "site": site}
    given = {name: column for name, column in {**given, "split": split, "path": image}.items() if column}
    try:
        source = None if given else open_source(Settings(data="", data_path=str(path.absolute())), Faults())
    except DataError as error:
        source, refused = None, error
    if source:
        lines = _task(source, place, word)
    elif (there := look(path)).tables and not (path / MANIFEST).exists():
        lines = _manifest(there, place, given)
    elif (cases := _cases(there, place)) and not given and not (place / MANIFEST).exists():
        lines = _list(cases, place)
    else:
        raise DataError(
            f"nothing to draft: {survey(path)}" if given else f"nothing to draft before this is mended: {refused}"
        )
    console.show(*lines)


def _task(source: Source, place: Path, word: str) -> list[str]:
    """Writes what `task.json` may say of data that can be read."""
    examples, table = source.examples, "table" in source.examples.columns
    word = word or ("table" if table else "other")
    patients = len(np.unique(examples["patient"]))
    stated: dict[str, Any] = {"name": place.name or "task", "classes": list(examples.task.classes), "modality": word}
    if source.has_patients:
        stated["one_patient_a_row"] = patients == len(examples)
        rows = "one patient a row" if patients == len(examples) else f"{patients} patients in {len(examples)} rows"
    else:
        rows = "whose each case is, the data do not say: every case counts as one patient"
    _write(place / TASK, to_json(stated))
    lines = [f"written: {place / TASK}", f"classes: {', '.join(examples.task.classes)}", f"patients: {rows}"]
    lines.append(f"views of {word!r}: {', '.join(modalities()[word])}")
    if word == "other":
        lines.append(f"to do: put in modality what the images show, one of {', '.join(modalities())}")
    return lines


def _manifest(there: Survey, place: Path, given: Mapping[str, str]) -> list[str]:
    """Writes a manifest of a CSV file with other names of columns."""
    from medtl_core.formats.table import read_csv

    if len(there.tables) > 1:
        raise DataError(f"{survey(place)}: medtl data draft FILE")
    table = read_csv(there.tables[0], Faults())
    for column in given.values():
        if column not in table.columns:
            raise DataError(f"{table.name} has no column {column!r}; it has {', '.join(table.columns)}")
    names = {**_proposed(table.columns, given), **given}
    if "label" not in names:
        raise DataError(f"which column of {table.name} is the class? give --label COLUMN: {', '.join(table.columns)}")
    columns = {name: table.columns[column] for name, column in names.items()}
    todo = _gaps(table, columns, names)
    left = [column for column in table.columns if column not in (*names, *names.values())]
    numbers = {column: values for column in left if (values := _numbers(table, column)) is not None}
    words = {column: table.columns[column] for column in left if "path" in names and _few(table.columns[column])}
    if not numbers and not {"path", "note"} & {*names}:
        raise DataError(
            f"{table.name}: none of {', '.join(left) or 'no column'} holds numbers alone; write a unit into the "
            "column's name, describe words in schema.toml, or name the images with --image COLUMN"
        )
    rows = zip(*(columns | words | numbers).values(), strict=True)
    _write(place / MANIFEST, _csv([*columns, *{**words, **numbers}], rows))
    out = [column for column in table.columns if column not in (*names.values(), *numbers, *words)]
    lines = [f"written: {place / MANIFEST}, {len(table)} rows", *table.notes]
    lines += [f"{name}: {column!r}" + ("" if name in given else " (proposed)") for name, column in names.items()]
    lines += [f"measurements: {', '.join(numbers) or 'none'}"] if not {"path", "note"} & {*names} else []
    lines += [f"left out (words, or numbers as ids are): {', '.join(out)}"] if out else []
    lines += [] if "patient_id" in names else ["to do: no column says whose each row is; --patient COLUMN"]
    return [*lines, *todo, f"next: medtl data check {place}"]


def _gaps(table: "CsvTable", columns: Mapping[str, Sequence[str]], names: Mapping[str, str]) -> list[str]:
    """What a person has to fill in before cases with gaps count.

    Raises:
        DataError: no row says what class it is of.
    """
    from medtl_core.data.names import missing

    empty = {name: int(missing(np.asarray(cells, np.str_)).sum()) for name, cells in columns.items() if len(cells)}
    few = (name for name in table.columns if 1 < len({*table.columns[name]}) < min(len(table), _MOST_WORDS))
    words, label = [name for name in few if name not in names.values()], names["label"]
    if empty.get("label") == len(table):
        raise DataError(
            f"column {label!r} of {table.name} is empty in every row, so nothing says what a case shows: fill it in, "
            f"or give --label COLUMN, of few different words: {', '.join(words) or 'there is none'}"
        )
    lines = [f"to do: fill in {name}, empty in {count} of {len(table)} rows" for name, count in empty.items() if count]
    if len({*columns["label"]}) == 1:
        lines.append(f"to do: {label!r} says the same of every row; two classes are needed")
    return lines


def _cases(there: Survey, place: Path) -> list[Path]:
    """Images and scans in no order; DICOM files that lie in a folder below are the slices of one series."""
    series = {file.parent if file.parent != place else file for file in there.dicom}
    return sorted({*there.images, *there.volumes, *there.slides, *series})


def _list(cases: Sequence[Path], place: Path) -> list[str]:
    """Writes a manifest of cases whose labels and patients a person fills in."""
    inner, to_do = [case.relative_to(place) for case in cases], "fill in label, patient_id and site"
    if nested := _nested(inner):
        header, rows = ["path", "label", "site"], [[path.as_posix(), path.parts[1], path.parts[0]] for path in inner]
        to_do = "add patient_id where a patient has several cases"
    else:
        header, rows = ["path", "label", "patient_id", "site"], [[path.as_posix(), "", "", ""] for path in inner]
    _write(place / MANIFEST, _csv(header, rows))
    proposed = ["site: the outer folder (proposed)", "label: the inner folder (proposed)"]
    to_do = f"to do: {to_do}; delete a column that nobody needs"
    lines = [f"written: {place / MANIFEST}, {len(rows)} rows", *(proposed if nested else []), to_do]
    return [*lines, f"next: medtl data check {place}"]


def _nested(cases: Sequence[Path]) -> bool:
    """Whether they lie as HOSPITAL/CLASS/FILE: several hospitals, some of which share a class."""
    pairs = {case.parts[:2] for case in cases if len(case.parts) == 3}
    outer, inner = ({pair[place] for pair in pairs} for place in (0, 1))
    return all(len(case.parts) == 3 for case in cases) and len(outer) > 1 < len(inner) and len(pairs) > len(inner)


def _proposed(columns: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Column of a manifest -> the column of a table that its name says."""
    letters = {re.sub("[^a-z]", "", column.lower()): column for column in columns if column not in given.values()}
    near = {name: next((letters[word] for word in words if word in letters), "") for name, words in _WORDS.items()}
    return {name: column for name, column in near.items() if column}


def _numbers(table: "CsvTable", column: str) -> list[str] | None:
    """A column's cells with decimal points; None where it holds anything else, or whole numbers as ids are."""
    before = len(table.faults.rows)
    values = table.numbers(column)
    ids = len(values) > _MOST_WORDS and len(np.unique(values)) == len(values) and np.all(values == np.round(values))
    if ids or len(table.faults.rows) > before or np.isnan(values).all():
        return None
    return ["" if np.isnan(value) else f"{value:.15g}" for value in values.tolist()]


def _few(cells: Sequence[str]) -> bool:
    return len({*cells}) <= _MOST_WORDS


def _csv(header: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except FileExistsError:
        raise DataError(f"{path} is there already and is not overwritten; move it away for a new draft") from None
