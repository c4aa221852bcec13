"""`medtl data`, a look at data before they are used: what there is, every fault, and drafts of what they need."""

import os
import shlex
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from unicodedata import normalize

import numpy as np
import typer
from numpy.typing import NDArray

from medtl_core.cli import console
from medtl_core.cli.draft import draft_command
from medtl_core.cli.fitting import views_words
from medtl_core.cli.known import list_command
from medtl_core.cli.plan import name_data
from medtl_core.config import Settings, settings
from medtl_core.data.catalog import catalog
from medtl_core.data.faults import Faults
from medtl_core.data.leak import leaks
from medtl_core.data.readers import reader_of
from medtl_core.data.source import Source, open_source
from medtl_core.data.task import MANIFEST, SCHEMA, read_task
from medtl_core.errors import ConfigError, DataError, MedtlError
from medtl_core.formats.image_check import check_images
from medtl_core.formats.overview import NO_CLASSES
from medtl_core.formats.survey import look, survey
from medtl_core.formats.table import read_csv
from medtl_core.values import MULTI_LABEL, UNKNOWN, Examples, site_name

if TYPE_CHECKING:
    from rich.table import Table


#: Tables beside images that are named.
_TABLES = 3


def faults_of(examples: Examples, faults: Faults) -> list[str]:
    """Returns in words what is wrong with data, by cause: cases that cannot be used, leaks between sides, names.

    Args:
        examples: all cases, those at fault among them or not.
        faults: what reading them told.
    """
    faults.place = lambda row: str(examples["path"][row])
    check_images(examples, range(len(examples)) if "path" in examples.columns else (), faults)
    words = _causes(faults)
    test = examples["split"] == "test"
    sides = _rows(examples, "site")
    shared = defaultdict[str, dict[str, None]](dict)
    for parts in ({"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}, sides):
        for cases, fault in leaks(examples, parts):
            shared[fault][cases] = None
    words += [f"{len(cases)} pair(s), such as {next(iter(cases))}, {fault}" for fault, cases in shared.items()]
    for site in sides:
        try:
            site_name(site)
        except ConfigError as error:
            words.append(str(error))
    return list(dict.fromkeys(words))


def data_faults(chosen: Settings, word: str = "") -> tuple[Source | None, list[str]]:
    """Returns the cases that settings name, None where they cannot be read at all, and in words what is wrong."""
    seen = Faults()
    try:
        source = open_source(chosen, seen, word)
    except DataError as error:
        return None, [*dict.fromkeys([*error.args, *_each(Path(chosen.data_path), word), *_causes(seen)])]
    return source, faults_of(source.examples, seen)


def counts_table(source: Source) -> "Table":
    """Returns the cases and patients of every site and split as a table, over all usable cases."""
    examples, classes = source.examples, source.examples.task.classes
    table = console.table_of("site", "split", title=source.entry.title, right=(*classes, "cases", "patients"))
    for site, rows in sorted(_rows(examples, "site").items()):
        for split, here in _rows(examples.take(rows), "split").items():
            part = examples.take(rows[here])
            numbers = [*_shown(part), len(part), len({*part["patient"].tolist()})]
            table.add_row(site, split, *map(str, numbers))
    return table


def _shown(part: Examples) -> list[object]:
    """Cases of each class; of a multi-label task those with a finding, of those of which it is known."""
    if part.task.kind != MULTI_LABEL:
        return [*np.bincount(part["label"], minlength=len(part.task.classes))]
    labels = part["labels"]
    known, there = (labels != UNKNOWN).sum(axis=0).tolist(), (labels == 1).sum(axis=0).tolist()
    return [f"{count} of {cases}" for count, cases in zip(there, known, strict=True)]


def _rows(examples: Examples, column: str) -> dict[str, NDArray[np.int64]]:
    return {name: np.flatnonzero(examples[column] == name) for name in sorted({*examples[column].tolist()})}


data_app = console.group("Look at data before they are used.")


@data_app.command("check")
def check(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder or file of the data.")],
    word: Annotated[
        str,
        typer.Option("--as", metavar="KIND", help="images, table, dicom, records, ..., or a known set."),
    ] = "",
) -> None:
    """Count the cases and name every fault.

    Reads as a run reads. Counts by site, split and class; every cause of a fault with the number of cases, examples and
    the remedy (exit code 1); how the files are written; the nearest layout where none fits.
    """
    known = word.partition(":")[0] in catalog()
    chosen = settings(name_data(folder) | ({"data": word} if known else {}))
    word = "" if known else word
    source, faults = data_faults(chosen, word)
    if source is None:
        console.show(*(f"fault: {fault}" for fault in faults), *_nearest(chosen, faults[0]), markup=False)
        raise typer.Exit(1)
    verdict = f"{len(faults)} fault(s)" if faults else "no fault found"
    kind = _kind(source, chosen, word)
    lines = [
        f"read as: {kind}",
        *([f"views: {views_words(source, chosen)}"] if {"path", "image"} & source.examples.columns.keys() else []),
        *([f"measurements: {', '.join(source.columns)}"] if kind in ("table", "records") else []),
        f"licence: {source.entry.licence}",
        *(f"note: {note}" for note in source.notes),
        *_beside(kind, chosen),
        *(f"fault: {fault}" for fault in faults),
        verdict,
    ]
    no_classes = any(NO_CLASSES in fault for fault in faults)  # what stands there may be patients' names
    console.show(*([] if no_classes else [counts_table(source)]), *lines, markup=False)
    if faults:
        raise typer.Exit(1)


def _each(place: Path, word: str) -> list[str]:
    """All that is wrong with a place that cannot be used as it is: with its task.json, its table and its cases."""
    causes, stated, faults = list[str](), None, Faults()
    if not place.is_absolute() or not place.exists():
        return causes
    try:
        stated = read_task(place)
    except DataError as error:
        causes += error.args
    try:
        examples, _ = reader_of(place, word).read(place, stated.task if stated else None, faults)
        return causes + faults_of(examples.take(faults.usable(len(examples))), faults)
    except MedtlError as error:
        return [*causes, *error.args, *_causes(faults)]


def _causes(faults: Faults) -> list[str]:
    """Every cause, with the number of cases that it costs."""
    return [f"{len(fault.places)} case(s): {fault}" if fault.places else str(fault) for fault in faults.causes]


def _kind(source: Source, chosen: Settings, word: str) -> str:
    known = source.entry.files and source.entry.name != "own"
    if word or not chosen.data_path or known:
        return word or source.entry.name
    return reader_of(Path(chosen.data_path)).name


def _nearest(chosen: Settings, error: str) -> list[str]:
    """What there is, where neither the error nor a manifest says so already."""
    place = Path(chosen.data_path)
    stated = any((place / name).is_file() for name in (MANIFEST, SCHEMA))
    if not chosen.data_path or stated or "; there: " in error:
        return []
    return [f"there: {survey(place)}"]


def _beside(kind: str, chosen: Settings) -> list[str]:
    """Tables among class folders, which would be read as a manifest only; images that a manifest does not name."""
    place = Path(chosen.data_path)
    if kind == "images" and place.is_dir():
        cells = read_csv(place / MANIFEST, Faults()).columns.get("path", ())
        named = {normalize("NFC", os.path.normpath(place / cell)) for cell in cells}
        others = sum(normalize("NFC", os.path.normpath(file)) not in named for file in look(place).images)
        return [f"note: {others} images below the folder are in no row of {MANIFEST}"] if others else []
    tables = look(place).tables if kind == "folders" else ()
    draft = f"manifest.csv would be: `medtl data draft {shlex.quote(str(tables[0]))}` makes it" if tables else ""
    return [f"note: {table.name} lies beside the images and is not read; {draft}" for table in tables[:_TABLES]]


data_app.command("draft")(draft_command)
data_app.command("list")(list_command)
COMMANDS = {"data": data_app}
