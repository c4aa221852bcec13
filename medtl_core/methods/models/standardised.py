"""A head on features that every hospital, also an unseen one, shifts and scales by its own moments."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.heads.statistics import TINY, Float
from medtl_core.values import Array

#: From so many cases on, a batch's own moments are taken as they are; below, they lean on the pooled ones with weight
#: PRIOR / (n + PRIOR).
ENOUGH, PRIOR = 8, 10.0
#: A feature that a batch shows as nearly constant is not blown up: no scale below this share of the pooled one.
FLOOR = 0.05


@dataclass(frozen=True)
class Alignment:
    """One hospital's map of its features, x -> (x - location) / scale.

    Attributes:
        location, scale: float64 [d].
    """

    location: Float
    scale: Float

    def apply(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns aligned features, float64 [n, d].

        Example:
            >>> Alignment(np.array([1.0]), np.array([2.0])).apply(np.array([[5.0]])).tolist()
            [[2.0]]
        """
        return (np.asarray(values, np.float64) - self.location) / self.scale


def of_batch(values: NDArray[np.floating[Any]], pooled: Alignment) -> Alignment:
    """Returns the alignment that standardises a batch [n, d] without looking at a label.

    Fewer than `ENOUGH` cases lean on the pooled moments; no case at all takes them.

    Example:
        >>> of_batch(np.arange(16.0)[:, None], Alignment(np.zeros(1), np.ones(1))).location.tolist()
        [7.5]
        >>> of_batch(np.full((1, 1), 11.0), Alignment(np.zeros(1), np.ones(1))).location.tolist()
        [1.0]
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

    A case's site is its material's column `site`; without material the whole batch is one site. A site among `sites`
    is mapped by the alignment it trained with (inductive). Every other one is mapped, from its unlabelled cases alone,
    onto the moments of the aligned training features (transductive: a case's logits depend on its batch).

    Attributes:
        head: float64 [C, d + 1] on aligned features.
        pooled: mean and scale of the training features, for batches too small to speak for themselves.
        target: mean and scale of the aligned training features.
        sites: hospitals whose alignment is known, often none.
        locations, scales: float64 [s, d], the alignments of those hospitals.
        cases: int64 [s], their numbers of training cases.
    """

    kind: ClassVar[str] = "standardised"
    AXES: ClassVar[Mapping[str, str]] = {
        "head": "cd+", "pooled-location": "d", "pooled-scale": "d", "target-location": "d", "target-scale": "d",
        "locations": "sd?", "scales": "sd?", "cases": "s?",
    }  # fmt: skip

    head: Float
    pooled: Alignment
    target: Alignment
    classes: tuple[str, ...]
    fingerprint: str
    sites: tuple[str, ...] = ()
    locations: Array = field(default_factory=lambda: np.zeros((0, 0)))
    scales: Array = field(default_factory=lambda: np.zeros((0, 0)))
    cases: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        groups = np.zeros(len(values), int) if material is None else material.examples["site"]
        logits = np.zeros((len(values), len(self.head)))
        for name in np.unique(groups):
            rows = groups == name
            logits[rows] = self._aligned(str(name), np.asarray(values)[rows]) @ self.head[:, :-1].T + self.head[:, -1]
        return logits

    def _aligned(self, name: str, batch: Array) -> Float:
        known = self._known(name)
        if known is not None:
            return known.apply(batch)
        return of_batch(batch, self.pooled).apply(batch) * self.target.scale + self.target.location

    def _known(self, name: str) -> Alignment | None:
        """The alignment of a site, or of the hospitals NAME-1, NAME-2, ... that a simulation cut out of it."""
        cut = re.compile(rf"{re.escape(name)}(-[0-9]+)?")
        rows = [row for row, site in enumerate(self.sites) if cut.fullmatch(site)]
        if not rows:
            return None
        weight = (self.cases[rows] / self.cases[rows].sum())[:, None]
        location = (weight * self.locations[rows]).sum(axis=0)
        square = (weight * self.scales[rows] ** 2).sum(axis=0)
        return Alignment(location, np.sqrt(square))

    def flaw(self) -> str:
        """See Model."""
        if not len(self.sites) == len(self.locations) == len(self.cases):
            return f"it names {len(self.sites)} sites and holds the alignments of {len(self.locations)}"
        scales = (self.pooled.scale, self.target.scale, self.scales)
        return "" if all((scale > 0).all() for scale in scales) else "a scale is not positive"


MODELS: tuple[type[Model], ...] = (Standardised,)
