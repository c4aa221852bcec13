"""Examples to features: a frozen backbone's taps, pooled, averaged over views, cached by content.

The bytes of an image's features depend on the image and the specification only: every forward pass has the same shape
(`PASS` pictures, the last one padded), so neither the other images of a call nor the number of workers matter.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.backbones.weights import check_early, weights_sha
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cache import FeatureCache, default_folder
from medtl_core.config import Settings
from medtl_core.data.images import content_key, decode
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.values import Array, Examples, Features, digest

if TYPE_CHECKING:
    from medtl_core.backbones.extractor import Extractor

#: Pictures in one forward pass: measured fastest at 224 px, and one image's four views fill it.
PASS = 4

#: Images whose features are stored together, so that an interrupted run keeps most of its work.
_STORE_EVERY = 64

#: Side of "plain" features in pixels (METHODS section 11.1).
_PLAIN_SIZE = 128

Progress = Callable[[int], None]

#: View name -> function of a picture [3, h, w].
VIEWS: dict[str, Callable[[Any], Any]] = {
    "identity": lambda picture: picture,
    "flip-h": lambda picture: picture.flip(-1),
    "flip-v": lambda picture: picture.flip(-2),
    "transpose": lambda picture: picture.transpose(-1, -2),
}


@dataclass(frozen=True)
class FeatureSpec:
    """Everything that decides the features of an image.

    Attributes:
        backbone: the name it was asked for by, e.g. "lite0".
        identity: library and architecture, the same for every way to name the weights.
        weights_sha: SHA-256 that names the weights.
        taps: names of the layers read, from the shallowest.
        channels: number of channels of each tap.
        pooling: "mean" or "mean+std" over the positions.
        size: side of the square input in pixels.
        views: label-preserving views that are averaged.
    """

    backbone: str
    identity: str
    weights_sha: str
    taps: tuple[str, ...]
    channels: tuple[int, ...]
    pooling: str
    size: int
    views: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """Hash that two sides compare before their features may be added."""
        named = (self.identity, self.weights_sha, self.taps, self.channels, self.pooling, self.size, self.views, PASS)
        return digest([list(part) if isinstance(part, tuple) else part for part in named])

    @cached_property
    def groups(self) -> tuple[tuple[str, int, int], ...]:
        """(tap, start, stop) of each tap's feature columns."""
        factor = 2 if self.pooling == "mean+std" else 1
        stops = np.cumsum([factor * count for count in self.channels]).tolist()
        return tuple(zip(self.taps, [0, *stops[:-1]], stops, strict=True))

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.groups[-1][2]


def feature_spec(settings: Settings, views: tuple[str, ...], columns: int = 0) -> FeatureSpec:
    """Returns what `settings` ask for, without loading a network.

    Args:
        settings: backbone, weights, features, image size and views.
        views: the label-preserving views of the data.
        columns: number of columns of a table; only for `backbone="table"`.

    Raises:
        ConfigError: an unknown backbone, tap or view.
        WeightsError: the weights are not here.
    """
    if settings.backbone == "table":
        return FeatureSpec("table", "table", "", ("values", "missing"), (columns, columns), "mean", 0, ("identity",))
    check_early(settings.backbone, settings.weights)
    backbone = find_backbone(settings.backbone)
    plain = settings.features == "plain"
    taps = {"rich": backbone.rich, "plain": backbone.plain}.get(settings.features, tuple(settings.features.split("+")))
    for tap in taps:
        if tap not in backbone.taps:
            known = ["rich", "plain", *backbone.taps]
            raise ConfigError(f"features={settings.features!r}: no tap {tap!r}; {did_you_mean(tap, known)}")
    chosen = ("identity",) if plain or settings.views == "one" else views
    for view in chosen:
        if view not in VIEWS:
            raise ConfigError(f"unknown view {view!r}; {did_you_mean(view, VIEWS)}")
    return FeatureSpec(
        backbone.name,
        backbone.identity,
        weights_sha(backbone, settings.weights),
        taps,
        tuple(backbone.channels[tap] for tap in taps),
        "mean" if plain else "mean+std",
        settings.image_size or (_PLAIN_SIZE if plain else backbone.size),
        chosen,
    )


def extract(
    examples: Examples, spec: FeatureSpec, settings: Settings, *, workers: int = 1, progress: Progress | None = None
) -> Features:
    """Returns the features of all cases, float32 [n, d], from the cache where they are known.

    Args:
        examples: with a column `path`, `image` or `table`.
        spec: from `feature_spec`.
        settings: where weights and cache lie.
        workers: threads that run forward passes side by side.
        progress: told how many images were computed since the last call.

    Raises:
        DataError: an image cannot be read, or the cases have no column the backbone reads.
        WeightsError: the weights are not here.
    """
    if spec.backbone == "table":
        return Features(_table(examples, spec), spec.fingerprint, spec.groups)
    images = _images(examples)
    keys = [_key(image, spec) for image in images]
    cache = FeatureCache(_folder(settings.cache))
    known = cache.get_many(keys)
    known = {key: row for key, row in known.items() if row.shape == (spec.width,)}
    missing = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
    if missing:
        extractor = _extractor(spec, settings.weights)
        for part in _parts(list(missing), _STORE_EVERY * workers):
            rows = _compute([missing[key] for key in part], spec, extractor, workers)
            fresh = dict(zip(part, rows, strict=True))
            cache.put_many(fresh)
            known |= fresh
            if progress is not None:
                progress(len(part))
    values = np.stack([known[key] for key in keys]) if keys else np.zeros((0, spec.width), np.float32)
    return Features(values, spec.fingerprint, spec.groups)


def _images(examples: Examples) -> Sequence[Any]:
    for column in ("path", "image"):
        if column in examples.columns:
            return list(examples[column])
    raise DataError("the cases have no images; set backbone=table for a table")


def _table(examples: Examples, spec: FeatureSpec) -> NDArray[np.float32]:
    """Values with 0 for a missing one, then a flag for each: a linear head then learns what "missing" means."""
    if "table" not in examples.columns:
        raise DataError("backbone=table needs cases with a table; these have images: set backbone=lite0")
    table = np.asarray(examples["table"], dtype=np.float64)
    if 2 * table.shape[1] != spec.width:
        raise DataError(f"the table has {table.shape[1]} columns where {spec.width // 2} were agreed")
    missing = np.isnan(table)
    return np.concatenate([np.where(missing, 0.0, table), missing], axis=1).astype(np.float32)


def _key(image: Any, spec: FeatureSpec) -> str:
    return hashlib.sha256(f"{content_key(image)}/{spec.fingerprint}".encode()).hexdigest()


def _folder(cache: str) -> Path | None:
    if cache == "off":
        return None
    return Path(cache) if cache else default_folder()


def _compute(images: list[Any], spec: FeatureSpec, extractor: "Extractor", workers: int) -> list[Array]:
    """Features of some images: pictures of all views in passes of one fixed shape, then the mean over views."""
    share = max(PASS // len(spec.views), 1)
    batches = _parts(images, share)
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            done: Iterable[Array] = list(pool.map(lambda batch: _run(batch, spec, extractor), batches))
    else:
        done = [_run(batch, spec, extractor) for batch in batches]
    return [row for rows in done for row in rows]


def _run(images: list[Any], spec: FeatureSpec, extractor: "Extractor") -> Array:
    import torch

    backbone = find_backbone(spec.backbone)
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (backbone.mean, backbone.std))
    pictures = []
    for image in images:
        pixels = torch.from_numpy(_resized(decode(image), spec.size)).permute(2, 0, 1).float()
        normal = (pixels / 255 - mean) / std
        pictures += [VIEWS[view](normal) for view in spec.views]
    count = len(pictures)
    pictures += [torch.zeros_like(pictures[0])] * (-count % PASS)
    with torch.inference_mode():
        stack = torch.stack(pictures).contiguous(memory_format=torch.channels_last)
        rows = torch.cat([extractor(part) for part in stack.split(PASS)])[:count]
    averaged = rows.double().view(len(images), len(spec.views), -1).mean(dim=1)
    return np.asarray(averaged.float().numpy())


def _resized(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    from PIL import Image

    if pixels.shape[:2] == (size, size):
        return np.array(pixels)
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


_LOADING = threading.Lock()


def _extractor(spec: FeatureSpec, weights: str) -> "Extractor":
    with _LOADING:  # hospitals simulated in threads load the network once
        return _loaded(spec.backbone, weights, spec.taps, spec.pooling)


@lru_cache(maxsize=2)
def _loaded(name: str, weights: str, taps: tuple[str, ...], pooling: str) -> "Extractor":
    import torch

    from medtl_core.backbones.extractor import load_extractor

    torch.set_num_threads(1)
    return load_extractor(find_backbone(name), weights, taps, pooling)


def _parts(items: list[Any], size: int) -> list[list[Any]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
