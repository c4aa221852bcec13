"""Records: a CSV with one row a patient (or visit), and `schema.toml` beside it that says what the columns mean.

Values come in the agreed unit as (value - centre) / scale, a category as one column a level, a flag as 0 or 1; NaN is
"not measured". What is wrong with a row costs that row only, and whether it does hangs on that row and the schema.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import Entry, Layout
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names, missing
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.data.task import SCHEMA
from medtl_core.formats.encoder import load_encoder
from medtl_core.formats.findings import one_class_each
from medtl_core.formats.needs import encode, require, splits
from medtl_core.formats.numbers import number
from medtl_core.formats.schema import OTHER, Column, Schema
from medtl_core.formats.schema_file import code, read_schema
from medtl_core.formats.table import LONGEST, CsvTable, read_csv
from medtl_core.formats.units import alternatives
from medtl_core.values import Array, Examples, Task

#: What a spreadsheet computes where a value should stand: how it begins, what it is, and what is said of it.
_SIGNS, _COMPUTED = ("=", "@", "+", "-"), re.compile(r"[=@].|[+-][^\d.,\s+-]")
_FORMULA = ("holds a formula", "save the sheet with values only")
#: Fewest words of a hospital of which none is known that are no accident.
_WORDS = 10
#: Share of the values out of range that another unit must explain to be suggested.
_EXPLAINED = 0.9


class Records(Reader):
    """A folder with `schema.toml` and the CSV it names, or either of the two files."""

    name = "records"

    def matches(self, path: Path) -> bool:
        """See `Reader`: a CSV is of this kind only if the schema beside it names it."""
        folder = path if path.is_dir() else path.parent
        if not (folder / SCHEMA).is_file():
            return False
        return path.is_dir() or path.name == SCHEMA or path.name == read_schema(folder / SCHEMA).csv

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`."""
        folder = path if path.is_dir() else path.parent
        schema = read_schema(folder / SCHEMA)
        examples, facts = read_records(schema, folder / schema.csv, task, faults)
        entry = Entry(
            "own", f"own records: {folder.name}", "table", examples.task, (schema.csv,), Layout(self.name), "natural",
            ("identity",), "not stated", "", "",
        )  # fmt: skip
        return examples, replace(facts, entry=entry)


def read_records(schema: Schema, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
    """Returns all rows of a file as cases with the columns `table` and, of a schema with an event, `time`.

    Args:
        schema: what the file means.
        path: of the CSV.
        task: the agreed classes, where they are not the schema's.
        faults: rows that cannot be used.

    Guarantee:
        Unit: patient. A row's values, and whether it is at fault, follow from that row and the schema: centre and scale
        are the schema's public figures, never those of patients. Notes count rows and stay in the building.

    Raises:
        DataError: the file as a whole, or the encoder that the schema names, cannot be read.
    """
    one_class_each(task, path)
    table, roles = read_csv(path, faults), schema.roles
    require(table, [*roles.headers, *(column.header for column in schema.columns)])
    for header in set(roles.headers) - {roles.time}:
        table.fault(header, _formulas(table.columns[header]), *_FORMULA)
    diagnosis = roles.label or roles.event
    label, task = encode(_coded(table, diagnosis), diagnosis, task or schema.task, schema.labels)
    columns: dict[str, Array] = {
        "label": label,
        "patient": table.ids(roles.id) if roles.id else table.row_names(),
        "site": hospital_names(table.names(roles.site, path.stem)),
        "split": _splits(table, schema),
    }
    if schema.time is not None:
        columns["time"] = _time(table, schema.time)
    shown = [measured(table, column) for column in schema.columns]
    columns["table"] = np.concatenate(shown, axis=1)
    names = schema.features
    if schema.encoder:
        encoder = load_encoder(path.parent / schema.encoder, schema.sha256, names)
        columns["table"], names = encoder.encoded(columns["table"]), encoder.names
    free = table.others({*roles.headers, *(column.header for column in schema.columns), *columns})
    nobodys = () if roles.id else (NO_PATIENTS.replace("image", "row"),)
    notes = (*table.notes, *nobodys, *filter(None, map(_others, schema.columns, shown)))
    _check_words(schema.columns, shown, columns["site"], faults)
    return Examples({**columns, **free}, task), Facts(notes=notes, has_patients=bool(roles.id), columns=names)


def measured(table: CsvTable, column: Column) -> NDArray[np.float64]:
    """Returns a column's numbers, float64 [n, 1 or levels]; NaN where it was not measured."""
    if column.kind == "number":
        return ((_numbers(table, column) - column.centre) / column.scale)[:, None]
    words, place = table.words(column.header)
    gap, formula = _gaps(words, column)
    table.fault(column.header, formula[place], *_FORMULA)
    coded = [code(word).lower() if column.kind == "flag" else code(word) for word in words]
    levels = column.levels or ("1",)
    known = np.asarray([column.codes.get(word, "") for word in coded], np.str_)
    if OTHER in levels:
        known = np.where(known == "", OTHER, known)
    wrong = (known == "") & ~gap
    remedy = "name it in yes or no in the schema" if column.kind == "flag" else "add it to codes in the schema"
    table.fault(column.header, wrong[place], "holds no word of its vocabulary", remedy)
    shown = (known[:, None] == np.asarray(levels)).astype(np.float64)
    return np.where((gap | wrong)[:, None], np.nan, shown)[place]


def _numbers(table: CsvTable, column: Column) -> NDArray[np.float64]:
    """A number in the agreed unit, float64 [n]; what is out of range is at fault."""
    plain, codes = table.parsed(column.header), [number(word, comma=True) for word in column.missing]
    # What is a finite number of usual length, and none of the codes, is no word and no formula.
    doubt = ~np.isfinite(plain) | np.isin(plain, codes) | (table.columns[column.header].lengths() > LONGEST)
    gap = doubt
    if doubt.any():
        words, place = table.words(column.header, doubt)
        gaps, formula = _gaps(words, column)
        table.fault(column.header, formula[place], *_FORMULA)
        gap = doubt & gaps[place]
    written = table.numbers(column.header, gap)
    values = column.convert(written)
    wrong = (values < column.low) | (values > column.high)
    what = f"is out of its range, {column.low:g} to {column.high:g} {column.unit}".rstrip()
    table.fault(column.header, wrong, what, f"mend the value{_unit_hint(written[wrong], wrong.mean(), column)}")
    return values


def _unit_hint(written: NDArray[np.float64], share: float, column: Column) -> str:
    """Another unit that explains most of many values out of range."""
    if share < 1.0 - _EXPLAINED or not column.unit:
        return ""
    analyte = column.analyte or column.name.lower()
    if ((written >= column.low) & (written <= column.high)).mean() >= _EXPLAINED:
        return f", or leave 'written' and the like out of the schema: in {column.unit} most would fit"
    for unit, convert in alternatives(column.unit, analyte).items():
        values = convert(written)
        if ((values >= column.low) & (values <= column.high)).mean() >= _EXPLAINED:
            of = "" if column.analyte or unit in alternatives(column.unit) else f" and analyte = {analyte!r}"
            return f", or say written = {unit!r}{of} in the schema: most would fit"
    return ""


def _time(table: CsvTable, column: Column) -> NDArray[np.float64]:
    """The time of the event or of the last contact, float64 [n]."""
    values = _numbers(table, column)
    gap = np.isnan(values)
    table.fault(column.header, gap, "holds no time", "every case needs a time: of the event, or of the last contact")
    return np.where(gap, 0.0, values)


def _splits(table: CsvTable, schema: Schema) -> Array:
    """The split of each row (str [n]) after the schema's words for it; an empty cell may have one, too."""
    header = schema.roles.split
    if not header or not schema.splits:
        return splits(table, header)
    cells = (schema.splits.get(word, word) for word in table.columns[header])
    return splits(table.replaced(header, cells), header)


def _gaps(words: Sequence[str], column: Column) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which words are no value, and which of these hold a formula."""
    formula = _formulas(words)
    coded = np.asarray([code(word) in column.missing for word in words], dtype=bool)
    spoken = np.asarray(
        [code(word) in column.codes for word in words], dtype=bool
    )  # "unknown" may be a word of its own
    return (missing(np.asarray(words, np.str_)) & ~spoken) | coded | formula, formula


def _coded(table: CsvTable, header: str) -> CsvTable:
    """The table with a column's codes in the form in which they are compared."""
    coded = {cell: code(cell) for cell in {*table.columns[header]}}
    return table.replaced(header, map(coded.__getitem__, table.columns[header]))


def _formulas(cells: Sequence[str]) -> NDArray[np.bool_]:
    """Which cells hold what a spreadsheet computes; "-" and the like stand for a missing value."""
    return np.asarray([cell[:1] in _SIGNS and bool(_COMPUTED.match(cell)) for cell in cells], dtype=bool)


def _check_words(
    columns: Sequence[Column], measured: Sequence[NDArray[np.float64]], site: Array, faults: Faults
) -> None:
    """Notes a column of which a hospital's words are all other than the schema's: they are its own, for the same."""
    for column, shown in zip(columns, measured, strict=True):
        known = ~np.isnan(shown[:, 0])
        for name in np.unique(site).tolist() if OTHER in column.levels else ():
            own = shown[known & (site == name), -1]
            if len(own) >= _WORDS and own.all():
                cause = f"column {column.name!r}: no code at {name!r} is in its vocabulary"
                faults.whole(cause, f"say in codes what each stands for: {', '.join(column.levels[:-1])}")


def _others(column: Column, shown: NDArray[np.float64]) -> str:
    """A sentence where codes count as `OTHER`."""
    count = int(np.nansum(shown[:, -1])) if OTHER in column.levels else 0
    return f"Column {column.name!r}: {count} of {len(shown)} codes are not in its vocabulary: 'other'." if count else ""


READERS = (Records(),)
