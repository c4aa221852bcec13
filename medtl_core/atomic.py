"""Files that appear whole or not at all, and strict JSON."""

import json
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtl_core.errors import RunError


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Writes a file whole or not at all: into a neighbour first, then renamed over the name.

    `mode` are its permissions before the process's umask; 0o600 = the owner's alone, from the first byte on.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a value as strict JSON, atomically; see `plain` for numpy values and numbers JSON does not know."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """Returns the text `write_json` writes.

    Example:
        >>> to_json({"auroc": float("nan")})
        '{\\n  "auroc": null\\n}\\n'
    """
    return json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def read_json(path: Path) -> Any:
    """Returns the value of a JSON file.

    Raises:
        RunError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(f"{path} is missing; is {path.parent} the folder of a finished run?") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as JSON: {error}") from error


def plain(value: Any) -> Any:
    """Returns a value in JSON's own types: arrays as lists, NaN as null, infinities as the words "inf" and "-inf".

    Example:
        >>> plain({"epsilon": float("inf"), "sites": ("a", "b")})
        {'epsilon': 'inf', 'sites': ['a', 'b']}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
