"""Weights of a mean of probabilities: those of least log-loss over the simplex, by Newton steps from sums.

loss(w) = -sum_i c_i log sum_m w_m p_im, with p_im the probability member m gives to the true class of case i, is convex
in w (super learner: van der Laan, Polley and Hubbard 2007; stacking: Wolpert 1992). Its value, gradient and curvature
are sums over cases, so hospitals can return them for weights they are sent, and a handful of rounds settles it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.formulas import Float

#: Shares of a Newton step that are tried in one round; a step of expectation-maximisation is tried beside them.
STEPS = (1.0, 0.5, 0.25, 0.0625)

_PAIRS = 2000
_FLAT = 1e-12


@dataclass(frozen=True)
class Point:
    """Weights [M] on the simplex, their mean log-loss in nats, its gradient [M] and curvature [M, M]."""

    weights: Float
    loss: float
    gradient: Float
    curvature: Float

    @property
    def gap(self) -> float:
        """By how many nats the loss can at most fall: it is convex, and w'gradient = -1 if the c_i sum to one."""
        return max(float((-self.gradient).max() + self.weights @ self.gradient), 0.0)


def class_sums(likelihood: Float, label: NDArray[np.int64], classes: int, tried: Float) -> dict[str, Float]:
    """Returns sums over cases, class by class, for weights [G, M]; those of several hospitals add.

    From the probability [M, n] of each case's true class: `loss` [G, C], `gradient` [G, C, M] and `curvature`
    [G, C, M, M], float64.
    """
    shape, members = (len(tried), classes), len(likelihood)
    loss, gradient, curvature = np.zeros(shape), np.zeros((*shape, members)), np.zeros((*shape, members, members))
    for place in np.unique(label):
        inside = likelihood[:, label == place]
        for row, weights in enumerate(tried):
            mixed = weights @ inside
            ratio = inside / mixed
            loss[row, place] = -float(np.log(mixed).sum())
            gradient[row, place], curvature[row, place] = -ratio.sum(axis=1), ratio @ ratio.T
    return {"loss": loss, "gradient": gradient, "curvature": curvature}


def best_point(tried: Float, sums: Mapping[str, Float], counts: Float) -> Point:
    """Returns the weights of least loss among those tried [G, M], from `class_sums` and the cases of each class [C].

    All classes present count alike.
    """
    case = np.where(counts > 0, 1.0 / np.maximum(counts, 1.0), 0.0) / max(int((counts > 0).sum()), 1)
    points = []
    for row, weights in enumerate(tried):
        terms = {name: np.tensordot(case, array[row], axes=1) for name, array in sums.items()}
        points.append(Point(weights, float(terms["loss"]), terms["gradient"], terms["curvature"]))
    return min(points, key=lambda point: point.loss)


def least_loss(best_of: Callable[[Float], Point], members: int, *, enough: float, rounds: int) -> tuple[Point, int]:
    """Returns the weights [M] of least loss, and how often weights were tried.

    Args:
        best_of: the best of some weights [G, M]; asked once a round.
        members: their number M.
        enough: nats within which the loss is the least.
        rounds: after which weights are taken as they are.
    """
    best = best_of(np.full((1, members), 1.0 / members))
    for number in range(1, rounds):
        if best.gap <= enough:
            return best, number
        point = best_of(_candidates(best))
        if point.loss >= best.loss:  # rounding
            return best, number + 1
        best = point
    return best, rounds


def _candidates(point: Point) -> Float:
    """Weights to try next [len(STEPS) + 1, M]; one of them has a lower loss unless `point` is the least."""
    towards = _least(point)
    newton = [point.weights + share * (towards - point.weights) for share in STEPS]
    pull = point.weights * -point.gradient  # expectation-maximisation never raises the loss (Dempster et al. 1977)
    return np.stack([*(weights / weights.sum() for weights in newton), pull / pull.sum()])


def _least(point: Point) -> Float:
    """The least of the quadratic model on the simplex, by moving weight between the pair of members that gains most."""
    weights, slope, bend = point.weights.copy(), point.gradient.copy(), point.curvature
    for _ in range(_PAIRS):
        source, target = int(np.argmax(np.where(weights > 0, slope, -np.inf))), int(np.argmin(slope))
        if slope[source] - slope[target] <= _FLAT:
            break
        stiff = bend[source, source] + bend[target, target] - 2 * bend[source, target]
        room = float(weights[source])
        step = min((slope[source] - slope[target]) / stiff, room) if stiff > _FLAT else room
        weights[target] += step
        weights[source] = 0.0 if step == room else weights[source] - step
        slope += step * (bend[:, target] - bend[:, source])
    return np.asarray(np.maximum(weights, 0.0))
