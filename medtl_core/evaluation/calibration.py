"""Probabilities from logits, and what corrects them afterwards: temperature and class prior."""

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.values import Array

Float = NDArray[np.float64]

#: Where `temperature` looks; a head that separates its cases perfectly would ask for infinity.
SMALLEST, LARGEST = 0.02, 50.0

#: Nats one case may cost where parameters are fitted, so that one mislabelled case does not decide. A class that no
#: hospital has shown (`values.ABSENT`) would otherwise cost thousands of nats a case.
WORST = 20.0


def log_softmax(logits: Array) -> Float:
    """Returns log-probabilities [n, C] of logits [n, C].

    The likeliest class is resolved down to probabilities of 1 - 1e-300, so that a confident head still ranks its cases.

    Example:
        >>> log_softmax(np.array([[0.0, 0.0]])).round(4).tolist()
        [[-0.6931, -0.6931]]
    """
    logits = np.asarray(logits, np.float64)
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    shifted = logits - logits[rows, top][:, None]
    exponent = np.exp(shifted)
    exponent[rows, top] = 0.0  # log(1 + rest) by log1p: adding the 1 first would round a small rest away
    return np.asarray(shifted - np.log1p(exponent.sum(axis=1, keepdims=True)))


def softmax(logits: Array) -> Float:
    """Returns probabilities [n, C] of logits [n, C].

    Example:
        >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]])).tolist()
        [[0.5, 0.5], [1.0, 0.0]]
    """
    return np.asarray(np.exp(log_softmax(logits)))


def class_balance(label: Array, classes: int) -> Float:
    """Returns the weight of each case [n], summing to one, under which all classes present count alike.

    Example:
        >>> class_balance(np.array([0, 1, 1]), 3).tolist()
        [0.5, 0.25, 0.25]
    """
    counts = np.bincount(label, minlength=classes)
    return np.asarray(1.0 / (counts[label] * max(int((counts > 0).sum()), 1)), np.float64)


def log_loss(logits: Array, label: Array, weights: Array | None = None) -> float:
    """Returns the weighted mean negative log-likelihood in nats.

    Args:
        logits: [n, C].
        label: int [n].
        weights: of the cases [n], any scale; None = all alike.

    Raises:
        DataError: there is no case with a positive weight.

    Example:
        >>> round(log_loss(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1])), 4)
        0.6931
    """
    weight = np.ones(len(label)) if weights is None else np.asarray(weights, np.float64)
    if not weight.sum() > 0:
        raise DataError("log-loss of no cases is undefined; give at least one case with a positive weight")
    return float(weight @ -log_softmax(logits)[np.arange(len(label)), label] / weight.sum())


def temperature(logits: Array, label: Array, *, class_balanced: bool = True) -> float:
    """Returns the factor on the logits that minimises log-loss (Guo et al., ICML 2017; the factor is their 1/T).

    The factor is positive, so it never changes the ranking of classes within a case nor any answer.

    Args:
        logits: [n, C]; cases whose loss exceeds 20 nats count as 20.
        label: int [n].
        class_balanced: all classes present count alike, as in balanced accuracy.

    Returns:
        A factor in [0.02, 50]; 1 when there is no case.

    Example:
        >>> logits = np.array([[4.0, 0.0]] * 4)
        >>> round(temperature(logits, np.array([0, 0, 0, 1]), class_balanced=False), 3)  # 3 of 4 right: log(3) / 4
        0.275
    """
    if not len(label):
        return 1.0
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    weight = class_balance(label, logits.shape[1]) if class_balanced else np.full(len(label), 1 / len(label))
    rows = np.arange(len(label))

    def loss(log_factor: float) -> float:
        return float(weight @ np.minimum(-log_softmax(np.exp(log_factor) * logits)[rows, label], WORST))

    # The cap makes the loss non-convex, so a grid finds the valley and a bounded search its floor.
    grid = np.linspace(np.log(SMALLEST), np.log(LARGEST), 25)
    best = int(np.argmin([loss(point) for point in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    fitted = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(fitted.x if fitted.fun <= loss(grid[best]) else grid[best]))


def log_prior(counts: Array, *, floor: float = 0.0) -> Float:
    """Returns the log share of each class [C], at least log `floor`; 0 for a class without cases: nothing to remove.

    Example:
        >>> log_prior(np.array([1.0, 3.0, 0.0])).round(4).tolist()
        [-1.3863, -0.2877, 0.0]
    """
    seen = counts > 0
    share = np.maximum(counts / counts.sum(), floor)
    return np.asarray(np.log(np.where(seen, share, 1.0)))
