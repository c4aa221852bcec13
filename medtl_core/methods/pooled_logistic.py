"""The exact logistic regression on all cases, from sums of gradients: a reference that costs many rounds."""

import numpy as np

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import to_raw
from medtl_core.heads.logistic import class_weights, loss_and_gradient
from medtl_core.heads.statistics import Float
from medtl_core.methods.quasi_newton import minimise
from medtl_core.values import Released, Update


def gradient(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summed class-weighted log-loss [1] and its gradient [C, d + 1] at a given head."""
    inputs = site.standardised(arrays["mean"], arrays["scale"])
    loss, slope = loss_and_gradient(arrays["head"], inputs, site.label, arrays["weight"])
    return Released(Update({"loss": np.array([loss]), "gradient": slope}))


def penalised(loss: float, gradient: Float, head: Float, cases: float, penalty: float) -> tuple[float, Float]:
    """Returns the mean loss plus an L2 penalty on the weights (not the bias), and the flat gradient."""
    weights = head.copy()
    weights[:, -1] = 0.0
    return loss / cases + 0.5 * penalty * float((weights**2).sum()), (gradient / cases + penalty * weights).ravel()


class PooledLogistic(Method):
    """Reference: exact logistic regression on all cases, from sums of gradients."""

    syntax = "pooled-logistic"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        moments, classes, width = study.moments, len(study.problem.classes), study.problem.width
        fixed = {"mean": moments.mean, "scale": moments.scale, "weight": class_weights(moments.counts)}
        expect = {"loss": ArraySpec((1,)), "gradient": ArraySpec((classes, width + 1))}

        def objective(flat: Float) -> tuple[float, Float]:
            head = flat.reshape(classes, width + 1)
            request = Request("gradient", arrays={"head": head, **fixed}, expect=expect)
            sums = study.hospitals.total(request)
            return penalised(float(sums["loss"][0]), sums["gradient"], head, float(moments.counts.sum()), 1e-2)

        start = np.zeros(classes * (width + 1))
        flat, evaluations = minimise(objective, start, steps=60, tolerance=1e-5)
        affine = to_raw(flat.reshape(classes, width + 1), moments.mean, moments.scale, moments.counts > 0)
        facts = {"evaluations": evaluations}
        bill = {"moments": Share(), "gradient": Share()}
        return Outcome({"": study.head(affine, "pooled-logistic", facts)}, bill, 0.0, facts)


METHODS = (PooledLogistic,)
TASKS = {"gradient": gradient}
