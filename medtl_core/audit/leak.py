"""What an unprotected update tells: class counts exactly, and a lone patient's features.

A positive control. It shows why a plain update is not anonymous, and that the same attack fails on a noised one.
"""

from dataclasses import dataclass

import numpy as np

from medtl_core.audit.two_run import Float
from medtl_core.errors import DataError


@dataclass(frozen=True)
class Leak:
    """What was read from an update.

    Attributes:
        counts: float64 [C], patients of each class.
        sums: float64 [C, d], sum of each class's inputs: where the count is one, the patient's own.
    """

    counts: Float
    sums: Float

    def alone(self) -> list[int]:
        """Returns the classes with a single patient."""
        return [int(place) for place in np.flatnonzero(np.abs(self.counts - 1.0) < 0.5)]


def from_gradient(gradient: Float, total: Float | None = None) -> Leak:
    """Reads the first gradient of a softmax head that starts at zero.

    Every class then has probability 1/C, so row c of the summed gradient is S/C - S_c, with S the sum over all inputs
    and S_c over those of class c; its last column, of the constant input, is n/C - n_c.

    Args:
        gradient: float64 [C, d + 1], summed over the cases, the constant input last.
        total: float64 [d + 1], S and n, where the server knows them (a run's moments tell); None = read from a class
            without cases, the one with the largest last number, which few-shot hospitals often have.

    Raises:
        DataError: the gradient is not one of at least two classes and one input.

    Example:
        >>> inputs, onehot = np.array([[2.0, 1.0], [4.0, 1.0]]), np.eye(3)[[0, 1]]
        >>> leak = from_gradient((1 / 3 - onehot).T @ inputs)
        >>> leak.counts.round(9).tolist(), leak.sums.round(9).tolist()
        ([1.0, 1.0, 0.0], [[2.0], [4.0], [0.0]])
    """
    if gradient.ndim != 2 or min(gradient.shape) < 2:
        raise DataError(f"a gradient of shape {gradient.shape} is not that of a head with a bias")
    spread = gradient[int(gradient[:, -1].argmax())] if total is None else total / len(gradient)
    found = spread - gradient
    return Leak(found[:, -1], found[:, :-1])


def from_sums(counts: Float, sums: Float) -> Leak:
    """Reads a message of class counts [C] and class sums [C, d]: there is nothing to solve."""
    return Leak(counts, sums)


def cosine(found: Float, truth: Float) -> float:
    """Returns the cosine of two vectors; 0 where one has no length.

    Example:
        >>> round(cosine(np.array([1.0, 1.0]), np.array([2.0, 0.0])), 4)
        0.7071
    """
    length = float(np.linalg.norm(found) * np.linalg.norm(truth))
    return float(found.ravel() @ truth.ravel()) / length if length else 0.0
