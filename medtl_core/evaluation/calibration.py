"""Probabilities from logits, and what corrects them afterwards: temperature and class prior."""

import numpy as np
from numpy.typing import NDArray

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
    """
    logits = np.asarray(logits, np.float64)
    rows, top = np.arange(len(logits)), logits.argmax(axis=1)
    shifted = logits - logits[rows, top][:, None]
    exponent = np.exp(shifted)
    exponent[rows, top] = 0.0  # log(1 + rest) by log1p: adding the 1 first would round a small rest away
    return np.asarray(shifted - np.log1p(exponent.sum(axis=1, keepdims=True)))


def softmax(logits: Array) -> Float:
    """Returns probabilities [n, C] of logits [n, C]."""
    return np.asarray(np.exp(log_softmax(logits)))


def class_balance(label: Array, classes: int) -> Float:
    """Returns the weight of each case [n], summing to one, under which all classes present count alike.

    Example:
        >>> class_balance(np.array([0, 1, 1]), 3).tolist()
        [0.5, 0.25, 0.25]
    """
    counts = np.bincount(label, minlength=classes)
    return np.asarray(1.0 / (counts[label] * max(int((counts > 0).sum()), 1)), np.float64)


def log_loss(logits: Array, label: Array) -> float:
    """Returns the mean negative log-likelihood in nats.

    Args:
        logits: [n, C], n > 0.
        label: int [n].

    Example:
        >>> round(log_loss(np.array([[0.0, 0.0], [0.0, 0.0]]), np.array([0, 1])), 4)
        0.6931
    """
    return float(np.ones(len(label)) @ -log_softmax(logits)[np.arange(len(label)), label] / len(label))


def temperature(logits: Array, label: Array) -> float:
    """Returns the factor on the logits that minimises log-loss (Guo et al., ICML 2017; the factor is their 1/T).

    All classes present count alike, as in balanced accuracy, and a case counts for 20 nats at most. The factor is
    positive, so it never changes the ranking of classes within a case nor any answer.

    Args:
        logits: [n, C].
        label: int [n].

    Returns:
        A factor in [0.02, 50]; 1 when there is no case.
    """
    if not len(label):
        return 1.0
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, np.float64)
    logits = logits - logits.max(axis=1, keepdims=True)
    weight = class_balance(label, logits.shape[1])
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
    """Returns the log share of each class [C], at least log `floor`; 0 for a class without cases: nothing to remove."""
    return np.asarray(np.log(np.where(counts > 0, np.maximum(counts / counts.sum(), floor), 1.0)))
