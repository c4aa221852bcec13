"""Features that every hospital shifts and scales by itself, where they are made, before anything is summed.

Per-hospital standardisation is the analogue of adaptive batch normalisation on frozen features (Li et al., "AdaBN",
Pattern Recognition 80, 2018). A hospital that did not train brings only unlabelled cases: its batch is standardised by
its own moments.
"""

from medtl_core.federation.feature_map import FeatureMap, Grid, solve, tasks_of
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.statistics import Float
from medtl_core.methods.models.standardised import Alignment, Standardised, of_batch


def aligned(site: SiteData, arrays: Arrays) -> Float:
    """Returns a training hospital's features [n, d] standardised by its own moments; `mean`, `scale` are the pooled.

    All its training cases count, without their labels, so a fold's held-out cases took part: cross-validated losses
    are a little too good by that.
    """
    return of_batch(site.values, Alignment(arrays["mean"], arrays["scale"])).apply(site.values)


STANDARDISED = FeatureMap("standardised", lambda site, arrays, config: (aligned(site, arrays), site.label))


class StandardisedDiscriminant(Method):
    """The discriminant on features each hospital, also an unseen one, standardises by itself."""

    syntax = "discriminant-standardised"
    reads = ("folds",)

    def outcome(self, study: Study) -> Outcome:
        """See Method: few cases lean on the pooled moments, which travel as float64."""
        moments, problem = study.moments, study.problem
        reading = study.reading(STANDARDISED, {"mean": moments.mean, "scale": moments.scale}, width=problem.width)
        sums = reading.sums()
        solved = solve(reading, {"": Grid.of(Discriminant(), sums)})[""]
        pooled, target = Alignment(moments.mean, moments.scale), Alignment(sums.whole.mean, sums.whole.scale)
        unseen = "moments of its own unlabelled batch"
        facts = {**solved.facts, "alignment": "standardised", "unseen_site": unseen}
        model = Standardised(solved.affine, pooled, target, problem.classes, problem.fingerprint, facts)
        bill = dict.fromkeys(("moments", "standardised_statistics", "standardised_validate"), Share())
        return Outcome({"": model}, bill, solved.server_cpu, facts)


METHODS = (StandardisedDiscriminant,)
TASKS = tasks_of(STANDARDISED)
