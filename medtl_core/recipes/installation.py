"""Putting a backbone where runs find it: checked beside its place, then moved there, whole or not at all."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medtl_core.backbones.manifest import BACKBONE_FILES
from medtl_core.backbones.zoo import backbone_file
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.store import file_of


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def installed_from(stem: Path) -> str:
    """Returns the SHA-256 of the file that an installed backbone was made of; "" where there is none, or it is damaged.

    Raises:
        WeightsError: the weights lie there without a manifest that can be read.
    """
    weights = file_of(stem, "safetensors")
    if not weights.exists():
        return ""
    facts = BACKBONE_FILES.manifest(stem)
    return str(facts.get("source_sha256", "")) if sha256_of(weights) == facts["sha256"] else ""


def check_free(stem: Path) -> None:
    """Refuses to write over a backbone.

    Raises:
        ConfigError: there is one.
    """
    if file_of(stem, "safetensors").exists():
        raise ConfigError(f"{stem} is a backbone already; remove it first, or choose another folder with --to")


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Yields an empty folder on the disk of another, which is made if need be; it is gone afterwards.

    Raises:
        WeightsError: the disk does not take what is written meanwhile.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder) as stage:
            yield Path(stage)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WeightsError(f"{folder} cannot be written ({reason}); make room, or choose another with --to") from error


def install(stem: Path, folder: Path) -> Path:
    """Moves checked weights and their manifest into a folder; returns the weights' place.

    The weights come last: a manifest without them is no backbone, so that nothing is ever half there.

    Args:
        stem: common name of both files, on the same disk.
        folder: of backbones, see `zoo.own_folder`.

    Raises:
        WeightsError: they are not what the manifest says, not of its architecture, or hold numbers that are not finite.
        ConfigError: the architecture is unknown, or there is another backbone of that name.
    """
    from medtl_core.backbones.networks import load_network

    target = folder / stem.name
    check_free(target)
    load_network(backbone_file(f"own:{stem.name}", file_of(stem, "safetensors")))
    for suffix in ("json", "safetensors"):
        file_of(stem, suffix).replace(file_of(target, suffix))
    return file_of(target, "safetensors")
