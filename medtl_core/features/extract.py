"""Examples become features: decode, resize, normalise, view, run the frozen backbone, average the views.

One image with all its views is one forward pass, so its features cannot depend on what else is in the call, and the
batch has one shape. On one thread this is also faster than larger batches (the maps stay in the CPU's cache).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.data import images as data_images
from medtl_core.data.views import normalised, views_of
from medtl_core.errors import DataError, WeightsError
from medtl_core.features.cache import FeatureCache, Row
from medtl_core.features.spec import FeatureSpec, Spec, feature_spec
from medtl_core.store import cache_folder
from medtl_core.values import Examples, Features, digest

if TYPE_CHECKING:
    from torch import Tensor

    from medtl_core.backbones.extractor import Extractor

#: Images between two writes to the cache: what an interrupted run loses at most.
_CHUNK = 64

__all__ = ["FeatureSpec", "Spec", "extract", "feature_spec", "images_of"]


def extract(
    examples: Examples,
    spec: Spec,
    settings: Settings,
    *,
    keys: Sequence[str] | None = None,
    workers: int = 1,
) -> Features:
    """Returns the features of the examples, from the cache where they were computed before.

    An image's features are the same bytes whatever else is in the call, on one machine with one number of torch
    threads. A table's are, column by column, its value (0 if missing) and 1 if it is missing, else 0. Records that
    stand side by side have their own rows in the cache, whatever they are joined to.

    Args:
        examples: n cases with a `path`, `image` or `table` column.
        spec: from `feature_spec`.
        settings: the same; `cache` says where features are kept.
        keys: `images.content_key` of each image, where the caller knows them already.
        workers: images that are worked on at the same time; the number of torch threads stays the caller's business.

    Raises:
        DataError: an image cannot be decoded, or the examples hold no column the backbone reads.
        WeightsError: the weights changed since `feature_spec`, or give numbers that are not finite.
        ConfigError: the backbone cannot read images of this size.
    """
    parts = spec.parts(settings)
    images = images_of(examples) if any(record.backbone != "table" for record, _ in parts) else ()
    known = [data_images.content_key(image) for image in images] if keys is None else keys
    rows = [
        _table_rows(examples, record) if record.backbone == "table" else _rows(known, images, record, chosen, workers)
        for record, chosen in parts
    ]
    return Features(rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1), spec.fingerprint, spec.groups)


def _rows(known: Sequence[str], images: Sequence[Any], spec: FeatureSpec, settings: Settings, workers: int) -> Row:
    """The features of images under one backbone, float32 [n, d]; byte-equal images are computed once."""
    recipe, width = spec.fingerprint, spec.width
    keys = [digest([content, recipe]) for content in known]
    unique = dict(zip(reversed(keys), reversed(images), strict=True))
    kept = FeatureCache(cache_folder(settings.cache))
    rows = {key: row for key, row in kept.get_many(unique).items() if row.shape == (width,)}
    todo = [key for key in dict.fromkeys(keys) if key not in rows]
    with _mapping(workers) as mapped:
        read = _reader(spec, settings) if todo else None
        for first in range(0, len(todo), _CHUNK):
            chunk = todo[first : first + _CHUNK]
            fresh = dict(zip(chunk, mapped(read, [unique[key] for key in chunk]), strict=True))
            kept.put_many(fresh)
            rows |= fresh
    return np.stack([rows[key] for key in keys]) if keys else np.zeros((0, width), dtype=np.float32)


def images_of(examples: Examples) -> Sequence[Any]:
    """Returns the images of the cases, files or arrays.

    Raises:
        DataError: the cases hold only a table.
    """
    images = data_images.images_of(examples)
    if images is None:
        raise DataError("the cases hold no images, only a table; set backbone=table")
    return list(images)


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Any]]:
    if workers <= 1:
        yield map
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="medtl-features") as pool:
        yield pool.map


def _reader(spec: FeatureSpec, settings: Settings) -> Callable[[Any], Row]:
    """What makes of an image, a file or an array, the mean features of its views, float32 [d]."""
    import torch

    with _LOADING:
        extractor = _loaded(settings.backbone, settings.weights, spec.weights_sha, spec.taps, spec.pooling)

    def read(image: Any) -> Row:
        pixels = torch.from_numpy(views_of(image, spec.size, spec.views, robust=spec.version > 2))
        with torch.inference_mode():
            row: Tensor = extractor(normalised(pixels, spec.mean, spec.std)).mean(dim=0)
        if not bool(row.isfinite().all()):
            raise WeightsError(f"backbone {settings.backbone!r} gives features that are not finite; check its weights")
        values: Row = row.numpy()
        return values

    return read


def load_agreed(name: str, weights: str, sha: str, taps: tuple[str, ...], pooling: str) -> "Extractor":
    """Returns the extractor of a backbone's name and setting `weights`, loaded anew; the rest as in a `FeatureSpec`.

    Raises:
        WeightsError: the weights changed since `feature_spec`.
    """
    from medtl_core.backbones.extractor import load_extractor

    extractor = load_extractor(find_backbone(name), weights, taps, pooling)
    if extractor.sha not in ("", sha):
        raise WeightsError(f"the weights of backbone {name!r} changed while the run was starting; start it again")
    return extractor


#: Loaded networks are pure functions of their names and stay for the process; threads that ask at once load one.
_LOADING = threading.Lock()
_loaded = lru_cache(maxsize=4)(load_agreed)


def _table_rows(examples: Examples, spec: FeatureSpec) -> Row:
    if "table" not in examples.columns:
        raise DataError("the cases hold images, not a table; choose an image backbone, e.g. backbone=lite0")
    table = np.asarray(examples["table"], dtype=np.float64)
    missing = np.isnan(table)
    with np.errstate(over="ignore"):
        filled = np.where(missing, 0.0, table).astype(np.float32)
    if not np.isfinite(filled).all():
        column = int(np.flatnonzero(~np.isfinite(filled).all(axis=0))[0])
        raise DataError(f"table column {column} holds values too large for float32; rescale it")
    values = np.stack([filled, missing.astype(np.float32)], axis=2).reshape(len(table), 2 * table.shape[1])
    if values.shape[1] != spec.width:
        raise DataError(f"the table has {table.shape[1]} columns where {spec.width // 2} were agreed")
    return values
