"""The cases behind the features, for methods that look deeper than the agreed features."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.images import content_key
from medtl_core.features.extract import FeatureSpec, extract, feature_spec, images_of
from medtl_core.values import Examples, Features

_LOG = logging.getLogger("medtl")


@final
class DerivedStore:
    """What was computed from open cases and will be asked for again: arrays or tensors, such as activations.

    It lives in memory as long as the cases that hold it, and is never written to disk: an early layer's activations
    show the image. The least recently used entries are dropped beyond `limit` bytes. Entries are named by content,
    so cases of several hospitals may share one store; threads may, too.
    """

    def __init__(self, limit: int = 1 << 30) -> None:
        self.limit, self.bytes = limit, 0
        self._entries: OrderedDict[str, tuple[Any, ...]] = OrderedDict()
        self._content: dict[tuple[str, int, int], str] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Any | None:
        """Returns an entry and marks it as used; None if there is none."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: str, entry: tuple[Any, ...]) -> None:
        """Keeps an entry, and drops others where it needs their room; one larger than the limit is not kept."""
        size = _size(entry)
        with self._lock:
            if key in self._entries or size > self.limit:
                return
            self._entries[key] = entry
            self.bytes += size
            while self.bytes > self.limit:
                self.bytes -= _size(self._entries.popitem(last=False)[1])

    def content_keys(self, images: Sequence[Any]) -> list[str]:
        """Returns each image's `images.content_key`; a file is read once as long as its size and date stay.

        Raises:
            DataError: a file cannot be read.
        """
        return [content_key(image) if isinstance(image, np.ndarray) else self._file_key(image) for image in images]

    def _file_key(self, path: str) -> str:
        try:
            status = Path(path).stat()
        except OSError:
            return content_key(path)  # says what is wrong
        name = (path, status.st_mtime_ns, status.st_size)
        if name not in self._content:
            self._content[name] = content_key(path)
        return self._content[name]


@dataclass(frozen=True)
class Material:
    """Cases and how their features are made. It never leaves the process that opened it.

    Attributes:
        examples: n cases with a `path`, `image` or `table` column.
        settings: of the run.
        views: label-preserving views of the data set, from its catalog entry.
        columns: number of columns of a table; 0 for images.
        modality: the catalog's word for what the images show, e.g. "chest X-ray".
        store: what was derived from the cases; hospitals of one process share one, and so one limit.
    """

    examples: Examples
    settings: Settings
    views: tuple[str, ...]
    columns: int = 0
    modality: str = "not stated"
    store: DerivedStore = field(default_factory=DerivedStore, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, index: NDArray[np.int64]) -> "Material":
        """Returns the cases at `index`, in that order; they share the store."""
        return replace(self, examples=self.examples.take(index))

    def keyed_images(self) -> list[tuple[str, Any]]:
        """Returns (content key, file or array) of each image.

        Raises:
            DataError: a file cannot be read, or the cases are a table.
        """
        images = images_of(self.examples)
        return list(zip(self.store.content_keys(images), images, strict=True))

    def features(self) -> Features:
        """Returns the agreed features of the cases, from the cache where they were computed before.

        Raises:
            ConfigError, WeightsError, DataError: see `feature_spec` and `extract`.
        """
        spec = feature_spec(self.settings, self.views, self.columns)
        alone = isinstance(spec, FeatureSpec) and spec.backbone == "table"
        keys = None if alone else self.store.content_keys(images_of(self.examples))
        return extract(self.examples, spec, self.settings, keys=keys)

    def readable(self) -> tuple["Material", Features]:
        """Returns the cases whose features can be made, and these; any other case is left out, and the log says why.

        Whether a case is left out depends on that case alone, for its features do. What is wrong with settings or
        weights shows on a blank case, whoever the patients are.

        Raises:
            ConfigError, WeightsError: see `feature_spec` and `extract`.
        """
        blank = {"table": np.zeros((1, self.columns))} if self.columns else {"image": np.zeros((1, 32, 32), np.uint8)}
        features = replace(self, examples=Examples({"label": np.zeros(1), **blank}, self.examples.task)).features()
        rows, values = self._readable(np.arange(len(self)), features.values[:0])
        return self.take(rows), replace(features, values=values)

    def _readable(
        self, rows: NDArray[np.int64], none: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The rows whose features can be made, and these; a half that fails is halved again."""
        try:
            return rows, self.take(rows).features().values if len(rows) else none
        except Exception as error:
            if len(rows) == 1:
                _LOG.warning("a case cannot be read and is left out: %s", error)
                return rows[:0], none
        halves = [self._readable(part, none) for part in np.array_split(rows, 2)]
        return np.concatenate([part for part, _ in halves]), np.concatenate([values for _, values in halves])


def _size(entry: tuple[Any, ...]) -> int:
    return sum(part.nbytes for part in entry)
