"""Files that appear whole or not at all, strict JSON, and arrays beside a manifest that holds their SHA-256."""

import fcntl
import hashlib
import json
import math
import os
import re
import secrets
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from medtl_core.errors import MedtlError, RunError, WeightsError

#: What no file's name holds as it is.
_SIGNS = re.compile(r"[^\w@ .,+()-]|^\.")
#: Bytes of a file's name to which an ending and a temporary mark can be added: disks allow 255.
_LONGEST_FILE = 228


def expanded(place: Path | str) -> Path:
    """Returns a place with the user's home for ~; as it is, where the user has none."""
    return Path(os.path.expanduser(place))  # noqa: PTH111 (pathlib's own raises where there is no home)


def cache_folder(setting: str) -> Path | None:
    """Returns where the setting `cache` keeps things: "off" = nowhere, "" = $MEDTL_CACHE or ~/.cache/medtl.

    A user without a home has no cache unless one is named.
    """
    if setting == "off":
        return None
    if named := setting or os.environ.get("MEDTL_CACHE"):
        return expanded(named)
    caches = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return caches / "medtl" if caches.is_absolute() else None


def write_bytes(path: Path, content: bytes, *, mode: int = 0o666, new: bool = False) -> None:
    """Writes a file whole or not at all: into a neighbour first, then renamed over the name.

    Args:
        path: of the file.
        content: all of it.
        mode: permissions before the process's umask; 0o600 = the owner's alone, from the first byte on. Such files are
            keys and records: when this returns, no power cut takes them away again.
        new: whether a file of that name is left as it is.

    Raises:
        OSError: it cannot be written; with `new`, FileExistsError: there is one.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if new:
            path.hardlink_to(temporary)
            temporary.unlink()
        else:
            temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if not mode & 0o077:
        sync_folder(path.parent)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file meanwhile, and waits for other processes that do; the file is made, its owner's alone.

    Raises:
        OSError: the file cannot be made.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes a value as strict JSON, atomically; see `plain` for numpy values and numbers JSON does not know."""
    write_text(path, to_json(value))


def to_json(value: Any) -> str:
    """Returns the text `write_json` writes."""
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
    """Returns a value in JSON's own types: arrays as lists, NaN as null, infinities as the words "inf" and "-inf"."""
    if value is None or isinstance(value, str | int):  # most are
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {math.inf: "inf", -math.inf: "-inf"}.get(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return plain(vars(value)) if is_dataclass(value) else value


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Returns what files of such names, hospitals' for instance, are called on any disk, by name.

    Letters, digits, spaces and _@.,+()- stay, every other sign and a first dot is percent-encoded. A name too long for
    a disk is cut, and names that a disk may take for one (it may not tell capitals) are told apart by a hash.

    Example:
        >>> file_names(["local@King's College"])["local@King's College"]
        'local@King%27s College'
        >>> sorted(file_names(["north", "North"]).values())
        ['North~43f853bb', 'north~dc365e79']
    """
    encoded = {
        name: _SIGNS.sub(lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode()), name) for name in names
    }
    alike = Counter(map(_folded, encoded.values()))
    files = {}
    for name, file in encoded.items():
        unlike = alike[_folded(file)] == 1 and len(file.encode()) <= _LONGEST_FILE
        mark = hashlib.sha256(name.encode()).hexdigest()[:8]  # no sign stays a tilde, so that a mark is one
        files[name] = file if unlike else f"{file.encode()[: _LONGEST_FILE - 9].decode(errors='ignore')}~{mark}"
    return files


def _folded(file: str) -> str:
    """What names have in common that a disk may take for one."""
    return unicodedata.normalize("NFC", file.casefold())


def file_of(stem: Path, suffix: str) -> Path:
    """Returns one of the two files of a common name, in which dots may stand."""
    return stem.parent / f"{stem.name}.{suffix}"


def stem_of(path: Path) -> Path:
    """Returns the common name of a manifest or its weights."""
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


@dataclass(frozen=True)
class ArrayStore:
    """How one kind of arrays lies on disk: NAME.safetensors, and NAME.json, which says what they are.

    Attributes:
        what: the kind, for messages, which end in `remedy`.
        entries: what a manifest must hold beside "schema" (its version) and "sha256".
        mode: permissions of the files; whoever may read them may enter a folder that is made for them.
    """

    what: str
    entries: Mapping[str, type] = field(default_factory=dict)
    remedy: str = "fetch both files again"
    schema: int = 1
    error: type[MedtlError] = WeightsError
    mode: int = 0o666

    def write(self, stem: Path, arrays: Mapping[str, Any], manifest: Mapping[str, Any]) -> Path:
        """Writes arrays and manifest, into a folder that is made if need be; returns the manifest's path.

        Raises:
            MedtlError: an array holds numbers that are not finite, or the files cannot be written.
        """
        import numpy as np
        from safetensors.numpy import save

        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise self.error(f"{self.what} {stem.name!r}: {name!r} holds numbers that are not finite; not written")
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        sealed = {"schema": self.schema, **manifest, "sha256": hashlib.sha256(content).hexdigest()}
        try:
            stem.parent.mkdir(mode=self.mode | (self.mode & 0o444) >> 2, parents=True, exist_ok=True)
            file_of(stem, "json").unlink(missing_ok=True)  # so that no manifest ever calls other weights its own
            write_bytes(file_of(stem, "safetensors"), content, mode=self.mode)
            write_bytes(file_of(stem, "json"), to_json(sealed).encode(), mode=self.mode)
        except OSError as error:
            place = f"the {self.what} {stem} cannot be written ({error.strerror})"
            raise self.error(f"{place}; make room, or choose a folder that this process may write") from error
        return file_of(stem, "json")

    def read(self, stem: Path) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the manifest and the arrays, which are the ones that it names.

        Raises:
            MedtlError: a file is missing, damaged, or of another kind.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        manifest, path = self.manifest(stem), file_of(stem, "safetensors")
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == manifest["sha256"]:
                return manifest, load(content)
        except OSError as error:
            raise self.error(f"the {self.what} {path} cannot be read ({error.strerror}); {self.remedy}") from error
        except SafetensorError as error:
            raise self.error(f"{path} is not a safetensors file: {error}; {self.remedy}") from error
        raise self.error(f"{path} is not the file its manifest names (SHA-256 differs); {self.remedy}")

    def manifest(self, stem: Path) -> dict[str, Any]:
        """Returns the manifest alone.

        Raises:
            MedtlError: it is missing, damaged, or of another kind.
        """
        path = file_of(stem, "json")
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise self.error(f"the manifest {path} cannot be read: {error}; {self.remedy}") from error
        if not isinstance(manifest, dict) or manifest.get("schema") != self.schema:
            raise self.error(
                f"{path} is not the manifest of a {self.what} that this version of medtl can read; {self.remedy}"
            )
        for key, kind in {**self.entries, "sha256": str}.items():
            if not isinstance(manifest.get(key), kind):
                raise self.error(f"the manifest {path} lacks {key!r} as {kind.__name__}; {self.remedy}")
        return manifest
