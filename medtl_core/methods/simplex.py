"""Weights of a mixture from sums: the least mean log-loss over the simplex, by Newton steps that a few rounds settle.

loss(w) = -sum_i c_i log sum_m w_m p_im, with p_im the probability member m gives to the true class of case i, is convex
in w. Its value, gradient and curvature are sums over cases, so hospitals can return them for weights they are sent.
"""

from dataclasses import dataclass
from typing import final

import numpy as np

from medtl_core.heads.statistics import Float

#: Shares of a Newton step that are tried in one round; a step of expectation-maximisation is tried beside them.
STEPS = (1.0, 0.5, 0.25, 0.0625)

_PAIRS = 2000
_FLAT = 1e-12


@final
@dataclass(frozen=True)
class Point:
    """What is known of some weights.

    Attributes:
        weights: float64 [M] on the simplex.
        loss: mean log-loss, in nats.
        gradient: float64 [M].
        curvature: float64 [M, M].
    """

    weights: Float
    loss: float
    gradient: Float
    curvature: Float

    @property
    def gap(self) -> float:
        """By how many nats the loss can at most fall: it is convex, and w'gradient = -1 if the c_i sum to one."""
        return max(float((-self.gradient).max() + self.weights @ self.gradient), 0.0)


def likelihood_sums(likelihood: Float, weights: Float) -> tuple[float, Float, Float]:
    """Returns summed loss, gradient [M] and curvature [M, M] of cases that count alike.

    Args:
        likelihood: float64 [M, n], positive: probability of the true class.
        weights: float64 [M].

    Example:
        >>> loss, gradient, curvature = likelihood_sums(np.array([[0.5], [1.0]]), np.array([0.0, 1.0]))
        >>> loss, gradient.tolist(), curvature.tolist()
        (-0.0, [-0.5, -1.0], [[0.25, 0.5], [0.5, 1.0]])
    """
    mixed = weights @ likelihood
    ratio = likelihood / mixed
    return -float(np.log(mixed).sum()), -ratio.sum(axis=1), ratio @ ratio.T


def candidates(point: Point) -> Float:
    """Returns weights to try next [len(STEPS) + 1, M]; one of them has a lower loss unless `point` is the least."""
    towards = _least(point)
    newton = [point.weights + share * (towards - point.weights) for share in STEPS]
    pull = point.weights * -point.gradient  # expectation-maximisation never raises the loss (Dempster et al. 1977)
    return np.stack([*(weights / weights.sum() for weights in newton), pull / pull.sum()])


def _least(point: Point) -> Float:
    """The least of the quadratic model on the simplex, by moving weight between the pair of members that gains most."""
    weights, slope = point.weights.copy(), point.gradient.copy()
    for _ in range(_PAIRS):
        used = weights > 0
        source = int(np.argmax(np.where(used, slope, -np.inf)))
        target = int(np.argmin(slope))
        if slope[source] - slope[target] <= _FLAT:
            break
        bend = point.curvature
        stiff = bend[source, source] + bend[target, target] - 2 * bend[source, target]
        room = float(weights[source])
        step = min((slope[source] - slope[target]) / stiff, room) if stiff > _FLAT else room
        weights[source], weights[target] = weights[source] - step, weights[target] + step
        if step == room:
            weights[source] = 0.0
        slope += step * (bend[:, target] - bend[:, source])
    return np.asarray(np.maximum(weights, 0.0))
