"""Classifiers on disk: `NAME.safetensors` with its manifest `NAME.json`, an affine head or a model of another kind."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.errors import RunError, WeightsError
from medtl_core.store import ArrayStore, stem_of
from medtl_core.values import Head, Packed

_COMMON: Mapping[str, type] = {"kind": str, "classes": list, "fingerprint": str, "facts": dict}
_HEADS = ArrayStore("head", {**_COMMON, "features": int})
_MODELS = ArrayStore("model", {**_COMMON, "config": dict})


def save_head(head: Head, folder: Path, name: str) -> Path:
    """Writes a head into a folder, which is made if need be; returns the manifest's path.

    Raises:
        RunError: the name is not a plain file name.
        WeightsError: the head holds numbers that are not finite, or cannot be written.
    """
    arrays = {"weight": head.weight, "bias": head.bias}
    _check_arrays(arrays, len(head.classes), f"head {name!r}")
    about = {"features": int(head.weight.shape[1]), "fingerprint": head.fingerprint, "facts": head.facts}
    return _HEADS.write(_stem(folder, name), arrays, {"kind": head.kind, "classes": list(head.classes), **about})


def save_model(packed: Packed, kind: str, folder: Path, name: str) -> Path:
    """Writes a model, as `save_head` does.

    Raises:
        RunError, WeightsError: as `save_head`.
    """
    about = {"config": dict(packed.config), "fingerprint": packed.fingerprint, "facts": packed.facts}
    return _MODELS.write(_stem(folder, name), packed.arrays, {"kind": kind, "classes": list(packed.classes), **about})


def load_head(path: Path) -> Head:
    """Returns the head of a manifest `NAME.json`, its `NAME.safetensors`, or the two files' common name.

    Raises:
        WeightsError: a file is missing or damaged, the weights are not the ones the manifest names, or their shape,
            type or values are not those of a head.
    """
    manifest, arrays = _HEADS.read(stem_of(path))
    _check_arrays(arrays, len(manifest["classes"]), str(stem_of(path)), width=manifest["features"])
    classes, facts = tuple(manifest["classes"]), manifest["facts"]
    return Head(arrays["weight"], arrays["bias"], manifest["kind"], classes, manifest["fingerprint"], facts)


def load_packed(path: Path) -> tuple[str, Packed]:
    """Returns the kind and the parts of a model that `save_model` wrote; `federation.registry.unpack` makes it whole.

    Raises:
        WeightsError: as in `load_head`.
    """
    manifest, arrays = _MODELS.read(stem_of(path))
    classes, facts = tuple(manifest["classes"]), manifest["facts"]
    return manifest["kind"], Packed(arrays, manifest["config"], classes, manifest["fingerprint"], facts)


def is_model(path: Path) -> bool:
    """Says whether the files of that name hold a model and not an affine head.

    Raises:
        WeightsError: there is no readable manifest.
    """
    return "config" in ArrayStore("head", {"kind": str}).manifest(stem_of(path))


def _stem(folder: Path, name: str) -> Path:
    if not re.fullmatch(r"[^\W_][\w@ .,+()-]*", name):
        raise RunError(f"head name {name!r} cannot be a file name: use letters, digits, spaces and any of _@.,+()-")
    return folder / name


def _check_arrays(arrays: Mapping[str, Any], classes: int, where: str, width: int | None = None) -> None:
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
