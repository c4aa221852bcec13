"""The federated metric: distances in which the cases of a class lie round, learnt by all hospitals together.

The within-class covariance of the federation, which the sums of the discriminant already contain, says which directions
of feature space are noise. Whitening by it makes nearest class means good answers for hospitals and classes that the
federation never saw (docs/transfer.md), without any meta-training. With many cases a class the distance is
Mahalanobis's; with few, cases are also brought to unit length (SimpleShot's CL2N, Wang et al. 2019, after whitening).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.statistics import Float, Statistics
from medtl_core.methods.models.metric import TINY, Metric, shrunk, unit, whitening
from medtl_core.values import Array, Released, Update

#: Least shrinkage. What cross-validation finds for the federation's many cases whitens too boldly for a newcomer's few;
#: chosen on HAM10000 and paediatric chest X-rays, where it also costs the federation itself nothing.
LEAST = 0.7


def moments_of(statistics: Statistics) -> tuple[Float, Float, Float]:
    """Returns class means [C, d], pooled within-class covariance [d, d] and counts [C] of standardised features."""
    standard = statistics.standardised()
    counts = np.where(standard.counts > 0.5, np.rint(standard.counts), 0.0)
    means = np.where(counts[:, None] > 0, standard.sums / np.maximum(counts, 1.0)[:, None], 0.0)
    freedom = max(float(counts.sum() - (counts > 0).sum()), 1.0)
    within = (standard.gram - (means.T * counts) @ means) / freedom
    return means, np.asarray((within + within.T) / 2), counts


def _sharpness(within: Float, means: Float, shrinkage: float) -> float:
    """The factor that makes log odds of differences of squared distances under S_r, if classes are normal under S.

    For two classes apart by m the difference has mean m'S_r^-1 m / 2 and variance m'S_r^-1 S S_r^-1 m; log odds need
    twice the mean to equal the variance. Here for the differences of the class means from their centre.
    """
    apart = means - means.mean(axis=0)
    solved = np.linalg.solve(shrunk(within, shrinkage) + TINY * np.eye(len(within)), apart.T)
    variance = float((solved * (within @ solved)).sum())
    return float((apart.T * solved).sum()) / variance if variance > 0 else 1.0


def direction_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums of the unit-length whitened cases of each class [C, d]; reads `mean`, `scale` [d] and `whitening` [d, d]."""
    standard = (site.values.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    return Released(Update({"sums": np.eye(site.classes)[site.label].T @ unit(standard @ arrays["whitening"])}))


def federated_metric(study: Study) -> Metric:
    """Returns the metric of a study: its shrinkage is the discriminant's, at least `LEAST`; one more exchange.

    The exchange (phase "metric") gives the class means of unit-length cases.
    """
    solved, statistics = study.solved("discriminant"), study.statistics
    strength, temperature = solved.strength, solved.choice.temperature
    shrinkage = max(strength, LEAST)
    means, within, counts = moments_of(statistics)
    temperature *= _sharpness(within, means[counts > 0], shrinkage) / _sharpness(within, means[counts > 0], strength)
    white = whitening(shrunk(within, shrinkage)).astype(np.float32)
    fixed: dict[str, Array] = {"mean": statistics.mean, "scale": statistics.scale, "whitening": white}
    shape = (len(study.problem.classes), study.problem.width)
    request = Request("direction_sums", fixed, {}, {"sums": ArraySpec(shape)}, "metric")
    sums = total(reply.arrays for reply in study.hospitals.ask(request))["sums"]
    facts = {"shrinkage": shrinkage, "temperature": temperature, "rule": "mahalanobis"}
    return Metric(
        statistics.mean, statistics.scale, within, shrinkage, means, sums / np.maximum(counts, 1.0)[:, None], counts,
        "mahalanobis", temperature, study.problem.classes, study.problem.fingerprint, facts,
    )  # fmt: skip


@final
@dataclass(frozen=True)
class FederatedMetric(Method):
    """Nearest class mean under the federation's covariance, and what `medtl adapt` gives a new hospital."""

    syntax: ClassVar[str] = "metric"
    example: ClassVar[str] = "metric"
    summary: ClassVar[str] = "nearest mean in the federation's metric; the start for a new hospital or class"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates("discriminant"),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        model = study.once("metric", lambda: federated_metric(study))
        bill = {**study.closed_bill(self.needs(study)), "metric": Share()}
        return Outcome({"": model}, bill, study.solved("discriminant").server_cpu, model.facts)


METHODS: tuple[type[Method], ...] = (FederatedMetric,)
TASKS: Mapping[str, Task] = {"direction_sums": direction_sums}
