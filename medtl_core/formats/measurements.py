"""New rows of a table that a head on records reads: the words of its columns say what stands in them, and in what unit.

A head keeps `Column.features`, the agreed meaning of each of its numbers. A hospital's file may have its own headers,
units and codes, which `schema.toml` beside it tells; without one it has the agreed names, units and words.
"""

import re
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from medtl_core.data.faults import Faults
from medtl_core.data.task import SCHEMA
from medtl_core.errors import DataError, did_you_mean
from medtl_core.formats.encoder import load_encoder
from medtl_core.formats.needs import TABLES, refuse_whole, require
from medtl_core.formats.records import measured
from medtl_core.formats.schema import Column
from medtl_core.formats.schema_file import agreed_flag, read_schema, shipped
from medtl_core.formats.table import CsvTable, read_csv
from medtl_core.values import Array

_ASK = "take the schema of the federation that trained it"
_DIGITS = r"([-+\d.einf]+)"
_NUMBER = re.compile(rf"(.+) \((.+), {_DIGITS} to {_DIGITS}, about {_DIGITS} by {_DIGITS}\)")
_FLAG, _LEVEL = re.compile(r"(.+) \(flag\)"), re.compile(r"([^=]+)=(.+)")


def agreed(features: Sequence[str]) -> tuple[Column, ...]:
    """Returns the measurements whose `Column.features` these words are; none where some word is no such.

    Example:
        >>> [(one.name, one.unit, one.high) for one in agreed(["age (a, 0.0 to 120.0, about 55.0 by 10.0)"])]
        [('age', 'a', 120.0)]
        >>> agreed(["age"])
        ()
    """
    columns = list[Column]()
    for feature in features:
        if told := _NUMBER.fullmatch(feature):
            name, unit = told[1], "" if told[2] == "no unit" else told[2]
            low, high, centre, scale = map(float, told.groups()[2:])
            columns.append(Column(name, name, "number", unit, low, high, centre, scale))
        elif told := _FLAG.fullmatch(feature):
            columns.append(agreed_flag(told[1]))
        elif told := _LEVEL.fullmatch(feature):
            name, level = told.groups()
            before = columns.pop().levels if columns and columns[-1].name == name else ()
            levels = (*before, level)
            columns.append(Column(name, name, "category", levels=levels, codes={word: word for word in levels}))
        else:
            return ()
    return tuple(columns)


def in_words(features: Sequence[str]) -> tuple[str, ...]:
    """Returns what a person writes into a table's header for a head, with the unit or the words of its cells behind.

    Example:
        >>> in_words(["age (a, 0.0 to 120.0, about 55.0 by 10.0)", "sex (flag)", "pain=typical", "pain=none"])
        ('age (a)', 'sex (yes or no)', 'pain (typical or none)')
    """
    told = [f"{column.name} ({_beside(column)})" for column in agreed(features)]
    return tuple(told or features)


def _beside(column: Column) -> str:
    if column.kind == "number":
        return column.unit or "a number"
    return " or ".join(column.levels or ("yes", "no"))


def read_measurements(path: Path, features: Sequence[str], faults: Faults) -> tuple[CsvTable, Array, tuple[str, ...]]:
    """Returns a table, what a head reads of its rows (float64 [n, k], NaN = not measured), and the columns of that.

    Columns may stand in any order, others beside them.

    Args:
        path: of a CSV file, or of a folder with `schema.toml`, which names it.
        features: what the head reads, in its order: names of columns, or words of `Column.features`.
        faults: rows that cannot be used.

    Raises:
        DataError: the file cannot be read, lacks a column, or `schema.toml` agrees on other measurements.
    """
    stated = (path if path.is_dir() else path.parent) / SCHEMA
    schema = read_schema(stated) if stated.is_file() else None
    file = path / schema.csv if schema and path.is_dir() else path
    if file.suffix.lower() not in TABLES:
        raise DataError(
            f"{path}: the head reads a table; name a CSV file with the columns {', '.join(in_words(features))}"
        )
    table = read_csv(file, faults)
    if not len(table):
        raise DataError(f"{file} holds no rows: a header and at least one case are needed")
    columns = _agreed_here(features) if schema is None else schema.columns
    if {*features} <= {*table.columns} or not columns:
        _check_there(table, file, features)
        numbers = np.stack([table.numbers(name) for name in features], axis=1)
        refuse_whole(table)
        return table, numbers, tuple(features)
    encoder, names = None, tuple(feature for column in columns for feature in column.features)
    if schema and schema.encoder:
        encoder = load_encoder(stated.parent / schema.encoder, schema.sha256, names)
        names = encoder.names
    if names != tuple(features):
        other = next((name for name in features if name not in names), "the same in another order")
        raise DataError(f"{stated}: the head reads {other!r}, on which this schema does not agree; {_ASK}")
    require(table, [column.header for column in columns])
    values = np.concatenate([measured(table, column) for column in columns], axis=1)
    refuse_whole(table)
    return table, encoder.encoded(values) if encoder else values, tuple(column.header for column in columns)


def _agreed_here(features: Sequence[str]) -> tuple[Column, ...]:
    """The measurements that words tell, with the codes of a known set where they are its own."""
    places = (files("medtl_core.formats") / "schemas").iterdir()
    known = (shipped(place.name.removesuffix(".toml")) for place in places if place.name.endswith(".toml"))
    columns = agreed(features)
    return next((schema.columns for schema in known if schema.features == tuple(features)), columns) if columns else ()


def _check_there(table: CsvTable, path: Path, names: Sequence[str]) -> None:
    for name in names:
        if name not in table.columns:
            raise lacking_column(path, name, table, names)


def lacking_column(path: Path | str, name: str, table: CsvTable, names: Collection[str]) -> DataError:
    """Returns the error of a table without a column; a first line that names none of those read may be a patient's."""
    hint = did_you_mean(name, list(table.columns))
    if hint.startswith("known") and {*names}.isdisjoint(table.columns):
        hint = "its first line names no column that the head reads"
    return DataError(f"{path}: column {name!r}, which the head reads, is missing; {hint}")
