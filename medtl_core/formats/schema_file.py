"""Reading `schema.toml`: every key is known, every fault names its table. docs/data.md has the form by example."""

import re
import tomllib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from medtl_core.data.names import plain_name
from medtl_core.errors import DataError, did_you_mean
from medtl_core.formats.schema import OTHER, Column, Roles, Schema
from medtl_core.formats.units import Conversion, conversion, unit_name
from medtl_core.values import Task

_TRUE, _FALSE = ("1", "true", "yes", "y", "ja", "j", "wahr", "oui"), ("0", "false", "no", "n", "nein", "falsch", "non")
_WHOLE = re.compile(r"([+-]?\d+)\.0*")


def shipped(name: str) -> Schema:
    """Returns the schema of a known set, which comes with medtl."""
    place = files("medtl_core.formats") / "schemas" / f"{name}.toml"
    return parse(place.read_text(encoding="utf-8"), f"{name}.toml")


def read_schema(path: Path) -> Schema:
    """Returns the schema in a file.

    Raises:
        DataError: it cannot be read, or says something that no schema says; table and key are named.
    """
    try:
        return parse(path.read_text(encoding="utf-8-sig"), path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def parse(text: str, where: str) -> Schema:
    """Returns the schema in a text; for the form see docs/data.md, for errors `read_schema`."""
    try:
        stated = tomllib.loads(unicodedata.normalize("NFC", text))  # as headers and cells are compared
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{where} is not valid TOML: {error}") from error
    if "kind" in stated:
        raise DataError(f"{where}: a schema has one label, of one class a row; it states no kind")
    top = _Table(where, stated, ("name", "classes", "file", "roles", "labels", "splits", "flags", "column", "encoder"))
    named = _Table(f"{where} [roles]", top.get("roles", dict), [field.name for field in fields(Roles)])
    roles = Roles(**{key: named.get(key, str) for key in named.values})
    flags = [agreed_flag(name) for name in top.words("flags")]
    columns = _columns(top.get("column", dict), where)
    time = next((column for column in columns if column.header == roles.time), None)
    encoder = _Table(f"{where} [encoder]", top.get("encoder", dict), ("file", "sha256"))
    schema = Schema(
        Task(top.get("name", str, "records"), top.words("classes")),
        top.get("file", str, "records.csv"),
        roles,
        (*(column for column in columns if column is not time), *flags),
        time,
        _codes(top, "labels"),
        _codes(top, "splits"),
        encoder.get("file", str),
        encoder.get("sha256", str),
    )
    _check(schema, where)
    return schema


def _columns(stated: Mapping[str, Any], where: str) -> list[Column]:
    """All columns, or the faults of all of them."""
    columns, causes = list[Column](), list[str]()
    for name, row in stated.items():
        try:
            columns.append(_column(name, row, f"{where} [column.{name}]"))
        except DataError as error:
            causes += error.args
    if causes:
        raise DataError(*causes)
    return columns


def _column(name: str, stated: Any, where: str) -> Column:
    if not isinstance(stated, dict):
        raise DataError(f"{where}: a table is expected")
    kind = stated.get("type", "")
    if kind not in _PARSERS:
        dates = "; a date identifies a patient: write days since an event" if "date" in str(kind) else ""
        raise DataError(f"{where}: type must be one of {', '.join(_PARSERS)}{dates}")
    return _PARSERS[kind](name, stated, where)


def _number(name: str, stated: Mapping[str, Any], where: str) -> Column:
    keys = ("type", "header", "missing", "unit", "range", "usual", "spread", "written", "analyte", "times", "plus")
    row = _Table(where, stated, keys)
    limits = row.values.get("range")
    if not isinstance(limits, list) or len(limits) != 2 or not all(map(_is_number, limits)):
        raise DataError(f"{where}: range must be [lowest, highest]: what is possible in a patient, in the agreed unit")
    low, high = float(limits[0]), float(limits[1])
    scale = row.get("spread", float, (high - low) / 4)
    if not (low < high and scale > 0):
        raise DataError(f"{where}: the range must rise, and spread be positive")
    unit, analyte = unit_name(row.get("unit", str)), row.get("analyte", str)
    if {"times", "plus"} & row.values.keys():
        convert = Conversion(row.get("times", float, 1.0), plus=row.get("plus", float, 0.0))
    else:
        convert = _conversion(row.get("written", str, unit), unit, analyte, where)
    return Column(
        name, row.get("header", str, name), "number", unit, low, high, row.get("usual", float, (low + high) / 2), scale,
        convert, row.words("missing"), analyte=analyte,
    )  # fmt: skip


def _conversion(written: str, unit: str, analyte: str, where: str) -> Conversion:
    try:
        return conversion(written, unit, analyte)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _flag(name: str, stated: Mapping[str, Any], where: str) -> Column:
    row = _Table(where, stated, ("type", "header", "missing", "yes", "no"))
    codes = _flag_codes(row.words("yes") or _TRUE, row.words("no") or _FALSE)
    return Column(name, row.get("header", str, name), "flag", missing=row.words("missing"), codes=codes)


def _category(name: str, stated: Mapping[str, Any], where: str) -> Column:
    row = _Table(where, stated, ("type", "header", "missing", "vocabulary", "codes", "closed"))
    levels = row.words("vocabulary")
    if not levels or len({*levels}) < len(levels):
        raise DataError(f"{where}: vocabulary must list the words that all hospitals share, each once, in order")
    codes = {level: level for level in levels} | _codes(row, "codes")
    strange = sorted(set(codes.values()) - set(levels))
    if strange:
        raise DataError(f"{where}: codes names {strange[0]!r}; {did_you_mean(strange[0], levels)}")
    if not row.get("closed", bool, False):
        levels = (*levels, OTHER)
    return Column(
        name, row.get("header", str, name), "category", missing=row.words("missing"), levels=levels, codes=codes
    )


_PARSERS: Mapping[str, Callable[[str, Mapping[str, Any], str], Column]] = {
    "number": _number,
    "flag": _flag,
    "category": _category,
}


def code(text: str) -> str:
    """Returns a code as it is compared: 1 and 1.0 are the same, and nothing else is.

    Example:
        >>> code("1.0"), code("-9"), code("007"), code("1.5")
        ('1', '-9', '007', '1.5')
    """
    plain = plain_name(text)
    return _WHOLE.sub(r"\1", plain) if _WHOLE.fullmatch(plain) else plain


def agreed_flag(name: str) -> Column:
    """Returns a column of yes and no, in the usual words for them."""
    return Column(name, name, "flag", codes=_flag_codes(_TRUE, _FALSE))


def _flag_codes(yes: Iterable[str], no: Iterable[str]) -> dict[str, str]:
    return {code(word).lower(): "1" for word in yes} | {code(word).lower(): "0" for word in no}


def _codes(row: "_Table", key: str) -> dict[str, str]:
    return {code(str(word)): str(level) for word, level in row.get(key, dict).items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _check(schema: Schema, where: str) -> None:
    roles, classes = schema.roles, schema.task.classes
    headers = [*roles.headers, *(column.header for column in schema.columns)]
    twice = sorted({header for header in headers if headers.count(header) > 1})
    no_time = roles.time and (schema.time is None or schema.time.kind != "number")
    found = (
        (len(set(classes)) < max(2, len(classes)), ": classes must list at least two distinct words"),
        (
            bool(roles.event) != bool(roles.time) or bool(roles.event) == bool(roles.label),
            " [roles]: name either label, or event and time together",
        ),
        (
            roles.event and len(classes) != 2,
            ": an event has two classes, first the one that says it was not seen",
        ),
        (no_time, ": describe the time as a number, with unit and range, in a table [column.NAME]"),
        *((True, f": column {name!r} is named twice; what is told from may not be told with") for name in twice),
        (not schema.columns, ": no measurement; describe each in a table [column.NAME]"),
        (bool(schema.encoder) != bool(schema.sha256), " [encoder]: name the file and its sha256 together"),
    )
    if any(wrong for wrong, _ in found):
        raise DataError(*(f"{where}{cause}" for wrong, cause in found if wrong))


@dataclass(frozen=True)
class _Table:
    """A TOML table whose keys are known.

    Raises:
        DataError: at once for a key that nobody reads, later for a value of another type.
    """

    where: str
    values: Mapping[str, Any]
    keys: Sequence[str]

    def __post_init__(self) -> None:
        strange = [key for key in self.values if key not in self.keys]
        if strange:
            raise DataError(*(f"{self.where}: unknown key {key!r}; {did_you_mean(key, self.keys)}" for key in strange))

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Returns a value of a type, or the default, unless stated the type's empty one."""
        value = self.values.get(key)
        if value is None:
            return kind() if default is None else default
        right = _is_number(value) if kind is float else isinstance(value, kind)
        if not right:
            raise DataError(f"{self.where}: {key} must be a {_WORDS[kind]}")
        return float(value) if kind is float else value

    def words(self, key: str) -> tuple[str, ...]:
        """Returns a list of words or numbers as words."""
        value = self.values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str | int | float) for word in value):
            raise DataError(f"{self.where}: {key} must be a list of words")
        return tuple(code(str(word)) for word in value)


_WORDS: Mapping[type, str] = {str: "text", float: "number", dict: "table", bool: "truth value (true or false)"}
