"""An affine head on features averaged over the agreed views and random pictures of the same finding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.features.augment import augmented_features, recipe_for
from medtl_core.features.cache import Row
from medtl_core.features.dataset import Material
from medtl_core.features.spec import Spec, feature_spec
from medtl_core.federation.model import Model
from medtl_core.heads.statistics import Float
from medtl_core.values import digest

#: Seed of the pictures: the same in every run and on both sides.
_SEED = 0


def blended(values: NDArray[np.floating[Any]], material: Material, copies: int) -> NDArray[np.float32]:
    """Returns features [n, d] averaged over the agreed views and so many random pictures, each counting alike.

    The pictures' features stay in the cases' store: rounds and heads read them from memory, not from disk.

    Args:
        values: the agreed features of the cases, float [n, d].
        material: the cases.
        copies: random pictures of each.

    Raises:
        ConfigError: the modality has no recipe, as a table has none.
        DataError: an image cannot be decoded.
    """
    spec = feature_spec(material.settings, material.views, material.columns)
    views = max(len(record.views) for record, _ in spec.parts(material.settings))
    drawn = _drawn(material, spec, copies)
    return np.asarray((views * np.asarray(values, np.float64) + copies * drawn) / (views + copies), np.float32)


def _drawn(material: Material, spec: Spec, copies: int) -> Row:
    """The mean features of the random pictures, float32 [n, d]."""
    recipe = recipe_for(material.modality, material.views)
    content = [key for key, _ in material.keyed_images()]
    name = digest(["augmented", content, spec.fingerprint, vars(recipe), copies])
    entry: tuple[Row] | None = material.store.get(name)
    if entry is None:
        entry = (augmented_features(material, copies, seed=_SEED, recipe=recipe).values,)
        material.store.put(name, entry)
    return entry[0]


@final
@dataclass(frozen=True)
class AugmentedHead(Model):
    """An affine head on blended features; it looks at the images themselves.

    Attributes:
        weight: float64 [C, d].
        bias: float64 [C].
        copies: random pictures of each case.
        classes, fingerprint, facts: as every classifier's.
    """

    kind: ClassVar[str] = "augmented"
    AXES: ClassVar[Mapping[str, str]] = {"weight": "cd", "bias": "c"}

    weight: Float
    bias: Float
    copies: int
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        if material is None:
            raise DataError("a head on augmented features needs the images, not their features alone")
        read = blended(np.asarray(values, np.float32), material, self.copies)
        return np.asarray(read.astype(np.float64) @ self.weight.T + self.bias)

    def flaw(self) -> str:
        """See Model."""
        return "" if self.copies > 0 else f"it blends {self.copies} copies"


MODELS: tuple[type[Model], ...] = (AugmentedHead,)
