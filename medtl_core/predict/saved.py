"""Classifiers on disk: `NAME.safetensors` with its manifest `NAME.json`, an affine head or a model of another kind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.errors import RunError, WeightsError
from medtl_core.predict.outliers import PREFIX, Outliers
from medtl_core.store import ArrayStore, file_of, stem_of
from medtl_core.values import Array, Head, Packed

_COMMON: Mapping[str, type] = {"kind": str, "classes": list, "fingerprint": str, "facts": dict}
_HEADS = ArrayStore("head", {**_COMMON, "features": int})
#: Version 2 holds distances to the training cases as well; what reads version 1 alone refuses it.
_FARTHER = replace(_HEADS, schema=2)
#: Heads that are named of a folder's.
_NAMED = 3
_MODELS = ArrayStore("model", {**_COMMON, "config": dict})
#: Heads named where one is not there.
_SHOWN = 8


def save_head(head: Head, folder: Path, name: str, outliers: Outliers | None = None) -> Path:
    """Writes a head into a folder, which is made if need be; returns the manifest's path.

    Raises:
        RunError: the name is not a plain file name.
        WeightsError: the head is none, holds numbers that are not finite, or cannot be written.
    """
    arrays = {"weight": head.weight, "bias": head.bias}
    width = head.weight.shape[-1]
    _check_arrays(arrays, len(head.classes), width, f"head {name!r}")
    facts = {**head.facts, "outliers": outliers.facts} if outliers else head.facts
    about = {"features": width, "fingerprint": head.fingerprint, "facts": facts}
    manifest = {"kind": head.kind, "classes": list(head.classes), **about}
    beside = outliers.arrays if outliers else {}
    return (_FARTHER if outliers else _HEADS).write(_stem(folder, name), {**arrays, **beside}, manifest)


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
    return load_whole(path)[0]


def load_whole(path: Path) -> tuple[Head, Outliers | None]:
    """Returns a head, and what tells cases unlike its training cases; None where it was saved without.

    Raises:
        WeightsError: as in `load_head`.
    """
    manifest, arrays = (_FARTHER if _schema(path) == _FARTHER.schema else _HEADS).read(stem_of(path))
    _check_names(manifest["classes"], path)
    own = {name: array for name, array in arrays.items() if not name.startswith(PREFIX)}
    width, facts = manifest["features"], dict(manifest["facts"])
    about = facts.pop("outliers", {})  # of these arrays, and of no head that is made of this one
    _check_arrays(own, len(manifest["classes"]), width, str(stem_of(path)))
    beside = {name: array for name, array in arrays.items() if name not in own}
    told = tuple(manifest["classes"]), manifest["fingerprint"], facts
    head = Head(own["weight"], own["bias"], manifest["kind"], *told)
    return head, Outliers.of(about, beside, width)


def load_packed(path: Path) -> tuple[str, Packed]:
    """Returns the kind and the parts of a model that `save_model` wrote; `federation.registry.unpack` makes it whole.

    Raises:
        WeightsError: as in `load_head`.
    """
    manifest, arrays = _MODELS.read(stem_of(path))
    _check_names(manifest["classes"], path)
    classes, facts = tuple(manifest["classes"]), manifest["facts"]
    return manifest["kind"], Packed(arrays, manifest["config"], classes, manifest["fingerprint"], facts)


def is_model(path: Path) -> bool:
    """Says whether the files of that name hold a model and not an affine head.

    Raises:
        WeightsError: there is no readable manifest, or the name is that of a folder.
    """
    if path.is_dir() and not file_of(stem_of(path), "json").is_file():
        heads = sorted(
            str(stem_of(file)) for file in path.rglob("*.safetensors") if file.with_suffix(".json").is_file()
        )
        more = f" and {len(heads) - _NAMED} more" if len(heads) > _NAMED else ""
        held = f"name one of its heads: {', '.join(heads[:_NAMED])}{more}" if heads else "there is no head in it"
        raise WeightsError(f"{path} is a folder; {held}")
    return "config" in ArrayStore("head", {"kind": str}, schema=_schema(path)).manifest(stem_of(path))


def _schema(path: Path) -> int:
    """The version of a manifest that is a later one than the first; reading it says what is wrong with others."""
    try:
        manifest = json.loads(file_of(stem_of(path), "json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _no_head(path) from None
    except (OSError, ValueError, RecursionError):
        return _HEADS.schema
    known = isinstance(manifest, dict) and manifest.get("schema") == _FARTHER.schema
    return _FARTHER.schema if known else _HEADS.schema


def _no_head(path: Path) -> WeightsError:
    """The error of a head that is not there, with those that are near."""
    place = path if path.is_dir() else path.parent
    files = [file for way in ("", "heads/", "*/heads/") for file in place.glob(f"{way}*.safetensors")]
    heads = sorted(str(file.relative_to(place).with_suffix("")) for file in files)
    there = f"in {place} are {', '.join(heads[:_SHOWN])}{' ...' if heads[_SHOWN:] else ''}"
    return WeightsError(f"there is no head {path}; {there if heads else 'a run keeps its own in RUN/seed-0/heads'}")


def _stem(folder: Path, name: str) -> Path:
    if not name.isprintable() or {"/", "\\"} & set(name) or name[:1] in ("", "."):
        raise RunError(f"head name {name!r} cannot be a file name: name a file, without a folder or a first dot")
    return folder / name


def _check_names(classes: Sequence[Any], path: Path) -> None:
    if not all(isinstance(name, str) and name for name in classes) or len({*classes}) < len(classes):
        raise WeightsError(f"the manifest of {path} does not name each class once; fetch both files again")


def _check_arrays(arrays: Mapping[str, Array], classes: int, width: int, where: str) -> None:
    needed = {"weight": ((classes, width), "float64"), "bias": ((classes,), "float64")}
    actual = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    if actual != needed:
        raise WeightsError(f"{where}: its arrays {actual} do not fit the head that it should be, {needed}")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise WeightsError(f"{where}: the head holds numbers that are not finite; it cannot be used")
