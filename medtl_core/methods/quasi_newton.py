"""Minimisation by limited-memory BFGS; to import scipy's takes longer than a small study's own work."""

from collections import deque
from collections.abc import Callable

import numpy as np

from medtl_core.heads.statistics import Float

#: Pairs of steps and changes of the slope that the curvature is estimated from.
_MEMORY = 10
#: Share of the decrease that the slope promises, with which a step is taken, and what rounding may hide of it.
_ARMIJO, _ROUNDING = 1e-4, 1e-14


def minimise(
    objective: Callable[[Float], tuple[float, Float]], point: Float, *, steps: int, tolerance: float,
    inverse: Callable[[Float], Float] = lambda slope: slope,
) -> tuple[Float, int]:  # fmt: skip
    """Returns the minimum of a smooth convex function, and how often it was evaluated.

    Nocedal and Wright, Numerical Optimization (2006), algorithm 7.5, with a backtracking search along each direction.

    Args:
        objective: gives value and slope [p] at a point [p].
        point: where to start.
        steps: at most.
        tolerance: it ends where no number of the slope is larger.
        inverse: gives the product of a slope [p] with the inverse of what the curvature is taken for, up to a factor.
    """
    (value, slope), evaluations, pairs = objective(point), 1, deque[tuple[Float, Float, float]](maxlen=_MEMORY)
    factor = 1.0
    for _ in range(steps):
        if np.abs(slope).max(initial=0.0) <= tolerance:
            break
        move, shares = -slope, list[float]()
        for step, change, product in reversed(pairs):
            shares.append(float(step @ move) / product)
            move -= shares[-1] * change
        move = factor * inverse(move)
        for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
            move += (share - float(change @ move) / product) * step
        promised, shrink = float(slope @ move), 1.0
        while True:
            move, promised, evaluations = shrink * move, shrink * promised, evaluations + 1
            found, ahead = objective(point + move)
            if (excess := found - value - promised) <= (_ARMIJO - 1.0) * promised + _ROUNDING * abs(value):
                break
            shrink = min(max(-0.5 * promised / excess, 0.1), 0.5)  # to the lowest point of the parabola that is known
        change = ahead - slope
        if (product := float(move @ change)) > 0.0:
            pairs.append((move, change, product))
            factor = product / float(change @ inverse(change))
        point, value, slope = point + move, found, ahead
    return point, evaluations
