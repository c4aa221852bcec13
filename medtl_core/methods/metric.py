"""The federated metric: distances in which the cases of a class lie round, learnt by all hospitals together.

The within-class covariance of the federation, which the sums of the discriminant already contain, says which directions
of feature space are noise. Whitening by it makes nearest class means good answers for hospitals and classes that the
federation never saw (docs/transfer.md), without any meta-training. With many cases a class the distance is
Mahalanobis's; with few, cases are also brought to unit length (SimpleShot's CL2N, Wang et al. 2019, after whitening).
"""

import numpy as np

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.methods.models.metric import Metric, moments_of, sharpness, shrunk, unit, whitening
from medtl_core.values import Array, Released, Update

#: Least shrinkage. What cross-validation finds for the federation's many cases whitens too boldly for a newcomer's few;
#: chosen on HAM10000 and paediatric chest X-rays, where it also costs the federation itself nothing.
LEAST = 0.7


def direction_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums of the unit-length whitened cases of each class [C, d]; reads `mean`, `scale` [d] and `whitening` [d, d]."""
    standard = (site.values.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    return Released(Update({"sums": np.eye(site.classes)[site.label].T @ unit(standard @ arrays["whitening"])}))


class FederatedMetric(Method):
    """Nearest mean in the federation's metric; the start for a new hospital or class."""

    syntax = "metric"
    reads = ("folds",)

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates("discriminant"),)

    def outcome(self, study: Study) -> Outcome:
        """See Method: one exchange beyond the discriminant's gives the class means of unit-length cases."""
        problem, solved, statistics = study.problem, study.solved(Candidates("discriminant")), study.statistics
        means, within, counts = moments_of(statistics)
        shrinkage, apart = max(solved.strength, LEAST), means[counts > 0]
        temperature = solved.choice.temperature
        temperature *= sharpness(within, apart, shrinkage) / sharpness(within, apart, solved.strength)
        white = whitening(shrunk(within, shrinkage)).astype(np.float32)
        fixed: dict[str, Array] = {"mean": statistics.mean, "scale": statistics.scale, "whitening": white}
        request = Request("direction_sums", fixed, {}, {"sums": ArraySpec(means.shape)}, "metric")
        sums = study.hospitals.total(request)["sums"]
        facts = {"shrinkage": shrinkage, "temperature": temperature, "rule": "mahalanobis"}
        model = Metric(
            statistics.mean, statistics.scale, within, shrinkage, means, sums / np.maximum(counts, 1.0)[:, None],
            counts, "mahalanobis", temperature, problem.classes, problem.fingerprint, facts,
        )  # fmt: skip
        bill = {**study.closed_bill(self.needs(study)), "metric": Share()}
        return Outcome({"": model}, bill, solved.server_cpu, facts)


METHODS = (FederatedMetric,)
TASKS = {"direction_sums": direction_sums}
