"""Logistic regression on all cases, from sums of gradients to its minimum: a reference that costs many rounds.

The curvature that the quasi-Newton steps start from is the Gram matrix of the inputs, which hospitals sum once.
"""

import numpy as np

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import to_raw
from medtl_core.heads.logistic import class_weights, loss_and_gradient
from medtl_core.heads.statistics import Float
from medtl_core.methods.quasi_newton import minimise
from medtl_core.values import Released, Update

#: On half the squared length of the weights.
_PENALTY = 1e-2
#: Of the inputs' mean outer product in the curvature that is assumed at first.
_SHARE = 0.01


def gradient(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summed class-weighted log-loss [1] and its gradient [C, d + 1] at a given head."""
    inputs = site.lesson(arrays["mean"], arrays["scale"]).inputs
    loss, slope = loss_and_gradient(arrays["head"], inputs, site.label, arrays["weight"])
    return Released(Update({"loss": np.array([loss]), "gradient": slope}))


def penalised(loss: float, gradient: Float, head: Float, cases: float, penalty: float) -> tuple[float, Float]:
    """Returns the mean loss plus an L2 penalty on the weights (not the bias), and the flat gradient."""
    weights = head.copy()
    weights[:, -1] = 0.0
    return loss / cases + 0.5 * penalty * float((weights**2).sum()), (gradient / cases + penalty * weights).ravel()


class PooledLogistic(Method):
    """Reference: logistic regression on all cases, from sums of gradients."""

    syntax = "pooled-logistic"
    reads = ("folds",)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        whole, classes, width = study.sums.decomposed.whole, len(study.problem.classes), study.problem.width
        fixed = {"mean": whole.mean, "scale": whole.scale, "weight": class_weights(whole.counts)}
        expect = {"loss": ArraySpec((1,)), "gradient": ArraySpec((classes, width + 1))}
        values, vectors = whole.spectrum()
        along = 1.0 / (_SHARE / whole.cases * values + _PENALTY) - 1.0 / _PENALTY

        def objective(flat: Float) -> tuple[float, Float]:
            head = flat.reshape(classes, width + 1)
            request = Request("gradient", arrays={"head": head, **fixed}, expect=expect)
            sums = study.hospitals.total(request)
            return penalised(float(sums["loss"][0]), sums["gradient"], head, whole.cases, _PENALTY)

        def inverse(flat: Float) -> Float:
            weights, bias = np.split(flat.reshape(classes, width + 1), [width], axis=1)
            return np.hstack([weights / _PENALTY + (weights @ vectors * along) @ vectors.T, bias / _SHARE]).ravel()

        start = np.zeros(classes * (width + 1))
        flat, evaluations = minimise(objective, start, steps=200, tolerance=1e-4, inverse=inverse)
        affine = to_raw(flat.reshape(classes, width + 1), whole.mean, whole.scale, whole.counts > 0)
        facts = {"evaluations": evaluations}
        bill = {"statistics": Share(), "gradient": Share()}
        return Outcome({"": study.head(affine, "pooled-logistic", facts)}, bill, 0.0, facts)


METHODS = (PooledLogistic,)
TASKS = {"gradient": gradient}
