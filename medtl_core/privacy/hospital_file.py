"""`hospital.toml` as a file: where it lies, its tables, and values that are checked one by one."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from medtl_core.errors import MedtlError, did_you_mean

#: Name of the file in the folder of a deployed hospital.
HOSPITAL = "hospital.toml"


def is_deployed(folder: Path) -> bool:
    """Returns whether a folder is a deployed hospital's: its file is there, be it a broken link."""
    return os.path.lexists(os.path.join(folder, HOSPITAL))  # noqa: PTH118 - of every message


def read_toml(path: Path, error: type[MedtlError]) -> dict[str, Any]:
    """Returns what a TOML file says.

    Raises:
        MedtlError: it is no file, or not TOML in UTF-8; of the class given.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise error(f"{path} cannot be read: {getattr(fault, 'strerror', None) or fault}") from fault


def table_of(folder: Path, name: str, error: type[MedtlError]) -> dict[str, Any]:
    """Returns one table of a deployed hospital's file, empty where it does not stand there.

    Raises:
        MedtlError: the file cannot be read, or has a word in its place; of the class given.
    """
    table = read_toml(folder / HOSPITAL, error).get(name, {})
    if not isinstance(table, dict):
        raise error(f"{folder / HOSPITAL}: {name!r} must be a table, [{name}]")
    return table


def kinds_of(record: type) -> dict[str, type]:
    """Returns the type of every field of a dataclass, told from its default."""
    return {field.name: type(field.default) for field in fields(record)}


def checked(
    kinds: Mapping[str, type], values: Mapping[str, Any], where: str, error: type[MedtlError]
) -> dict[str, Any]:
    """Returns values by name, each of the type that its name asks for.

    Raises:
        MedtlError: a name is unknown (the nearest known one is suggested) or a value of another type; of the class
            given.
    """
    for key in values:
        if key not in kinds:
            raise error(f"{where} has an unknown word {key!r}; {did_you_mean(key, kinds)}")
    return {key: _typed(f"{where}: {key}", value, kinds[key], error) for key, value in values.items()}


def _typed(what: str, value: Any, kind: type, error: type[MedtlError]) -> Any:
    if kind is tuple and isinstance(value, list) and all(isinstance(word, str) for word in value):
        return tuple(value)
    if kind is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not kind:
        raise error(f"{what}={str(value)[:60]!r} must be a {kind.__name__}")
    return value
