"""A manifest made of people's own CSV files: columns named by their names, hospitals by their files, images found."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath

import numpy as np

from medtl_core.cli.draft_columns import MOST_WORDS, measure
from medtl_core.cli.draft_shape import check_beside, check_cases
from medtl_core.data.faults import Faults
from medtl_core.data.images import is_there
from medtl_core.data.names import is_missing, one_patient_each, plain_name
from medtl_core.errors import DataError
from medtl_core.formats.alike import look_of_class
from medtl_core.formats.joined import kept
from medtl_core.formats.numbers import number
from medtl_core.formats.scans import NUMBERS
from medtl_core.formats.survey import Survey, cases_of
from medtl_core.formats.table import ONE_COLUMN, CsvTable, read_csv

#: Column of a manifest -> the words that a table may have for it, letters only.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "label": ("label", "diagnosis", "diagnose", "class", "klasse", "target", "outcome", "dx", "finding", "befund"),
    "patient_id": (
        "patientid", "patient", "patientin", "participantid", "participant", "patientennummer", "patientnumber",
        "patientennr", "patientnr", "patienten", "patid", "patnr", "pid", "pseudonym", "proband", "probandennr",
        "subject", "subjectid", "subjid", "usubjid", "studysubjectid", "personid", "mrn", "fallnummer", "fallnr",
        "recordid", "id",
    ),
    "site": ("site", "hospital", "centre", "center", "clinic", "klinik", "krankenhaus", "standort", "institution"),
    "split": ("split", "fold", "subset", "partition"),
    "path": (
        "path", "filepath", "file", "filename", "image", "imagepath", "imagefile", "imageid", "imagename", "img",
        "picture", "bild", "bildname", "datei", "dateiname",
    ),
    "sop_instance_uid": ("sopinstanceuid", "sopuid"),
    "accession_number": ("accessionnumber", "accessionno", "accessionnr", "accession"),
    "note": ("note", "notes", "text", "report", "findings", "transcription", "bericht", "arztbrief"),
}  # fmt: skip
#: Columns that name DICOM files by a number of their headers.
_NUMBERS = tuple(NUMBERS)
#: Share of a column's cells that name files, of one that says which image a case is.
_FILES = 0.5
#: A number or a date, as no column is called.
_VALUE = re.compile(r"[<>+-]?\d[\d.,:/ -]*")
#: Words for a class that would else count as a missing one.
_NONE = ("none", "nil")


@dataclass(frozen=True)
class Wish:
    """What was typed.

    Attributes:
        columns: column of the manifest -> column of the table; of the label several, with commas between.
        points: what points before three digits are, one of `POINTS`; "" = nobody says.
        own_ids: whether every file numbers its own patients.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    points: str = ""
    own_ids: bool = False


@dataclass
class Draft:
    """A manifest in the making.

    Attributes:
        columns: its columns, of all files.
        lines: what a person should know of it.
        classes: the classes, where `task.json` must state them.
        findings: whether a case may show several of them.
    """

    columns: dict[str, list[str]]
    lines: list[str]
    classes: Sequence[str] = ()
    findings: bool = False


def draft_table(there: Survey, place: Path, wish: Wish) -> Draft:
    """Returns the manifest of a CSV file, or of several with the same columns, which are one hospital's each.

    Args:
        there: what lies in the place.
        place: folder of the manifest.
        wish: what was typed.

    Raises:
        DataError: the files differ, no column says the class, or something has to be said first.
    """
    parts = _parts(there.tables, place)
    different = [name for name in parts[0].columns if len({cell for part in parts for cell in part.columns[name]}) > 1]
    names = {**_proposed(parts[0].columns, wish.columns), **_proposed(different, wish.columns), **wish.columns}
    for name in _NUMBERS if not there.dicom or "path" in names else _NUMBERS[1:] if _NUMBERS[0] in names else ():
        names.pop(name, "")
    labels = _labels(parts, names.pop("label", ""))
    if absent := [column for column in (*names.values(), *labels) if column not in parts[0].columns]:
        raise DataError(f"{parts[0].name} has no column {absent[0]!r}; it has {', '.join(parts[0].columns)}")
    draft = Draft({}, [note for part in parts for note in part.notes])
    parts = [_without_units(part, labels, names.get("patient_id", ""), draft) for part in parts]
    files = _Files(there, place)
    names |= {} if {"path", *_NUMBERS} & {*names} else files.column(parts, {*names.values(), *labels})
    _add_labels(draft, parts, labels, proposed="label" not in wish.columns)
    for name, column in names.items():
        cells = [cell for part in parts for cell in part.columns[column]]
        if name not in wish.columns and all(is_missing(plain_name(cell)) for cell in cells):
            draft.lines.append(f"{name}: {column!r} is empty in every row, and is left out")
            continue
        draft.columns[name] = cells
        draft.lines.append(f"{name}: {column!r}{'' if name in wish.columns else ' (proposed)'}")
    if len(parts) > 1:
        _add_hospitals(draft, parts, there.tables, wish)
    if "path" in draft.columns:
        draft.lines += files.find(draft.columns)
    taken, kinds = {*names, "label", *names.values(), *labels}, {"path", "note", *_NUMBERS} & {*draft.columns}
    check_beside(parts, 0 if kinds else len(cases_of(there, place)))
    check_cases(parts, [*taken], names.get("patient_id", ""), numbers=not kinds)
    left = [name for name in parts[0].columns if name not in taken]
    measured, lines = measure(parts, left, wish.points, images=bool(kinds - {"note"}), alone=not kinds)
    draft.columns |= measured
    draft.lines += lines
    if not {"patient_id", *_NUMBERS} & {*draft.columns}:  # a header says it, too
        draft.lines.append("to do: no column says whose each row is; --patient COLUMN")
    _gaps(draft, parts, labels)
    return draft


def _parts(files: Sequence[Path], place: Path) -> list[CsvTable]:
    """The tables, by their places; those of several files must have the same columns, and cases."""
    parts = [replace(read_csv(file, Faults()), name=file.relative_to(place).as_posix()) for file in files]
    _check_headers(parts)
    for one, other in pairwise(parts):
        if strange := sorted({*one.columns} ^ {*other.columns}):
            raise DataError(
                f"{len(files)} CSV files ({', '.join(part.name for part in parts[:5])}), of which {one.name} and "
                f"{other.name} differ in {', '.join(strange[:5])}: give their columns the same names, or name the file "
                "that is meant: medtl data draft FILE"
            )
    return parts


def _check_headers(parts: Sequence[CsvTable]) -> None:
    """Refuses tables whose first lines are no names of columns."""
    for part in parts:
        if not len(part) and len(parts) > 1:
            raise DataError(f"{part.name} holds no case: its hospital would be lost; move the file away, or fill it")
        if len(part.columns) == 1:
            raise DataError(f"{part.name}: {ONE_COLUMN}")
        values = sum(bool(_VALUE.fullmatch(name)) or is_missing(name) for name in part.columns)
        if 2 * values >= len(part.columns):  # the names may be a patient's: none is quoted
            raise DataError(
                f"{part.name}: its first line seems to be a case; put a line with the columns' names above it"
            )


def _labels(parts: Sequence[CsvTable], column: str) -> tuple[str, ...]:
    """The columns that say the class, one or, with commas between, several."""
    if column:
        return (column,) if column in parts[0].columns else tuple(map(str.strip, column.split(",")))
    columns = parts[0].columns
    flags = [name for name in columns if {"0", "1"} == {cell for part in parts for cell in part.columns[name]} - {""}]
    several = f"; or --label {','.join(flags)} if each is a finding of its own" if len(flags) > 1 else ""
    names = ", ".join(columns)
    raise DataError(f"which column of {parts[0].name} is the class? give --label COLUMN: {names}{several}")


def _proposed(columns: Iterable[str], given: Mapping[str, str]) -> dict[str, str]:
    """Column of a manifest -> the column of a table that its name says."""
    letters = {re.sub("[^a-z]", "", column.lower()): column for column in columns if column not in given.values()}
    near = {name: next((letters[word] for word in words if word in letters), "") for name, words in _WORDS.items()}
    return {name: column for name, column in near.items() if column}


def _without_units(part: CsvTable, labels: Sequence[str], patient: str, draft: Draft) -> CsvTable:
    """A table less a second line of units, which is of nobody, or of other names: words where others have numbers."""
    if len(part) < 2:
        return part
    two = {name: [plain_name(cell) for cell in islice(cells, 2)] for name, cells in part.columns.items()}
    somebody = any(any(map(str.isalnum, two[name][0])) for name in (*labels, patient) if name)
    values = [[number(cell, comma=True) for cell in cells] for cells in two.values() if cells[0]]
    named = all(np.isinf(one) for one, _ in values) and all(
        [*map(plain_name, part.columns[name])].count(two[name][0]) == 1 for name in labels
    )
    if (somebody and not named) or not any(np.isinf(one) and np.isfinite(other) for one, other in values):
        return part
    what = "names the columns once more" if somebody else "is of no case, as a row of units is,"
    draft.lines.append(f"{part.faults.place(0)} of {part.name} {what} and is left out")
    return kept(part, np.arange(len(part)) > 0, Faults())


def _add_labels(draft: Draft, parts: Sequence[CsvTable], labels: Sequence[str], *, proposed: bool) -> None:
    """The column of classes, or one for each finding; several of which one is 1 in each row are classes."""
    cells = {name: [cell for part in parts for cell in part.columns[name]] for name in labels}
    if len(labels) == 1:
        draft.columns["label"] = cells[labels[0]]
        draft.lines.append(f"label: {labels[0]!r}{' (proposed)' if proposed else ''}")
        return
    known = {"yes": "1", "no": "0", "": ""}
    for name, column in cells.items():
        said = {cell: "" if is_missing(plain_name(cell)) else look_of_class(cell) for cell in {*column}}
        if wrong := sum(said[cell] not in known for cell in column):
            raise DataError(f"column {name!r} says neither 1 nor 0 in {wrong} rows, and so is no finding")
        cells[name] = [known[said[cell]] for cell in column]
    rows = [*zip(*cells.values(), strict=True)]
    if all(row.count("1") == 1 and "" not in row for row in rows):
        draft.columns["label"] = [labels[row.index("1")] for row in rows]
        draft.lines.append(f"label: of {', '.join(labels)} the one that is 1 in a row")
        return
    draft.columns |= cells
    draft.classes, draft.findings = labels, True
    draft.lines.append(f"findings: {', '.join(labels)}, of which a case may show several")


def _add_hospitals(draft: Draft, parts: Sequence[CsvTable], files: Sequence[Path], wish: Wish) -> None:
    """Files are hospitals where no column says otherwise, and may number their patients alike."""
    stems, outer = [file.stem for file in files], [file.parent.name for file in files]
    both = [f"{folder} {stem}" for folder, stem in zip(outer, stems, strict=True)]
    names = next((words for words in (stems, outer, both) if len({*words}) == len(files)), both)
    whose = [name for part, name in zip(parts, names, strict=True) for _ in range(len(part))]
    if "site" not in draft.columns:
        draft.columns["site"] = whose
        draft.lines.append(f"site: the names of {len(parts)} files (proposed)")
    ids = draft.columns.get("patient_id", [])
    if wish.own_ids:
        draft.columns["patient_id"] = [f"{name}: {one}" for name, one in zip(whose, ids, strict=True)]
        return
    seen = defaultdict[str, set[str]](set)
    for name, one in zip(whose, one_patient_each(np.asarray(ids, np.str_)).tolist() if ids else (), strict=False):
        seen[one].add(name)
    if shared := sum(len(places) > 1 and not is_missing(one) for one, places in seen.items()):
        raise DataError(
            f"{shared} patients' ids stand in several files: say --own-ids if every hospital numbers its own patients, "
            "and this is another person each time; else keep all of a patient's rows in one file"
        )


class _Files:
    """Images and scans by their names, with and without suffix."""

    def __init__(self, there: Survey, place: Path) -> None:
        self._place, self._cases, self._named = place, set[str](), defaultdict[str, set[str]](set)
        for case in cases_of(there, place):
            inner = case.relative_to(place)
            self._cases.add(inner.as_posix())
            for name in {case.name, case.name.partition(".")[0], *inner.parts[:-1]}:  # a folder of one case names it
                self._named[name].add(inner.as_posix())

    def __call__(self, cell: str) -> str:
        """The file that a cell means, by its path or, if no other is called so, by its name; "" where there is none."""
        path = cell.replace("\\", "/")
        if not cell or path in self._cases or (is_there(self._place / path) and not (self._place / path).is_dir()):
            return path
        name = PurePosixPath(path).name
        return next(
            (min(found) for key in (name, name.partition(".")[0]) if len(found := self._named.get(key, ())) == 1), ""
        )

    def column(self, parts: Sequence[CsvTable], taken: set[str]) -> dict[str, str]:
        """A column most cells of which name files that are there; one that says something else comes last."""
        columns = sorted(parts[0].columns, key=taken.__contains__) if self._named else ()
        for name in columns:
            cells = [cell for part in parts for cell in part.columns[name] if cell]
            if cells and sum(bool(self(cell)) for cell in cells) > _FILES * len(cells):
                return {"path": name}
        return {}

    def find(self, columns: dict[str, list[str]]) -> list[str]:
        """Puts the files into a manifest's column, and says how many are not there."""
        cells = columns["path"]
        files = [self(cell) for cell in cells]
        columns["path"] = [file or cell for cell, file in zip(cells, files, strict=True)]
        moved = sum(bool(file) and file != cell for cell, file in zip(cells, files, strict=True))
        gone = sum(bool(cell) and not file for cell, file in zip(cells, files, strict=True))
        again = sum(count for file, count in Counter(files).items() if file and count > 1)
        studies = "a patient's studies need a file each, or a column accession_number"
        lines = [f"to do: {again} rows name a file that another row names: {studies}"] if again else []
        lines += [f"path: {moved} of {len(cells)} files were found by their names"] if moved else []
        return lines + ([f"to do: {gone} of {len(cells)} rows name no file that is there"] if gone else [])


def _gaps(draft: Draft, parts: Sequence[CsvTable], labels: Sequence[str]) -> None:
    """What a person has to fill in before cases with gaps count.

    Raises:
        DataError: no row says what class it is of.
    """
    rows = sum(map(len, parts))
    own = {name: draft.columns[name] for name in ("label", "patient_id", "site", "split") if name in draft.columns}
    gone = {name: [cell for cell in cells if is_missing(plain_name(cell))] for name, cells in own.items()}
    said = {cell for cell in gone.get("label", ()) if cell.lower() in _NONE}
    if len(said) == 1:
        (word,) = said
        draft.classes = sorted({plain_name(cell) for cell in own["label"] if not is_missing(plain_name(cell))} | said)
        draft.lines.append(f"classes: {', '.join(draft.classes)} (proposed); {word!r} would else be a missing one")
        gone["label"] = [cell for cell in gone["label"] if cell != word]
    if len(gone.get("label", ())) == rows:
        different = {name: len({cell for part in parts for cell in part.columns[name]}) for name in parts[0].columns}
        words = [name for name, count in different.items() if 1 < count < min(rows, MOST_WORDS) and name not in labels]
        raise DataError(
            f"column {labels[0]!r} of {parts[0].name} is empty in every row, so nothing says what a case shows: fill "
            f"it in, or give --label COLUMN, of few different words: {', '.join(words) or 'there is none'}"
        )
    for name, lost in gone.items():
        draft.lines += [f"to do: fill in {name}, empty in {len(lost)} of {rows} rows"] if lost else []
    if len({*own.get("label", "ab")}) == 1:
        draft.lines.append(f"to do: {labels[0]!r} says the same of every row; two classes are needed")
