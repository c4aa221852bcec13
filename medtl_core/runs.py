"""The record of a run: its folder, and the heads it leaves behind.

A run folder holds `config.json`, `versions.json`, `events.jsonl`, `metrics.json`, `report.html` and, for every seed N,
`seed-N/result.json` and `seed-N/heads/NAME.safetensors` with its manifest `NAME.json`. Every file appears whole or not
at all; a run that broke off leaves the file `FAILED` with the reason.
"""

import contextlib
import hashlib
import json
import re
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from medtl_core.atomic import write_bytes, write_json, write_text
from medtl_core.errors import MedtlError, RunError, WeightsError
from medtl_core.versions import versions

if TYPE_CHECKING:
    from medtl_core.values import Head, Packed

#: What the manifests of heads and of models must hold.
_COMMON: Mapping[str, type] = {"kind": str, "classes": list, "fingerprint": str, "sha256": str, "facts": dict}
_HEAD: Mapping[str, type] = {**_COMMON, "features": int}
_MODEL: Mapping[str, type] = {**_COMMON, "config": dict}

#: Name of the marker a broken run leaves in its folder.
FAILED = "FAILED"


@dataclass(frozen=True)
class Run:
    """One run's folder. As a context it marks the run as failed when its body raises.

    Attributes:
        folder: absolute.
    """

    folder: Path

    @property
    def events_path(self) -> Path:
        """Where the run's events go, one JSON object a line."""
        return self.folder / "events.jsonl"

    def seed_folder(self, seed: int) -> Path:
        """Returns the folder of one repetition, made if it is missing."""
        folder = self.folder / f"seed-{seed}"
        folder.mkdir(exist_ok=True)
        return folder

    def begin(self, config: Mapping[str, Any]) -> None:
        """Writes `config.json` and `versions.json`."""
        write_json(self.folder / "config.json", config)
        write_json(self.folder / "versions.json", versions())

    def finish(self, metrics: Mapping[str, Any], page: str) -> None:
        """Writes `metrics.json` and `report.html`."""
        write_json(self.folder / "metrics.json", metrics)
        write_text(self.folder / "report.html", page)

    def fail(self, error: BaseException) -> None:
        """Leaves the marker `FAILED`: an error's own text where it is meant for people, else only where it arose.

        What another library says may quote a cell of a patient's row.
        """
        text = str(error) if isinstance(error, MedtlError) else _place_of(error)
        write_text(self.folder / FAILED, f"{type(error).__name__}: {text}\n")

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:
            # A full or vanished disk must not hide the error that broke the run.
            with contextlib.suppress(OSError):
                self.fail(error)


def _place_of(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    frames = traceback.extract_tb(error.__traceback__)
    return f"raised in {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else "no message"


def create_run(folder: Path) -> Run:
    """Claims a folder for one run and returns it.

    Two runs never share a folder, even when they start at the same moment: the exclusive creation of `events.jsonl`
    decides.

    Raises:
        RunError: the folder holds something already, is a file, or cannot be written.
    """
    folder = Path(folder).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = any(folder.iterdir())
        if not taken:
            (folder / "events.jsonl").open("x").close()
    except FileExistsError:
        taken = True
    except OSError as error:
        raise RunError(
            f"the run folder {folder} cannot be written ({error.strerror}); choose another with --out"
        ) from (error)
    if taken:
        raise RunError(f"the run folder {folder} is already in use; choose a new or an empty one with --out")
    return Run(folder)


def save_head(head: "Head", folder: Path, name: str) -> Path:
    """Writes `NAME.safetensors` and its manifest `NAME.json` into a folder; returns the manifest's path.

    Raises:
        RunError: the name is not a plain file name.
        WeightsError: the head holds numbers that are not finite.
    """
    arrays = {"weight": head.weight, "bias": head.bias}
    _check_arrays(arrays, len(head.classes), f"head {name!r}")
    manifest = {
        "kind": head.kind,
        "classes": list(head.classes),
        "features": int(head.weight.shape[1]),
        "fingerprint": head.fingerprint,
        "facts": head.facts,
    }
    return _save(arrays, manifest, folder, name)


def save_model(packed: "Packed", kind: str, folder: Path, name: str) -> Path:
    """Writes a model as `NAME.safetensors` and `NAME.json`, as `save_head` does; returns the manifest's path.

    Raises:
        RunError: the name is not a plain file name.
        WeightsError: the model holds numbers that are not finite.
    """
    import numpy as np

    for key, array in packed.arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"model {name!r}: {key!r} holds numbers that are not finite; it cannot be used")
    manifest = {
        "kind": kind,
        "classes": list(packed.classes),
        "config": dict(packed.config),
        "fingerprint": packed.fingerprint,
        "facts": packed.facts,
    }
    return _save(packed.arrays, manifest, folder, name)


def _save(arrays: Mapping[str, Any], manifest: Mapping[str, Any], folder: Path, name: str) -> Path:
    import numpy as np
    from safetensors.numpy import save

    if not re.fullmatch(r"[^\W_][\w@ .,+()-]*", name):
        raise RunError(f"head name {name!r} cannot be a file name: use letters, digits, spaces and any of _@.,+()-")
    content = save({key: np.ascontiguousarray(array) for key, array in arrays.items()})
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / f"{name}.safetensors", content)
    sha = hashlib.sha256(content).hexdigest()
    write_json(folder / f"{name}.json", {"schema": 1, **manifest, "sha256": sha})
    return folder / f"{name}.json"


def load_head(path: Path) -> "Head":
    """Returns the head of a manifest `NAME.json`, its `NAME.safetensors`, or the two files' common name.

    Raises:
        WeightsError: a file is missing or damaged, the weights are not the ones the manifest names, or their shape,
            type or values are not those of a head.
    """
    from medtl_core.values import Head

    manifest, arrays, weights = _load(path, _HEAD)
    _check_arrays(arrays, len(manifest["classes"]), str(weights), width=manifest["features"])
    return Head(
        arrays["weight"],
        arrays["bias"],
        manifest["kind"],
        tuple(manifest["classes"]),
        manifest["fingerprint"],
        manifest["facts"],
    )


def load_packed(path: Path) -> "tuple[str, Packed]":
    """Returns the kind and the parts of a model that `save_model` wrote; `federation.registry.unpack` makes it whole.

    Raises:
        WeightsError: as in `load_head`.
    """
    from medtl_core.values import Packed

    manifest, arrays, _ = _load(path, _MODEL)
    classes = tuple(manifest["classes"])
    packed = Packed(arrays, manifest["config"], classes, manifest["fingerprint"], manifest["facts"])
    return manifest["kind"], packed


def is_model(path: Path) -> bool:
    """Says whether the files of that name hold a model and not an affine head.

    Raises:
        WeightsError: there is no readable manifest.
    """
    return "config" in _manifest(_stem(path), {"kind": str})


def _stem(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".json", ".safetensors") else path


def _load(path: Path, types: Mapping[str, type]) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """The manifest, the arrays and the file they came from, which is the one the manifest names."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    stem = _stem(path)
    manifest = _manifest(stem, types)
    weights = stem.with_name(f"{stem.name}.safetensors")
    try:
        content = weights.read_bytes()
    except OSError as error:
        raise WeightsError(f"the weights {weights} cannot be read ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != manifest["sha256"]:
        raise WeightsError(f"{weights} is not the file its manifest names (SHA-256 differs); fetch both files again")
    try:
        return manifest, load(content), weights
    except SafetensorError as error:
        raise WeightsError(f"{weights} is not a safetensors file: {error}") from error


def _manifest(stem: Path, types: Mapping[str, type]) -> dict[str, Any]:
    path = stem.with_name(f"{stem.name}.json")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"the head's manifest {path} cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != 1:
        raise WeightsError(f"{path} is not the manifest of a head that this version of medtl can read")
    for key, kind in types.items():
        if not isinstance(manifest.get(key), kind):
            raise WeightsError(f"the manifest {path} lacks {key!r} as {kind.__name__}")
    return manifest


def _check_arrays(arrays: Mapping[str, Any], classes: int, where: str, width: int | None = None) -> None:
    import numpy as np

    if set(arrays) != {"weight", "bias"}:
        raise WeightsError(f"{where} must hold exactly 'weight' and 'bias', found {sorted(arrays)}")
    weight, bias = arrays["weight"], arrays["bias"]
    columns = weight.shape[1] if width is None and weight.ndim == 2 else width
    if weight.shape != (classes, columns) or bias.shape != (classes,):
        raise WeightsError(
            f"{where}: weight {weight.shape} and bias {bias.shape} do not fit {classes} classes and {columns} features"
        )
    if weight.dtype != np.float64 or bias.dtype != np.float64:
        raise WeightsError(f"{where}: weight is {weight.dtype} and bias is {bias.dtype}; both must be float64")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise WeightsError(f"{where}: the head holds numbers that are not finite; it cannot be used")
