"""Logistic regression of few cases with classes that count alike: what one hospital trains alone, and its loss."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.heads.quasi_newton import minimise
from medtl_core.heads.statistics import TINY, Float

#: Of the inputs' mean outer product in the curvature that is assumed.
_SHARE = 0.1
#: Directions in which the inputs spread less than this share of the most, squared, are rounding.
_RANK = 1e-12


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
    basis, spread = _span(inputs[:, :-1])
    curvature = np.append(_SHARE * spread**2 / len(label) + penalty, _SHARE)
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


def _span(inputs: Float) -> tuple[Float, Float]:
    """An orthonormal basis [d, k] of the rows' span, and the rows' spread [k] along it."""
    few = len(inputs) <= inputs.shape[1]
    values, vectors = np.linalg.eigh(inputs @ inputs.T if few else inputs.T @ inputs)
    spans = values > _RANK * values[-1]
    spread, vectors = np.sqrt(values[spans]), vectors[:, spans]
    return inputs.T @ vectors / spread if few else vectors, spread


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
