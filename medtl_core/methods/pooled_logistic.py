"""The exact logistic regression on all cases, from sums of gradients: a reference that costs many rounds."""

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.balanced import class_weights
from medtl_core.values import Released, Update


def gradient(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summed class-weighted log-loss [1] and its gradient [C, d + 1] at a given head."""
    inputs = with_bias(site.values, arrays["mean"], arrays["scale"])
    loss, slope = loss_and_gradient(arrays["head"], inputs, site.label, arrays["weight"])
    return Released(Update({"loss": np.array([loss]), "gradient": slope}))


def loss_and_gradient(head: Float, inputs: Float, label: NDArray[np.int64], weight: Float) -> tuple[float, Float]:
    """Returns the summed class-weighted log-loss and its gradient [C, d + 1]; sums over hospitals are the pooled ones.

    Args:
        head: [C, d + 1].
        inputs: [n, d + 1].
        label: int [n].
        weight: [C], weight of a case of each class.
    """
    logits, rows, case_weight = inputs @ head.T, np.arange(len(label)), weight[label]
    logits = logits - logits.max(axis=1, keepdims=True)
    exponent = np.exp(logits)
    total = exponent.sum(axis=1)
    loss = float(case_weight @ (np.log(total) - logits[rows, label]))
    residual = exponent / total[:, None]
    residual[rows, label] -= 1.0
    return loss, (residual * case_weight[:, None]).T @ inputs


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
        from scipy.optimize import minimize

        moments, classes, width = study.moments, len(study.problem.classes), study.problem.width
        fixed = {"mean": moments.mean, "scale": moments.scale, "weight": class_weights(moments.counts)}
        expect = {"loss": ArraySpec((1,)), "gradient": ArraySpec((classes, width + 1))}

        def objective(flat: Float) -> tuple[float, Float]:
            head = flat.reshape(classes, width + 1)
            request = Request("gradient", arrays={"head": head, **fixed}, expect=expect)
            sums = study.hospitals.total(request)
            return penalised(float(sums["loss"][0]), sums["gradient"], head, float(moments.counts.sum()), 1e-2)

        start = np.zeros(classes * (width + 1))
        minimum = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 60})
        affine = to_raw(minimum.x.reshape(classes, width + 1), moments.mean, moments.scale, moments.counts > 0)
        facts = {"evaluations": int(minimum.nfev)}
        bill = {"moments": Share(), "gradient": Share()}
        return Outcome({"": study.head(affine, "pooled-logistic", facts)}, bill, 0.0, facts)


METHODS = (PooledLogistic,)
TASKS = {"gradient": gradient}
