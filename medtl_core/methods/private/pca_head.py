"""The classifier that private mechanisms make: affine on rows of length one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.public_pca import PublicMap


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
    AXES: ClassVar[Mapping[str, str]] = {"mean": "d", "scale": "d", "basis": "dk", "weight": "ck", "bias": "c"}

    map: PublicMap
    weight: Float
    bias: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        return np.asarray(self.map.rows(values) @ self.weight.T + self.bias)


def directions_of(study: Study, map_: PublicMap, weight: Float, bias: Float, facts: Mapping[str, Any]) -> Directions:
    """Returns a head on rows, [C, k] and [C], as a model of this study."""
    return Directions(map_, weight, bias, study.problem.classes, study.problem.fingerprint, facts)


MODELS: tuple[type[Model], ...] = (Directions,)
