"""One archive with a backbone, its manifest and its licence, for hospitals that cannot fetch it themselves.

The archive is a zip whose files lie in it as they are: what it says it holds is what it takes on the disk.
"""

import stat
import zipfile
from pathlib import Path

from medtl_core.backbones.manifest import BACKBONE_FILES
from medtl_core.backbones.zoo import check_name
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.recipes.installation import install, sha256_of, staging
from medtl_core.store import file_of

_LICENCE = "LICENSE.txt"
#: A manifest and a licence are words; more is no such file.
_MOST_WORDS = 1_000_000
#: Date of every file in an archive, so that equal backbones make equal archives.
_DATE = (1980, 1, 1, 0, 0, 0)


def pack(name: str, folder: Path, archive: Path) -> str:
    """Writes a backbone's archive, whole or not at all; returns its SHA-256.

    Args:
        name: of the backbone own:NAME.
        folder: where it lies; see `zoo.own_folder`.
        archive: a new file.

    Raises:
        ConfigError: its licence is not known to allow passing it on, or the archive is there already.
        WeightsError: the backbone is not here, or not the one that its manifest names.
    """
    stem = folder / check_name(name)
    weights, manifest = file_of(stem, "safetensors"), BACKBONE_FILES.manifest(stem)
    licence, words = manifest.get("licence", "unknown"), manifest.get("licence_text")
    if manifest.get("redistribution") is not True or not words:
        raise ConfigError(
            f"the licence of own:{name} ({licence}) is not known to allow passing the weights on; every hospital "
            f"fetches them itself: medtl backbones fetch {name}"
        )
    if not weights.is_file() or sha256_of(weights) != manifest["sha256"]:
        raise WeightsError(f"{weights} is not the file its manifest names (SHA-256 differs); fetch it again")
    if archive.exists():
        raise ConfigError(f"{archive} is there already; name a new file with --out")
    with staging(archive.absolute().parent) as stage:
        with zipfile.ZipFile(stage / "archive", "w", zipfile.ZIP_STORED) as packed:
            packed.writestr(zipfile.ZipInfo(_LICENCE, _DATE), words)
            for path in (file_of(stem, "json"), weights):
                entry = zipfile.ZipInfo(path.name, _DATE)
                entry.file_size = path.stat().st_size
                with path.open("rb") as source, packed.open(entry, "w") as target:
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
        sha = sha256_of(stage / "archive")
        (stage / "archive").replace(archive)
    return sha


def unpack(archive: Path, folder: Path) -> Path:
    """Installs the backbone of an archive, whole or not at all; returns the weights' place.

    Guarantee:
        Nothing is written outside `folder`, and no more than the archive's own size: a file in it with a path, a link,
        a compressed, encrypted or further file is refused before one is read. Weights are opened as safetensors only.

    Raises:
        WeightsError: it is no such archive, or its weights are not those that its manifest names.
        ConfigError: there is another backbone of that name.
    """
    try:
        with zipfile.ZipFile(archive) as packed, staging(folder) as stage:
            name = _checked(packed, archive)
            for entry in packed.infolist():
                with packed.open(entry) as source, (stage / entry.filename).open("wb") as target:
                    while chunk := source.read(1 << 20):
                        target.write(chunk)
            return install(stage / name, folder)
    except FileNotFoundError as error:
        raise WeightsError(f"there is no archive {archive}") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise WeightsError(f"{archive} is damaged or no archive of a backbone: {error}") from error


def _checked(packed: zipfile.ZipFile, archive: Path) -> str:
    """The name of the backbone in an archive that holds its three files and nothing else."""
    entries = packed.infolist()
    names = sorted(entry.filename for entry in entries)
    stems = [name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors")]
    stem = check_name(stems[0]) if stems else ""
    if names != sorted([_LICENCE, f"{stem}.json", f"{stem}.safetensors"]):
        raise WeightsError(f"{archive} must hold NAME.safetensors, NAME.json and {_LICENCE} and nothing else")
    for entry in entries:
        ours = stat.S_IFMT(entry.external_attr >> 16) in (0, stat.S_IFREG) and not entry.flag_bits & 1
        stored = entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
        words = entry.filename.endswith(".safetensors") or entry.file_size <= _MOST_WORDS
        if not (ours and stored and words):
            raise WeightsError(f"{archive}: {entry.filename} is a link, compressed, encrypted or too large")
    if sum(entry.file_size for entry in entries) > archive.stat().st_size:
        raise WeightsError(f"{archive} says it holds more than its own size")
    return stem
