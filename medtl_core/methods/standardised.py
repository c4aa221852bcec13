"""Features that every hospital shifts and scales by itself, where they are made, before anything is summed.

Per-hospital standardisation is the analogue of adaptive batch normalisation on frozen features (Li et al., "AdaBN",
Pattern Recognition 80, 2018). A hospital that did not train brings only unlabelled cases: its batch is standardised by
its own moments.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.feature_map import FeatureMap, Solved, solve, tasks_of
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.statistics import TINY, Float, Statistics
from medtl_core.values import Array, Released, Update

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


def own_moments(site: SiteData, arrays: Arrays) -> Alignment:
    """A training hospital's standardisation by its own moments; `mean` and `scale` are the pooled ones.

    All its training cases count, without their labels, so a fold's held-out cases took part: cross-validated losses
    are a little too good by that.
    """
    return of_batch(site.values, Alignment(arrays["mean"], arrays["scale"]))


STANDARDISED = FeatureMap(
    "standardised", lambda site, arrays, config: (own_moments(site, arrays).apply(site.values), site.label)
)


def standardised_moments(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The alignment itself: unlike sums, it tells the server about one hospital; only `-inductive` asks for it."""
    own = own_moments(site, arrays)
    return Released(Update({"location": own.location, "scale": own.scale}))


@final
@dataclass(frozen=True)
class StandardisedDiscriminant(Method):
    """The cross-validated discriminant on features that every hospital standardises by its own moments.

    Attributes:
        inductive: whether the model remembers the alignments of the training hospitals for their later cases. The
            server then sees each hospital's alignment, not only sums.
    """

    syntax: ClassVar[str] = "discriminant-standardised(?P<inductive>-inductive)?"
    example: ClassVar[str] = "discriminant-standardised"
    summary: ClassVar[str] = "the discriminant on features each hospital, also an unseen one, standardises by itself"

    inductive: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, aligned = study.once("aligned/standardised", lambda: self._solved(study))
        bill = dict.fromkeys(("moments", "standardised_statistics", "standardised_validate"), Share())
        known: dict[str, Any] = {}
        if self.inductive:
            known, bill["standardised_moments"] = _alignments(study), Share()
        facts = {
            **solved.facts, "alignment": "standardised", "unseen_site": "moments of its own unlabelled batch",
            "alignments_shown_to_server": self.inductive,
        }  # fmt: skip
        moments, problem = study.moments, study.problem
        pooled, target = Alignment(moments.mean, moments.scale), Alignment(aligned.mean, aligned.scale)
        model = Standardised(solved.affine, pooled, target, problem.classes, problem.fingerprint, **known, facts=facts)
        return Outcome({"": model}, bill, solved.server_cpu, facts)

    def _solved(self, study: Study) -> tuple[Solved, Statistics]:
        """The head, and the statistics of all aligned cases."""
        reading = study.reading(STANDARDISED, _pooled(study), width=study.problem.width)
        sums = reading.sums()
        return solve(reading, {"": (Discriminant(), sums)})[""], sums.whole


def _pooled(study: Study) -> dict[str, Array]:
    """The pooled moments, float64, that few cases lean on."""
    return {"mean": study.moments.mean, "scale": study.moments.scale}


def _alignments(study: Study) -> dict[str, Any]:
    """What `Standardised` knows of the training hospitals."""
    width = study.problem.width
    expect = {"location": ArraySpec((width,)), "scale": ArraySpec((width,))}
    replies = list(study.hospitals.ask(Request("standardised_moments", _pooled(study), expect=expect)))
    return {
        "sites": tuple(reply.site for reply in replies),
        "locations": np.stack([reply.arrays["location"] for reply in replies]),
        "scales": np.stack([reply.arrays["scale"] for reply in replies]),
        "cases": np.array([reply.weight for reply in replies], np.int64),
    }


METHODS: tuple[type[Method], ...] = (StandardisedDiscriminant,)
TASKS: Mapping[str, Task] = {**tasks_of(STANDARDISED), "standardised_moments": standardised_moments}
MODELS: tuple[type[Model], ...] = (Standardised,)
