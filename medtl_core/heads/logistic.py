"""Logistic regression of few cases with classes that count alike: what one hospital trains alone, and its loss."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.heads.statistics import TINY, Float


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
    features that has far fewer numbers, and the same answer. scikit-learn has the same one, with C = 1 / (penalty n),
    or twice that for two classes; to import it takes longer than all this.

    Args:
        inputs: float64 [n, d + 1], standardised features with a constant last column.
        label: int64 [n].
        classes: number of classes C.
        penalty: on the weights, not on the bias.
    """
    from scipy.optimize import minimize

    head, (seen, place) = np.zeros((classes, inputs.shape[1])), np.unique(label, return_inverse=True)
    if len(seen) < 2:
        return head
    basis = np.linalg.qr(inputs[:, :-1].T)[0]
    narrow = np.column_stack([inputs[:, :-1] @ basis, inputs[:, -1]])
    weight = class_weights(np.bincount(place).astype(np.float64)) / len(label)
    penalties = penalty * np.append(np.ones(basis.shape[1]), 0.0)

    def objective(flat: Float) -> tuple[float, Float]:
        rows = flat.reshape(len(seen), -1)
        loss, slope = loss_and_gradient(rows, narrow, place, weight)
        return loss + 0.5 * float((penalties * rows**2).sum()), (slope + penalties * rows).ravel()

    exact = {"maxiter": 1000, "ftol": 1e-14, "gtol": 1e-8}
    start = np.zeros(len(seen) * narrow.shape[1])
    rows = minimize(objective, start, jac=True, method="L-BFGS-B", options=exact).x.reshape(len(seen), -1)
    head[seen] = np.concatenate([rows[:, :-1] @ basis.T, rows[:, -1:]], axis=1)
    return head


def class_weights(counts: Float) -> Float:
    """Returns the weight of a case of each class so that classes count alike and the weights average to one.

    Example:
        >>> class_weights(np.array([1.0, 3.0, 0.0])).tolist()
        [2.0, 0.6666666666666666, 0.0]
    """
    seen = counts > 0
    return np.asarray(np.where(seen, counts.sum() / (max(int(seen.sum()), 1) * np.maximum(counts, 1.0)), 0.0))


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
