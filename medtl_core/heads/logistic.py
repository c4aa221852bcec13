"""The log-loss of a linear head in which classes count alike, summed over cases, and its gradient."""

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.statistics import Float


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
    logits -= np.maximum.reduce(logits, axis=1, keepdims=True)
    exponent = np.exp(logits)
    total = np.add.reduce(exponent, axis=1)
    loss = float(case_weight @ (np.log(total) - logits[rows, label]))
    residual = exponent / total[:, None]
    residual[rows, label] -= 1.0
    return loss, (residual * case_weight[:, None]).T @ inputs
