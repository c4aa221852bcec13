"""Where in a picture the answer of a tuned backbone comes from: the model's own class maps, as pictures (Grad-CAM)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.images import read_pictures
from medtl_core.data.views import Pixels
from medtl_core.features.dataset import Material
from medtl_core.features.spec import backbone_spec
from medtl_core.predict.attribution import SHUFFLED, ClassMap, contrast_of, correlation, spread, turned_back
from medtl_core.predict.cases import unlabelled
from medtl_core.values import Array


@runtime_checkable
class Mapped(Protocol):
    """What a model offers that can be explained: see `methods.finetune.model.Tuned`."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""

    def class_maps(self, material: Material, contrast: Array, order: Array | None = None) -> Sequence[Array]:
        """Returns the maps of each case's views, float64 [v, h, w], of what speaks for a contrast of classes [C].

        `order` shuffles the head's columns [d].
        """


@final
@dataclass(frozen=True)
class GradCam:
    """Explains the answers of a model that draws class maps of its own.

    Its parts are no shares of a logit: what speaks against the class is cut off, and they add up to nothing.

    Attributes:
        model: what answers.
        settings, views: how its features are made.
    """

    model: Mapped
    settings: Settings
    views: tuple[str, ...]

    def explain(self, image: Any, name: str) -> list[ClassMap]:
        """Returns a map for each picture of a case, of what speaks for the class `name`.

        Raises:
            ConfigError: the model's deepest layer gives no maps.
            DataError: the image cannot be read.
        """
        return [ClassMap(picture, self._map(picture, name)) for picture in read_pictures(image)]

    def likeness(self, image: Any, name: str, *, rng: np.random.Generator) -> float:
        """See `Attributor.likeness`."""
        picture, width = read_pictures(image)[0], backbone_spec(self.settings, self.views).width
        own = self._map(picture, name)
        others = [self._map(picture, name, rng.permutation(width)) for _ in range(SHUFFLED)]
        return float(np.mean([correlation(own, other) for other in others]))

    def _map(self, picture: Pixels, name: str, order: Array | None = None) -> Array:
        material = Material(unlabelled({"image": picture[None]}), self.settings, self.views)
        (maps,) = self.model.class_maps(material, contrast_of(self.model.classes, name), order)
        record = backbone_spec(self.settings, self.views)
        turned = [turned_back(spread(one, record.size), view) for view, one in zip(record.views, maps, strict=True)]
        return np.asarray(np.mean(turned, axis=0))
