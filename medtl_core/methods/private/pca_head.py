"""The classifier that private mechanisms make: affine on rows of length one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import WeightsError
from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model, Packed
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.privacy.patients import PublicMap
from medtl_core.values import Array

_NAMES = ("mean", "scale", "basis", "weight", "bias")


@final
@dataclass(frozen=True)
class Directions(Model):
    """Logits are rows of length one (see `methods.private.public_pca`) times `weight`, plus `bias`.

    Attributes:
        map: from features to rows.
        weight: float64 [C, k].
        bias: float64 [C].
    """

    kind: ClassVar[str] = "directions"

    map: PublicMap
    weight: Float
    bias: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        return np.asarray(self.map.rows(values) @ self.weight.T + self.bias)

    def pack(self) -> Packed:
        """See Model."""
        arrays: dict[str, Array] = {**self.map.arrays, "weight": self.weight, "bias": self.bias}
        return Packed(arrays, {}, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> "Directions":
        """See Model."""
        if set(packed.arrays) != set(_NAMES):
            raise WeightsError(f"directions hold {sorted(_NAMES)}, not {sorted(packed.arrays)}")
        mean, scale, basis, weight, bias = (packed.arrays[name] for name in _NAMES)
        fits = mean.shape == scale.shape == basis.shape[:1] and weight.shape == (len(bias), basis.shape[1])
        if not fits or len(bias) != len(packed.classes):
            raise WeightsError("the arrays of the directions do not fit together")
        return cls(PublicMap(mean, scale, basis), weight, bias, packed.classes, packed.fingerprint, packed.facts)


def directions_of(study: Study, map_: PublicMap, weight: Float, bias: Float, facts: Mapping[str, Any]) -> Directions:
    """Returns a head on rows, [C, k] and [C], as a model of this study."""
    return Directions(map_, weight, bias, study.problem.classes, study.problem.fingerprint, facts)


MODELS: tuple[type[Model], ...] = (Directions,)
