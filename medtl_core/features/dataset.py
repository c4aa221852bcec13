"""The cases behind the features, for methods that look deeper than the agreed features."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings, Value
from medtl_core.features.extract import extract, feature_spec
from medtl_core.values import Examples, Features


@dataclass(frozen=True)
class Material:
    """Cases and how their features are made. It never leaves the process that opened it.

    Attributes:
        examples: n cases with a `path`, `image` or `table` column.
        settings: of the run; they name backbone, taps, size, views and cache.
        views: label-preserving views of the data set, from its catalog entry.
        columns: number of columns of a table; 0 for images.
        modality: the catalog's word for what the images show, e.g. "chest X-ray".
    """

    examples: Examples
    settings: Settings
    views: tuple[str, ...]
    columns: int = 0
    modality: str = "not stated"

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, index: NDArray[np.int64]) -> "Material":
        """Returns the cases at `index`, in that order."""
        return Material(self.examples.take(index), self.settings, self.views, self.columns, self.modality)

    def features(self, **changes: Value) -> Features:
        """Returns features under changed settings (field names: `backbone`, `features`, `image_size`, `views`, ...).

        They are cached on disk as the agreed ones are. Without changes, they are the agreed ones.

        Raises:
            ConfigError: a backbone or tap is unknown.
            WeightsError: the weights are not on this machine.
        """
        chosen = self.settings.replace(**changes)
        return extract(self.examples, feature_spec(chosen, self.views, self.columns), chosen)

    def pixels(self, size: int) -> NDArray[np.uint8]:
        """Returns the images as the backbone's square input, uint8 [n, size, size, 3].

        Raises:
            DataError: an image cannot be decoded, or the cases are a table.
        """
        from medtl_core.data.images import decode
        from medtl_core.data.views import square
        from medtl_core.features.extract import images_of

        rows = [square(decode(image), size) for image in images_of(self.examples)]
        return np.stack(rows) if rows else np.zeros((0, size, size, 3), dtype=np.uint8)
