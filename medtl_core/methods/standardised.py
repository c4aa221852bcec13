"""Features that every hospital shifts and scales by itself, where they are made, before anything is summed.

Per-hospital standardisation is the analogue of adaptive batch normalisation on frozen features (Li et al., "AdaBN",
Pattern Recognition 80, 2018). A hospital that did not train brings only unlabelled cases: its batch is standardised by
its own moments.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.feature_map import FeatureMap, Solved, solve, tasks_of
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.statistics import Statistics
from medtl_core.methods.models.standardised import Alignment, Standardised, of_batch
from medtl_core.values import Array, Released, Update


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
