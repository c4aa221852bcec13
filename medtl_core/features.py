"""Examples become features: decode, resize, normalise, view, run the frozen backbone, average the views.

One image with all its views is one forward pass, so its features cannot depend on what else is in the call, and the
batch has one shape. On one thread this is also faster than larger batches (the maps stay in the CPU's cache).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.weights import check_early, weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cache import FeatureCache, default_folder
from medtl_core.config import Settings
from medtl_core.data.images import content_key, decode
from medtl_core.errors import ConfigError, DataError, WeightsError, did_you_mean
from medtl_core.values import Examples, Features, digest
from medtl_core.views import VIEWS, square, stacked

if TYPE_CHECKING:
    from torch import Tensor

    from medtl_core.backbones.extractor import Extractor

#: Raised when the same settings begin to give other features; it is part of every fingerprint.
VERSION = 1
#: Side of "plain" features; enough for one middle tap, and five times faster than 224 (METHODS section 10).
_PLAIN_SIZE = 128
_SMALLEST = 32
#: Images between two writes to the cache: what an interrupted run loses at most.
_CHUNK = 64

Row = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that decides the features of an image, and nothing of where files lie.

    Attributes:
        backbone: architecture, e.g. "timm:tf_efficientnet_lite0"; "table" for tables.
        weights_sha: names the weights.
        taps: in order of depth.
        channels: of each tap.
        pooling: "mean" or "mean+std" over the positions of a tap.
        size: side of the square input in pixels.
        mean, std: of the normalisation.
        views: names of the views whose features are averaged.
    """

    backbone: str
    weights_sha: str
    taps: tuple[str, ...]
    channels: tuple[int, ...]
    pooling: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    views: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the record: equal fingerprints mean that features may be mixed."""
        return digest({**vars(self), "version": VERSION})

    @property
    def groups(self) -> tuple[tuple[str, int, int], ...]:
        """(tap, start, stop) of each tap's columns: its means, then its standard deviations."""
        groups, start = [], 0
        for tap, channels in zip(self.taps, self.channels, strict=True):
            stop = start + channels * (2 if self.pooling == "mean+std" else 1)
            groups.append((tap, start, stop))
            start = stop
        return tuple(groups)

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.groups[-1][2]


def feature_spec(settings: Settings, entry_views: tuple[str, ...], columns: int = 0) -> FeatureSpec:
    """Returns what the settings mean for a data set, without running or importing torch.

    "rich" joins the backbone's middle taps by mean and standard deviation over its views at full size (METHODS
    section 12); "plain" is one tap, its mean, one view, 128 pixels; "4+10" names taps, otherwise as "rich".

    Args:
        settings: `backbone`, `weights`, `features`, `image_size` and `views` are read.
        entry_views: label-preserving views of the data set, from its catalog entry.
        columns: of the table, if `backbone` is "table".

    Raises:
        ConfigError: a backbone, tap or view is unknown, or the images would be too small.
        WeightsError: the weights are not on this machine.
    """
    if settings.backbone == "table":
        return FeatureSpec("table", "", ("table",), (2 * columns,), "mean", 0, (), (), ())
    check_early(settings.backbone, settings.weights)
    backbone = find_backbone(settings.backbone)
    plain = settings.features == "plain"
    size = settings.image_size or (_PLAIN_SIZE if plain else backbone.size)
    if size < _SMALLEST:
        raise ConfigError(f"image-size={size} is too small; a backbone needs at least {_SMALLEST} pixels")
    views = ("identity",) if plain or settings.views == "one" or not entry_views else entry_views
    for view in views:
        if view not in VIEWS:
            raise ConfigError(f"view {view!r} is not known; {did_you_mean(view, VIEWS)}")
    taps = _taps(backbone, settings.features)
    return FeatureSpec(
        backbone=backbone.identity,
        weights_sha=weights_sha(backbone, settings.weights),
        taps=taps,
        channels=tuple(backbone.channels[tap] for tap in taps),
        pooling="mean" if plain else "mean+std",
        size=size,
        mean=backbone.mean,
        std=backbone.std,
        views=views,
    )


def extract(
    examples: Examples,
    spec: FeatureSpec,
    settings: Settings,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Returns the features of the examples, from the cache where they were computed before.

    An image's features are the same bytes whatever else is in the call, on one machine with one number of torch
    threads. A table's features are, column by column, its value (0 if missing) and 1 if it is missing, else 0.

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
    if spec.backbone == "table":
        return _table_features(examples, spec)
    images = _images(examples)
    fingerprint = spec.fingerprint
    keys = [digest([content_key(image), fingerprint]) for image in images]
    unique = dict(zip(reversed(keys), reversed(images), strict=True))
    cache = FeatureCache(_cache_folder(settings.cache))
    rows = {key: row for key, row in cache.get_many(unique).items() if row.shape == (spec.width,)}
    todo = [(key, unique[key]) for key in dict.fromkeys(keys) if key not in rows]
    report = progress or (lambda done, total: None)
    report(len(rows), len(unique))
    if todo:
        read = _reader(spec, settings)
        for fresh in _computed(todo, read, workers):
            cache.put_many(fresh)
            rows |= fresh
            report(len(rows), len(unique))
    values = np.stack([rows[key] for key in keys]) if keys else np.zeros((0, spec.width), dtype=np.float32)
    return Features(values, spec.fingerprint, spec.groups)


def _taps(backbone: Backbone, features: str) -> tuple[str, ...]:
    if features in ("rich", "plain"):
        return backbone.rich if features == "rich" else backbone.plain
    asked = features.split("+")
    for tap in asked:
        if tap not in backbone.taps:
            raise ConfigError(
                f"features={features!r}: backbone {backbone.name!r} has no tap {tap!r}; "
                f"{did_you_mean(tap, ['rich', 'plain', *backbone.taps])}"
            )
    if len(set(asked)) != len(asked):
        raise ConfigError(f"features={features!r} names a tap twice")
    return tuple(tap for tap in backbone.taps if tap in asked)


def _images(examples: Examples) -> Sequence[Any]:
    for column in ("path", "image"):
        if column in examples.columns:
            return list(examples[column])
    raise DataError("the cases hold no images, only a table; set backbone=table")


def _cache_folder(setting: str) -> Path | None:
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


@lru_cache(maxsize=2)
def _loaded(name: str, weights: str, sha: str, taps: tuple[str, ...], pooling: str) -> "Extractor":
    from medtl_core.backbones.extractor import load_extractor

    extractor = load_extractor(find_backbone(name), weights, taps, pooling)
    if extractor.sha not in ("", sha):
        raise WeightsError(f"the weights of backbone {name!r} changed while the run was starting; start it again")
    return extractor


def _table_features(examples: Examples, spec: FeatureSpec) -> Features:
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
    return Features(values, spec.fingerprint, spec.groups)
