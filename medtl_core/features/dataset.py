"""The cases behind the features, for methods that look deeper than the agreed features."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings, kind_of
from medtl_core.data.faults import Faults
from medtl_core.data.images import content_key
from medtl_core.errors import DataError
from medtl_core.features.encoders import encoder_of
from medtl_core.features.extract import extract, feature_spec, images_of
from medtl_core.values import Examples, Features


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
        if not path:  # a case without an image
            return ""
        try:
            status = os.stat(path)  # noqa: PTH116 - of every case of every hospital
        except OSError:
            return content_key(path)  # says what is wrong
        name = (path, status.st_mtime_ns, status.st_size)
        if name not in self._content:
            self._content[name] = content_key(path)
        return self._content[name]


@dataclass(frozen=True, slots=True)
class Material:
    """Cases and how their features are made. It never leaves the process that opened it.

    Attributes:
        examples: n cases with the columns that the backbones read.
        settings: of the run.
        views: label-preserving views of the data set, from its catalog entry.
        columns: see `Facts.columns`; none for images.
        modality: the catalog's word for what the images show, e.g. "chest X-ray".
        store: what was derived from the cases; hospitals of one process share one, and so one limit.
    """

    examples: Examples
    settings: Settings
    views: tuple[str, ...]
    columns: tuple[str, ...] = ()
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
            DataError: a file cannot be read, or the cases are no images.
        """
        images = images_of(self.examples)
        return list(zip(self.store.content_keys(images), images, strict=True))

    def features(self, workers: int = 1) -> Features:
        """Returns the agreed features of the cases, from the cache where they were computed before.

        Args:
            workers: images that are worked on at the same time.

        Raises:
            ConfigError, WeightsError, DataError: see `feature_spec` and `extract`.
        """
        spec = feature_spec(self.settings, self.views, self.columns)
        keys = self.store.content_keys(images_of(self.examples)) if "image" in self.settings.kinds else None
        return extract(self.examples, spec, self.settings, keys=keys, workers=workers)

    def readable(self, faults: Faults, *, private: bool, workers: int = 1) -> tuple["Material", Features]:
        """Returns the cases whose features can be made, and these; any other case is at fault.

        Guarantee:
            Unit: patient. Whether a case is left out depends on that case alone, for its features do. What is wrong
            with settings or weights shows, under privacy, on a blank case first, whoever the patients are. Public:
            nothing.

        Raises:
            ConfigError, WeightsError: see `feature_spec` and `extract`.
        """
        if "path" in self.examples.columns:
            faults.place = lambda row: str(self.examples["path"][row])
        if private:
            others = [encoder_of(name) for name in self.settings.backbone.split("+") if kind_of(name) != "image"]
            blank = {encoder.column: encoder.blank(self.columns) for encoder in others}
            blank |= {"label": np.zeros(1), "image": np.zeros((1, 32, 32), np.uint8)}
            replace(self, examples=Examples(blank, self.examples.task)).features()
        caught = Exception if private else DataError
        try:
            return self, self.features(workers)
        except caught:
            for row, error in self._at_fault(np.arange(len(self)), caught):
                cause = str(error).removeprefix(f"{faults.place(row)}: ")  # of many cases one cause
                faults.case(row, cause, "export it anew, or leave it out")
        usable = self.take(faults.usable(len(self)))
        return usable, usable.features()

    def _at_fault(self, rows: NDArray[np.int64], caught: type[Exception]) -> Iterator[tuple[int, Exception]]:
        """Every case whose features cannot be made, and why; a half that fails is halved again."""
        try:
            self.take(rows).features()
        except caught as error:
            if len(rows) == 1:
                yield int(rows[0]), error
                return
            for half in np.array_split(rows, 2):
                yield from self._at_fault(half, caught)


def _size(entry: tuple[Any, ...]) -> int:
    return sum(part.nbytes for part in entry)


def absent_row(width: int, table: bool) -> NDArray[np.float64]:
    """Returns the features [width] of a modality that a case lacks: zeros, and every column of a table missing."""
    return np.tile([0.0, 1.0], width // 2) if table else np.zeros(width)
