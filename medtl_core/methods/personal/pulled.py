"""Heads between one hospital's cases and everybody's head, and how far its own folds allow it to go."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.calibration import WORST, log_softmax
from medtl_core.heads.logistic import class_weights, loss_and_gradient
from medtl_core.heads.statistics import Float

Index = NDArray[np.int64]


def pulled(head: Float, inputs: Float, label: Index, pulls: tuple[float, ...]) -> Float:
    """Returns the heads [P, C, d + 1] that minimise class-balanced log-loss + pull / 2 ||W - head||^2, one a pull.

    The minimiser differs from `head` by a combination of the cases, so the search runs in their span: n numbers a
    class instead of d + 1.

    Args:
        head: [C, d + 1], on the space of the inputs.
        inputs: [n, d + 1], standardised features with a constant last column.
        label: int [n].
        pulls: in any order; each starts where the one before ended.
    """
    from scipy.optimize import minimize

    if not len(label):
        return np.repeat(head[None], len(pulls), axis=0)
    left, spread, right = np.linalg.svd(inputs, full_matrices=False)
    reduced, offset = left * spread, inputs @ head.T
    weight = class_weights(np.bincount(label, minlength=len(head)).astype(np.float64)) / len(label)
    augmented = np.concatenate([reduced, offset], axis=1)  # the head's own logits enter with weights that never move
    identity = np.eye(len(head))

    def objective(flat: Float, pull: float) -> tuple[float, Float]:
        move = flat.reshape(len(head), -1)
        loss, slope = loss_and_gradient(np.concatenate([move, identity], axis=1), augmented, label, weight)
        return loss + 0.5 * pull * float(flat @ flat), slope[:, : move.shape[1]].ravel() + pull * flat

    flat = np.zeros(len(head) * reduced.shape[1])
    heads = []
    for pull in pulls:
        flat = minimize(objective, flat, (pull,), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
        heads.append(head + flat.reshape(len(head), -1) @ right)
    return np.stack(heads)


def held_out_costs(
    fold: Index, inputs: Float, label: Index, count: int, heads_without: Callable[[int], Float]
) -> Float:  # fmt: skip
    """Returns the log-loss [P, n] of cases [n, d + 1], at most `WORST` nats each, by heads made without their fold.

    `heads_without` gives the P = `count` heads [P, C, d + 1] that know no case of a fold.
    """
    costs = np.zeros((count, len(label)))
    for number in np.unique(fold).tolist():
        rows = np.flatnonzero(fold == number)
        logits = np.einsum("nd,pcd->pnc", inputs[rows], heads_without(number))
        for place, scores in enumerate(logits):
            costs[place, rows] = np.minimum(-log_softmax(scores)[np.arange(len(rows)), label[rows]], WORST)
    return costs


def nearest(costs: Float, weight: Float) -> int:
    """Returns the first position whose loss exceeds the smallest by no more than one standard error.

    The rule of Breiman et al. (1984, section 3.4.3) with the federated head as the simplest model: a handful of cases
    does not part a hospital from it by chance. `costs` [P, n] has the federated head first; weights [n] sum to one.
    """
    cases = costs.shape[1]
    if cases < 2:
        return 0
    weighed = costs * weight * cases
    excess = weighed - weighed[int(np.argmin(weighed.mean(axis=1)))]
    error = excess.std(axis=1, ddof=1) / np.sqrt(cases)
    return int(np.flatnonzero(excess.mean(axis=1) <= error)[0])
