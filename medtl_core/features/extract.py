"""Examples become features: decode, resize, normalise, view, run the frozen backbone, average the views.

One image with all its views is one forward pass, so its features cannot depend on what else is in the call, and the
batch has one shape. On one thread this is also faster than larger batches (the maps stay in the CPU's cache).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.data.images import content_key, decode
from medtl_core.data.views import square, stacked
from medtl_core.errors import DataError, WeightsError
from medtl_core.features.cache import FeatureCache, default_folder
from medtl_core.features.spec import FeatureSpec, Spec, feature_spec
from medtl_core.values import Examples, Features, digest

if TYPE_CHECKING:
    from torch import Tensor

    from medtl_core.backbones.extractor import Extractor

#: Images between two writes to the cache: what an interrupted run loses at most.
_CHUNK = 64

Row = NDArray[np.float32]
#: Told (images done, images in all) now and then.
Progress = Callable[[int, int], None]

__all__ = ["FeatureSpec", "Spec", "extract", "feature_spec", "images_of"]


def extract(
    examples: Examples,
    spec: Spec,
    settings: Settings,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> Features:
    """Returns the features of the examples, from the cache where they were computed before.

    An image's features are the same bytes whatever else is in the call, on one machine with one number of torch
    threads. A table's features are, column by column, its value (0 if missing) and 1 if it is missing, else 0.
    Several backbones stand side by side, and each has its own rows in the cache, whatever it is joined to.

    Args:
        examples: n cases with a `path`, `image` or `table` column.
        spec: from `feature_spec`.
        settings: the same; `cache` says where features are kept.
        workers: images that are worked on at the same time; the number of torch threads stays the caller's business.
        progress: called with (images done, images in all) now and then; byte-equal images count once.

    Raises:
        DataError: an image cannot be decoded, or the examples hold no column the backbone reads.
        WeightsError: the weights changed since `feature_spec`, or give numbers that are not finite.
        ConfigError: the backbone cannot read images of this size.
    """
    parts = spec.parts(settings)
    rows = []
    for number, (record, chosen) in enumerate(parts):
        rows.append(_rows(examples, record, chosen, workers, _shifted(progress, number, len(parts))))
    values = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
    return Features(values, spec.fingerprint, spec.groups)


def _shifted(progress: Progress | None, number: int, parts: int) -> Progress:
    """Counts the images of earlier backbones as done."""
    if progress is None:
        return lambda done, total: None
    return lambda done, total: progress(number * total + done, parts * total)


def _rows(examples: Examples, spec: FeatureSpec, settings: Settings, workers: int, report: Progress) -> Row:
    """The features of one backbone, float32 [n, d]."""
    if spec.backbone == "table":
        return _table_rows(examples, spec)
    images = images_of(examples)
    fingerprint = spec.fingerprint
    keys = [digest([content_key(image), fingerprint]) for image in images]
    unique = dict(zip(reversed(keys), reversed(images), strict=True))
    cache = FeatureCache(cache_folder(settings.cache))
    rows = {key: row for key, row in cache.get_many(unique).items() if row.shape == (spec.width,)}
    todo = [(key, unique[key]) for key in dict.fromkeys(keys) if key not in rows]
    report(len(rows), len(unique))
    if todo:
        read = _reader(spec, settings)
        for fresh in _computed(todo, read, workers):
            cache.put_many(fresh)
            rows |= fresh
            report(len(rows), len(unique))
    return np.stack([rows[key] for key in keys]) if keys else np.zeros((0, spec.width), dtype=np.float32)


def images_of(examples: Examples) -> Sequence[Any]:
    """Returns the images of the cases, files or arrays.

    Raises:
        DataError: the cases hold only a table.
    """
    for column in ("path", "image"):
        if column in examples.columns:
            return list(examples[column])
    raise DataError("the cases hold no images, only a table; set backbone=table")


def cache_folder(setting: str) -> Path | None:
    """Returns where the setting `cache` keeps features; None = nowhere."""
    if setting == "off":
        return None
    return Path(setting).expanduser() if setting else default_folder()


def _computed(todo: list[tuple[str, Any]], read: Callable[[Any], Row], workers: int) -> Iterator[dict[str, Row]]:
    with _mapping(workers) as mapped:
        for first in range(0, len(todo), _CHUNK):
            chunk = todo[first : first + _CHUNK]
            rows = mapped(read, [image for _, image in chunk])
            yield {key: row for (key, _), row in zip(chunk, rows, strict=True)}


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[..., Any]]:
    if workers <= 1:
        yield map
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="medtl-features") as pool:
        yield pool.map


def _reader(spec: FeatureSpec, settings: Settings) -> Callable[[Any], Row]:
    """Returns the function of one image: a file or an array in, float32 [d] out."""
    import torch

    extractor = _extractor(settings.backbone, settings.weights, spec.weights_sha, spec.taps, spec.pooling)
    # One row of pixels holds size * 3 values, so a plain product runs along memory.
    scale = torch.tensor([1.0 / (255.0 * std) for std in spec.std]).repeat(spec.size)
    shift = torch.tensor([-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)]).repeat(spec.size)

    def read(image: Any) -> Row:
        pixels = torch.from_numpy(stacked(square(decode(image), spec.size), spec.views))
        with torch.inference_mode():
            lines = pixels.view(-1, spec.size * 3).float().mul_(scale).add_(shift)
            # The pixels' own order in memory is the layout ("channels last") the backbone runs fastest in.
            batch = lines.view(pixels.shape).permute(0, 3, 1, 2)
            row: Tensor = extractor(batch).mean(dim=0)
        if not bool(row.isfinite().all()):
            raise WeightsError(f"backbone {settings.backbone!r} gives features that are not finite; check its weights")
        values: Row = row.numpy()
        return values

    return read


_LOADING = threading.Lock()


def _extractor(name: str, weights: str, sha: str, taps: tuple[str, ...], pooling: str) -> "Extractor":
    """Threads that ask at once load one network, not one each."""
    with _LOADING:
        return _loaded(name, weights, sha, taps, pooling)


@lru_cache(maxsize=4)
def _loaded(name: str, weights: str, sha: str, taps: tuple[str, ...], pooling: str) -> "Extractor":
    from medtl_core.backbones.extractor import load_extractor

    extractor = load_extractor(find_backbone(name), weights, taps, pooling)
    if extractor.sha not in ("", sha):
        raise WeightsError(f"the weights of backbone {name!r} changed while the run was starting; start it again")
    return extractor


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
    values = np.stack([filled, missing.astype(np.float32)], axis=2).reshape(len(table), -1)
    if values.shape[1] != spec.width:
        raise DataError(f"the table has {table.shape[1]} columns where {spec.width // 2} were agreed")
    return values
