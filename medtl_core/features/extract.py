"""Examples become features: decode, resize, view, run the frozen backbone, average views and pictures of a case.

A worker decodes a few images and runs the backbone over them (`features.forward`), beside others who do the same. Cases
that are no images go through the door of `features.encoders`; the features of all are kept alike.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np

from medtl_core.config import Settings, kind_of
from medtl_core.data import images as data_images
from medtl_core.data.views import views_of_each
from medtl_core.errors import DataError, WeightsError
from medtl_core.features.cache import FeatureCache, Row
from medtl_core.features.encoders import Encoding, encoder_of
from medtl_core.features.forward import Forward, forward
from medtl_core.features.spec import FeatureSpec, Spec, feature_spec
from medtl_core.runtime import processor
from medtl_core.store import cache_folder
from medtl_core.values import Examples, Features, digest

#: Images a worker has between two writes to the cache: what an interrupted run loses, or one pass.
_CHUNK = 64
#: Workers that decode for a GPU.
_FEEDERS = 8
#: Ending of a device whose features are too coarse to stand for others'.
_COARSE = ":bf16"

__all__ = ["FeatureSpec", "Spec", "extract", "feature_spec", "images_of", "read_images"]


def extract(
    examples: Examples, spec: Spec, settings: Settings, *, keys: Sequence[str] | None = None, workers: int = 1
) -> Features:
    """Returns the features of the examples, from the cache where they were computed before.

    An image's features are the same bytes whatever else is in the call, on one machine with one number of torch
    threads. Records that stand side by side have their own rows in the cache, whatever they are joined to.

    Args:
        examples: n cases with the columns that the backbones read.
        spec: from `feature_spec`.
        settings: the same; `cache` says where features are kept.
        keys: `images.content_key` of each image, where a backbone reads them and the caller knows them already.
        workers: images that are worked on at the same time; the number of torch threads stays the caller's business.

    Raises:
        DataError: a case cannot be read, or the examples hold no column that a backbone reads.
        WeightsError: the weights changed since `feature_spec`, or give numbers that are not finite.
        ConfigError: the backbone cannot read images of this size.
    """
    images = images_of(examples) if "image" in settings.kinds else ()
    known = [data_images.content_key(image) if len(image) else "" for image in images] if keys is None else keys

    def read(record: FeatureSpec, chosen: Settings) -> Row:
        if kind_of(record.backbone) != "image":
            return _encoded(examples, record, chosen)
        return _kept(known, images, record, chosen, lambda todo: _computed(todo, record, chosen, workers))

    rows = [read(record, chosen) for record, chosen in spec.parts(settings)]
    return Features(rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1), spec.fingerprint, spec.groups)


def _kept(
    known: Sequence[str],
    cases: Sequence[Any],
    spec: FeatureSpec,
    settings: Settings,
    computed: Callable[[dict[str, Any]], Iterable[dict[str, Row]]],
) -> Row:
    """The features of cases under one backbone, float32 [n, d], from the cache; equal contents are computed once."""
    recipe, width = spec.fingerprint, spec.width
    coarse = [_COARSE] if settings.device.endswith(_COARSE) else []
    keys = [digest([content, recipe, *coarse]) for content in known]
    unique = dict(zip(reversed(keys), reversed(cases), strict=True))
    kept = FeatureCache(cache_folder(settings.cache))
    rows = {key: row for key, row in kept.get_many(unique).items() if row.shape == (width,)}
    rows |= {key: np.zeros(width, np.float32) for key, content in zip(keys, known, strict=True) if not content}
    todo = [key for key in dict.fromkeys(keys) if key not in rows]
    for chunk in computed({key: unique[key] for key in todo}) if todo else ():
        kept.put_many(chunk)
        rows |= chunk
    return np.stack([rows[key] for key in keys]) if keys else np.zeros((0, width), dtype=np.float32)


def images_of(examples: Examples) -> Sequence[Any]:
    """Returns the images of the cases, files or arrays.

    Raises:
        DataError: the cases hold only a table.
    """
    images = data_images.images_of(examples)
    if images is None:
        raise DataError("the cases hold no images; set backbone to what reads them, e.g. table")
    return list(images)


def _computed(
    images: Mapping[str, Any], spec: FeatureSpec, settings: Settings, workers: int
) -> Iterator[dict[str, Row]]:
    """Yields the features of images by key, so many at a time as an interrupted run may lose."""
    run, keys = forward(settings.backbone, settings.weights, spec, processor(settings.device)), list(images)
    if run.fed:
        workers = max(workers, min(os.cpu_count() or 1, _FEEDERS))
    batches = [[images[key] for key in keys[first : first + run.batch]] for first in range(0, len(keys), run.batch)]
    pool = ThreadPoolExecutor(workers, thread_name_prefix="medtl-features")
    try:
        mapped = pool.map if workers > 1 else map
        rows = chain.from_iterable(mapped(lambda batch: read_images(batch, run, spec), batches))
        step = max(_CHUNK // run.batch, 1) * run.batch * workers  # whole passes
        for first in range(0, len(keys), step):
            yield dict(zip(keys[first : first + step], rows, strict=False))
    finally:
        pool.shutdown(cancel_futures=True)


def read_images(images: Sequence[Any], run: Forward, spec: FeatureSpec) -> list[Row]:
    """Returns the features of a few images, files or arrays: means over the views of all pictures of each, float32 [d].

    Raises:
        DataError: an image cannot be decoded.
        WeightsError: the weights give numbers that are not finite.
    """
    import torch

    views = [*map(torch.from_numpy, views_of_each(images, spec.size, spec.views, robust=spec.version > 2))]
    rows = run(torch.cat(views))  # unlike numpy's, this copy lets other threads run meanwhile
    if not bool(rows.isfinite().all()):
        raise WeightsError(f"backbone {spec.backbone!r} gives features that are not finite; check its weights")
    parts = torch.split(rows, [*map(len, views)])
    return [(part.mean(dim=0) if len(part) > 1 else part[0]).numpy() for part in parts]


def _encoded(examples: Examples, spec: FeatureSpec, settings: Settings) -> Row:
    """The features of cases that are no images, float32 [n, d]."""
    encoder, encoding = encoder_of(spec.backbone), Encoding(spec.weights_sha, spec.taps, spec.channels)
    if encoder.column not in examples.columns:
        raise DataError(f"the cases hold no {encoder.column}; set backbone to what reads them, e.g. lite0")
    if not encoder.kept:
        return encoder.rows(examples, encoding, settings)

    def computed(todo: Mapping[str, int]) -> Iterable[dict[str, Row]]:
        for first in range(0, len(todo), _CHUNK):
            keys = [*todo][first : first + _CHUNK]
            cases = examples.take(np.asarray([todo[key] for key in keys]))
            yield dict(zip(keys, encoder.rows(cases, encoding, settings), strict=True))

    keys = [data_images.content_key(np.asarray(cell)) for cell in examples[encoder.column]]
    return _kept(keys, range(len(examples)), spec, settings, computed)
