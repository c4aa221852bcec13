"""Classifiers on disk: `NAME.safetensors` with its manifest `NAME.json`, an affine head or a model of another kind."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medtl_core.errors import RunError, WeightsError
from medtl_core.store import ArrayStore, stem_of
from medtl_core.values import Array, Head, Packed

_COMMON: Mapping[str, type] = {"kind": str, "classes": list, "fingerprint": str, "facts": dict}
_HEADS = ArrayStore("head", {**_COMMON, "features": int})
_MODELS = ArrayStore("model", {**_COMMON, "config": dict})


def save_head(head: Head, folder: Path, name: str) -> Path:
    """Writes a head into a folder, which is made if need be; returns the manifest's path.

    Raises:
        RunError: the name is not a plain file name.
        WeightsError: the head is none, holds numbers that are not finite, or cannot be written.
    """
    arrays = {"weight": head.weight, "bias": head.bias}
    width = head.weight.shape[-1]
    _check_arrays(arrays, len(head.classes), width, f"head {name!r}")
    about = {"features": width, "fingerprint": head.fingerprint, "facts": head.facts}
    return _HEADS.write(_stem(folder, name), arrays, {"kind": head.kind, "classes": list(head.classes), **about})


def save_model(packed: Packed, kind: str, folder: Path, name: str) -> Path:
    """Writes a model, and raises, as `save_head` does."""
    about = {"config": dict(packed.config), "fingerprint": packed.fingerprint, "facts": packed.facts}
    return _MODELS.write(_stem(folder, name), packed.arrays, {"kind": kind, "classes": list(packed.classes), **about})


def load_head(path: Path) -> Head:
    """Returns the head of a manifest `NAME.json`, its `NAME.safetensors`, or the two files' common name.

    Raises:
        WeightsError: a file is missing or damaged, the weights are not the ones the manifest names, or their shape,
            type or values are not those of a head.
    """
    manifest, arrays = _HEADS.read(stem_of(path))
    _check_arrays(arrays, len(manifest["classes"]), manifest["features"], str(stem_of(path)))
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
    if not name.isprintable() or {"/", "\\"} & set(name) or name[:1] in ("", "."):
        raise RunError(f"head name {name!r} cannot be a file name: name a file, without a folder or a first dot")
    return folder / name


def _check_arrays(arrays: Mapping[str, Array], classes: int, width: int, where: str) -> None:
    needed = {"weight": ((classes, width), "float64"), "bias": ((classes,), "float64")}
    actual = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    if actual != needed:
        raise WeightsError(f"{where}: its arrays {actual} do not fit the head that it should be, {needed}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise WeightsError(f"{where}: the head holds numbers that are not finite; it cannot be used")
