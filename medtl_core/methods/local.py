"""Each hospital's own logistic head, which travels so that it can be judged: what collaboration has to beat."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.heads.logistic import class_weights, loss_and_gradient
from medtl_core.heads.statistics import TINY, Float, axes_of
from medtl_core.methods.quasi_newton import minimise
from medtl_core.values import Released, Update

#: Of the inputs' mean outer product in the curvature that is assumed.
_SHARE = 0.03


def local_head(values: NDArray[np.floating[Any]], label: NDArray[np.int64], classes: int) -> Float:
    """Returns the head one hospital trains alone, [C, d + 1] on raw features [n, d]; see `logistic`.

    Its own moments standardise. A class it does not show is never answered; if it shows one class, that one always is.
    """
    wide = np.asarray(values, dtype=np.float64)
    mean = wide.sum(axis=0) / max(len(wide), 1)
    scale = np.sqrt(((wide - mean) ** 2).sum(axis=0) / max(len(wide), 1)) + TINY
    head = logistic(with_bias(wide, mean, scale), label, classes)
    return to_raw(head, mean, scale, np.bincount(label, minlength=classes) > 0)


def logistic(inputs: Float, label: NDArray[np.int64], classes: int, *, penalty: float = 1e-2) -> Float:
    """Returns the class-balanced logistic regression of a few cases as a head [C, d + 1]; zeros for a class not shown.

    It minimises the class-weighted mean log-loss plus penalty / 2 times the squared length of the head's weights, as
    `pooled-logistic` does. The weights lie in the span of the cases, so they are sought there: with fewer cases than
    features that has far fewer numbers, and the same answer. Along each direction of the span a weight is counted in
    steps that its curvature, `_SHARE` of the inputs' spread and the penalty, makes equal: a tenth of the steps do.
    scikit-learn has the same head, with C = 1 / (penalty n), or twice that for two classes.

    Args:
        inputs: float64 [n, d + 1], standardised features with a constant last column.
        label: int64 [n].
        classes: number of classes C.
        penalty: on the weights, not on the bias.
    """
    head, (seen, place) = np.zeros((classes, inputs.shape[1])), np.unique(label, return_inverse=True)
    if len(seen) < 2:
        return head
    spread, basis = axes_of(inputs[:, :-1])
    curvature = np.append(_SHARE * spread / len(label) + penalty, _SHARE)
    narrow = np.column_stack([inputs[:, :-1] @ basis, inputs[:, -1]]) / np.sqrt(curvature)
    weight = class_weights(np.bincount(place).astype(np.float64)) / len(label)
    penalties = np.append(np.full(len(spread), penalty), 0.0) / curvature

    def objective(flat: Float) -> tuple[float, Float]:
        rows = flat.reshape(len(seen), -1)
        loss, slope = loss_and_gradient(rows, narrow, place, weight)
        return loss + 0.5 * float((penalties * rows**2).sum()), (slope + penalties * rows).ravel()

    flat = minimise(objective, np.zeros(len(seen) * len(curvature)), steps=1000, tolerance=1e-9)[0]
    rows = flat.reshape(len(seen), -1) / np.sqrt(curvature)
    head[seen] = np.concatenate([rows[:, :-1] @ basis.T, rows[:, -1:]], axis=1)
    return head


def local(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The head this hospital would train alone, [C, d + 1] on raw features; see `local_head`."""
    return Released(Update({"head": local_head(site.values, site.label, site.classes)}))


class Local(Method):
    """Each hospital alone: class-balanced logistic regression on its own cases."""

    syntax = "local"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        expect = {"head": ArraySpec((len(study.problem.classes), study.problem.width + 1))}
        replies = study.hospitals.ask(Request("local", expect=expect))
        heads = {reply.site: study.head(reply.arrays["head"], "local", {"site": reply.site}) for reply in replies}
        return Outcome(heads, {"local": Share()})


METHODS = (Local,)
TASKS = {"local": local}
