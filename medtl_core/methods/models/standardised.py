"""A head on features that every hospital, also an unseen one, shifts and scales by its own moments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.heads.statistics import TINY, Float

#: From so many cases on, a batch's own moments are taken as they are; below, they lean on the pooled ones with weight
#: PRIOR / (n + PRIOR).
ENOUGH, PRIOR = 8, 10.0
#: A feature that a batch shows as nearly constant is not blown up: no scale below this share of the pooled one.
FLOOR = 0.05


@dataclass(frozen=True)
class Alignment:
    """One hospital's map of its features, x -> (x - location) / scale, both float64 [d]."""

    location: Float
    scale: Float

    def apply(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns aligned features, float64 [n, d]."""
        return (np.asarray(values, np.float64) - self.location) / self.scale


def of_batch(values: NDArray[np.floating[Any]], pooled: Alignment) -> Alignment:
    """Returns the alignment that standardises a batch [n, d] without looking at a label.

    Fewer than `ENOUGH` cases lean on the pooled moments; no case at all takes them.
    """
    cases = len(values)
    if not cases:
        return pooled
    wide = np.asarray(values, np.float64)
    weight = 1.0 if cases >= ENOUGH else cases / (cases + PRIOR)
    location = weight * wide.mean(axis=0) + (1.0 - weight) * pooled.location
    scale = weight * (wide.std(axis=0) + TINY) + (1.0 - weight) * pooled.scale
    return Alignment(location, np.maximum(scale, FLOOR * pooled.scale))


@final
@dataclass(frozen=True)
class Standardised(Model):
    """An affine head on features that are aligned site by site.

    A case's site is its material's column `site`; without material the whole batch is one site. It is mapped, from its
    unlabelled cases alone, onto the moments of the aligned training features (transductive: a case's logits depend on
    its batch).

    Attributes:
        head: float64 [C, d + 1] on aligned features.
        pooled: mean and scale of the training features, for batches too small to speak for themselves.
        target: mean and scale of the aligned training features.
    """

    kind: ClassVar[str] = "standardised"
    AXES: ClassVar[Mapping[str, str]] = {
        "head": "cd+", "pooled-location": "d", "pooled-scale": "d", "target-location": "d", "target-scale": "d",
    }  # fmt: skip

    head: Float
    pooled: Alignment
    target: Alignment
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        groups = np.zeros(len(values), int) if material is None else material.examples["site"]
        logits = np.zeros((len(values), len(self.head)))
        for site in np.unique(groups):
            batch = np.asarray(values)[groups == site]
            aligned = of_batch(batch, self.pooled).apply(batch) * self.target.scale + self.target.location
            logits[groups == site] = aligned @ self.head[:, :-1].T + self.head[:, -1]
        return logits

    def flaw(self) -> str:
        """See Model."""
        positive = (self.pooled.scale > 0).all() and (self.target.scale > 0).all()
        return "" if positive else "a scale is not positive"


MODELS: tuple[type[Model], ...] = (Standardised,)
