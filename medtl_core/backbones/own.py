"""The user's own backbones: safetensors files in one folder, each with its manifest, named `own:NAME`.

A hospital that shall use one puts the two files into the same folder there; equal weights have equal fingerprints.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medtl_core.errors import ConfigError, RunError, WeightsError, did_you_mean
from medtl_core.store import write_sealed, write_text

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def own_folder() -> Path:
    """Returns $MEDTL_HOME/backbones, or medtl/backbones below $XDG_DATA_HOME or ~/.local/share."""
    home = os.environ.get("MEDTL_HOME")
    if home:
        return Path(home).expanduser() / "backbones"
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "medtl" / "backbones"


def own_names() -> tuple[str, ...]:
    """Returns the names of the registered backbones, without "own:"."""
    return tuple(sorted(path.stem for path in own_folder().glob("*.safetensors") if _NAME.fullmatch(path.stem)))


def own_file(name: str) -> Path:
    """Returns the weights file of a registered backbone.

    Raises:
        ConfigError: the word cannot be a name.
        WeightsError: no backbone of that name is registered here.
    """
    path = own_folder() / f"{check_name(name)}.safetensors"
    if path.is_file():
        return path
    known = own_names()
    hint = did_you_mean(name, known) if known else "none is registered"
    raise WeightsError(
        f"own:{name} is not registered in {own_folder()}; {hint}. `medtl pretrain` makes one; from another machine "
        f"bring {path.name} and {path.stem}.json into that folder"
    )


def check_name(name: str) -> str:
    """Returns a name that can stand behind "own:".

    Raises:
        ConfigError: it cannot.

    Example:
        >>> check_name("lite0-kermany")
        'lite0-kermany'
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a backbone: use letters, digits, dots, dashes and underscores")
    return name


def register(name: str, content: bytes, manifest: Mapping[str, Any]) -> Path:
    """Puts weights and manifest into the user's folder, over an older backbone of the name; returns the weights file.

    The folder's SHA256SUMS names every file, so that a damaged or exchanged one is refused when it is read.

    Raises:
        ConfigError: the word cannot be a name.
        RunError: the folder cannot be written.
    """
    folder, stem = own_folder(), check_name(name)
    path = folder / f"{stem}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sealed = write_sealed(folder / stem, content, manifest)
        write_text(folder / "SHA256SUMS", _sums(folder, {path.name: sealed["sha256"]}))
    except OSError as error:
        raise RunError(f"{folder} cannot be written ({error.strerror}); set MEDTL_HOME to another folder") from error
    return path


def _sums(folder: Path, fresh: Mapping[str, str]) -> str:
    """The lines of SHA256SUMS: those that stand there already, of files that are still there, and the fresh ones."""
    place = folder / "SHA256SUMS"
    old = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
    pairs = {words[1].lstrip("*"): words[0] for line in old if len(words := line.split()) == 2}
    kept = {name: digest for name, digest in pairs.items() if (folder / name).is_file()}
    return "".join(f"{digest}  {name}\n" for name, digest in sorted({**kept, **fresh}.items()))
