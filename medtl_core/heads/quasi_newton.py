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
    objective: Callable[[Float], tuple[float, Float]], point: Float, *, steps: int, tolerance: float
) -> tuple[Float, int]:
    """Returns the minimum of a smooth convex function, and how often it was evaluated.

    Nocedal and Wright, Numerical Optimization (2006), algorithm 7.5, with a backtracking search along each direction.

    Args:
        objective: gives value and slope [p] at a point [p].
        point: where to start.
        steps: at most.
        tolerance: it ends where no number of the slope is larger.
    """
    (value, slope), evaluations, pairs = objective(point), 1, deque[tuple[Float, Float, float]](maxlen=_MEMORY)
    for _ in range(steps):
        if np.abs(slope).max(initial=0.0) <= tolerance:
            break
        direction = _direction(slope, pairs)
        promised, length = float(slope @ direction), 1.0 if pairs else min(1.0, 1.0 / float(np.linalg.norm(slope)))
        while True:
            step = length * direction
            found, ahead = objective(point + step)
            evaluations += 1
            excess = found - value - length * promised
            if excess <= (_ARMIJO - 1.0) * length * promised + _ROUNDING * abs(value):
                break
            # the lowest point of the parabola through what is known
            length *= min(max(-0.5 * length * promised / excess, 0.1), 0.5)
        change = ahead - slope
        if (product := float(step @ change)) > 0.0:
            pairs.append((step, change, product))
        point, value, slope = point + step, found, ahead
    return point, evaluations


def _direction(slope: Float, pairs: "deque[tuple[Float, Float, float]]") -> Float:
    """Downhill, against the slope times the inverse curvature that the pairs tell."""
    direction, shares = -slope, []
    for step, change, product in reversed(pairs):
        shares.append(float(step @ direction) / product)
        direction = direction - shares[-1] * change
    if pairs:
        _, change, product = pairs[-1]
        direction *= product / float(change @ change)
    for (step, change, product), share in zip(pairs, reversed(shares), strict=True):
        direction += (share - float(change @ direction) / product) * step
    return direction
