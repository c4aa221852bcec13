"""`medtl data draft`: files that own data need, as a proposal for a person to read. Nothing is overwritten."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from medtl_core.cli import console
from medtl_core.cli.draft_columns import POINTS
from medtl_core.cli.draft_table import Wish, draft_table
from medtl_core.cli.plan import check_name
from medtl_core.config import Settings
from medtl_core.data.faults import Faults
from medtl_core.data.source import Source, open_source
from medtl_core.data.task import MANIFEST, TASK
from medtl_core.errors import DataError
from medtl_core.formats.alike import CODE
from medtl_core.formats.folders import are_patients, split_of
from medtl_core.formats.own import find_modality, modalities
from medtl_core.formats.scans import NUMBERS
from medtl_core.formats.survey import Survey, cases_of, look, survey
from medtl_core.store import to_json
from medtl_core.values import MULTI_LABEL


def draft_command(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
    label: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the classes; of findings A,B,C.")] = "",
    patient: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the patients' ids.")] = "",
    site: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the hospitals.")] = "",
    split: Annotated[str, typer.Option(metavar="COLUMN", help="Column of train and test.")] = "",
    image: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the image files.")] = "",
    points: Annotated[str, typer.Option(metavar="WORD", help="What points in numbers are: thousands, decimals.")] = "",
    own_ids: Annotated[bool, typer.Option("--own-ids", help="Every CSV file numbers its own patients.")] = False,
    modality: Annotated[str, typer.Option(metavar="WORD", help="What the images show, e.g. dermoscopy.")] = "",
) -> None:
    """Write the task.json, or the manifest.csv, that the data lack.

    Of data that can be read: task.json with classes, modality and views. Of another CSV file, or of images and scans
    in no order: manifest.csv beside them. Columns not given are proposed by their names. No file is overwritten.
    """
    path = Path(folder)
    check_name(folder)
    if not path.exists():
        raise DataError(f"there is no folder or file {folder!r}")
    word = find_modality(modality) if modality else ""
    place, given = path if path.is_dir() else path.parent, {"label": label, "patient_id": patient, "site": site}
    given = {name: column for name, column in {**given, "split": split, "path": image}.items() if column}
    if points and points not in POINTS:
        raise DataError(f"--points {points!r} is neither {' nor '.join(POINTS)}")
    there, refused = look(path), "all cases are of one class"
    try:
        source = None if given else open_source(Settings(data="", data_path=str(path.absolute())), Faults())
        codes = [str(fault) for fault in source.faults if CODE[0] in fault.cause] if source else []
        if codes:  # task.json would make it a class
            raise DataError(*codes)
    except DataError as error:
        source, refused = None, str(error)
    fresh, cases = not (place / MANIFEST).exists() and path.name != MANIFEST, cases_of(there, place)
    if source and source.entry.files and source.entry.name != "own":
        lines = [
            f"{path} is the known set {source.entry.name}: its classes and views are known, and no draft is needed"
        ]
    elif source and len(source.examples.task.classes) > 1:
        lines = _task(source, place, word)
        if fresh and there.tables and "path" in source.examples.columns:
            lines.append(
                f"note: {there.tables[0].name} is not read; medtl data draft {there.tables[0]} makes {MANIFEST} of it"
            )
    elif there.tables and fresh:
        lines = _manifest(there, place, Wish(given, points, own_ids))
    elif cases and not given and fresh:
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
    stated: dict[str, Any] = {"name": place.name or "task", "classes": list(examples.task.classes)}
    stated |= {"modality": word} if word != "other" else {}
    if source.has_patients:
        stated["one_patient_a_row"] = patients == len(examples)
        rows = "one patient a row" if patients == len(examples) else f"{patients} patients in {len(examples)} rows"
    else:
        rows = "whose each case is, the data do not say: every case counts as one patient"
    _write(place / TASK, to_json(stated))
    lines = [f"written: {place / TASK}", f"classes: {', '.join(examples.task.classes)}", f"patients: {rows}"]
    if word == "other":
        return [*lines, f'to do: add "modality": what the images show, one of {", ".join(modalities())}']
    return [*lines, f"views of {word!r}: {', '.join(modalities()[word])}"]


def _manifest(there: Survey, place: Path, wish: Wish) -> list[str]:
    """Writes a manifest of CSV files with other names of columns, and task.json where its classes must be stated."""
    draft = draft_table(there, place, wish)
    rows = [*zip(*draft.columns.values(), strict=True)]
    _write(place / MANIFEST, _csv([*draft.columns], rows))
    lines = [f"written: {place / MANIFEST}, {len(rows)} rows", *draft.lines]
    if draft.classes and not (place / TASK).exists():
        kind = {"kind": MULTI_LABEL} if draft.findings else {}
        modality = {} if {"path", "note", *NUMBERS} & {*draft.columns} else {"modality": "table"}
        _write(place / TASK, to_json({"name": place.name or "task", "classes": [*draft.classes], **kind, **modality}))
        lines.insert(1, f"written: {place / TASK}")
    return [*lines, f"next: medtl data check {place}"]


def _list(cases: Sequence[Path], place: Path) -> list[str]:
    """Writes a manifest of cases whose labels and patients a person fills in."""
    inner = [case.relative_to(place).as_posix() for case in cases]
    for name in inner:
        check_name(name)
    columns, to_do = {"path": inner, **_folders(inner)}, "add patient_id where a patient has several cases; "
    shown = {name: [*dict.fromkeys(cells)] for name, cells in columns.items() if name != "path"}
    lines = [
        f"{name}: the folders {', '.join(words[:3])}{' ...' * (len(words) > 3)} (proposed)"
        for name, words in shown.items()
    ]
    if "label" not in columns:
        blank = dict.fromkeys(("path", "label", "patient_id", "site"), [""] * len(inner))
        columns = {**blank, **columns}
        to_do = f"fill in {'label and site' if lines else 'label, patient_id and site'}; "
    used = {name.split("/")[0] for name in inner}
    folders = (folder.name for folder in sorted(place.iterdir()) if folder.is_dir() and folder.name[0] not in "._")
    lines += [f"to do: the folder {name!r} holds no case" for name in folders if name not in used]
    _write(place / MANIFEST, _csv([*columns], zip(*columns.values(), strict=True)))
    to_do = f"to do: {'' if {*shown} >= {'label', 'patient_id'} else to_do}delete a column that nobody needs"
    return [f"written: {place / MANIFEST}, {len(inner)} rows", *lines, to_do, f"next: medtl data check {place}"]


def _folders(cases: Sequence[str]) -> dict[str, list[str]]:
    """Label, site, patient and split, where cases lie as HOSPITAL/CLASS/FILE: several hospitals that share a class.

    One more folder, inside or outside, may say the split. Folders called as patients are say the patient.
    """
    levels = (
        [*zip(*(case.split("/")[:-1] for case in cases), strict=True)]
        if len({c.count("/") for c in cases}) == 1
        else []
    )
    told: dict[str, list[str]] = {}
    for what, says in (("split", lambda names: all(map(split_of, names))), ("patient_id", are_patients)):
        level = next((level for level in levels if says({*level})), ())
        if level and (what == "patient_id" or len(levels) > 2):
            levels.remove(level)
            told[what] = [split_of(name) if what == "split" else name for name in level]
    if len(levels) != 2:  # beside patients a folder may be a class, a visit or a hospital
        return {name: cells for name, cells in told.items() if name == "patient_id"}
    outer, inner = levels
    pairs = {*zip(outer, inner, strict=True)}
    shared = len({*outer}) > 1 < len({*inner}) < len(pairs) and not any(map(split_of, {*outer, *inner}))
    return {"label": [*inner], "site": [*outer], **told} if shared else {}


def _csv(header: Sequence[str], rows: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    try:
        handle = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise DataError(f"{path} is there already and is not overwritten; move it away for a new draft") from None
    try:
        with handle:
            handle.write(text)
    except OSError:
        path.unlink()  # half a file would be read
        raise
