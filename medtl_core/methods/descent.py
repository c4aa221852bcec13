"""Penalised multinomial logistic regression from sums of gradients, in few steps.

The Hessian of the log-loss is at most Z'Z / 2 whatever the head (Böhning, Annals of the Institute of Statistical
Mathematics 44, 1992), so with the Gram matrix of the inputs, which hospitals sum once, the step

    W <- W - gradient (share Z'Z / N + penalty)^-1

never diverges for a share of a quarter or more. On average over the cases the curvature of the answers is at most that
of the prior, for it is concave in the probabilities; where the prior's is more than a quarter, it is the share.
Nesterov's extrapolation, restarted where it leads uphill (O'Donoghue and Candès, 2015), makes a few steps enough for a
head that answers like the solution. The first is free: at a head of zeros the gradient follows from the class sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.linear import softmax
from medtl_core.heads.statistics import Float, Statistics
from medtl_core.methods.balanced import log_share

#: Of the weights' squared length, half of which is added to the mean log-loss; the bias is free.
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)
#: The penalties beside heads [S, P, C, d].
_PENALTY = np.asarray(PENALTIES)[:, None, None]
#: Of the inputs' mean outer product in the curvature that is assumed, at least: from here on no step diverges.
_SHARE = 0.25


@dataclass(frozen=True)
class Curvature:
    """What is assumed of the Hessian for some columns of inputs that are centred over all cases: the bias is apart.

    Attributes:
        columns: int64 [k], of the d features.
        values: eigenvalues [m] of the inputs' mean outer product.
        vectors: their eigenvectors [k, m]; across them the inputs do not spread.
        share: of it.
    """

    columns: NDArray[np.int64]
    values: Float
    vectors: Float
    share: float

    @classmethod
    def of(cls, axes: tuple[Float, Float], counts: Float, columns: NDArray[np.int64]) -> Self:
        """Returns the curvature for the standardised inputs of all cases, whose axes and class counts are these."""
        cases = counts.sum()
        prior = counts / cases
        share = float(np.linalg.eigvalsh(np.diag(prior) - np.outer(prior, prior))[-1])
        return cls(columns, axes[0] / cases, axes[1], max(share, _SHARE))

    def step(self, slope: Float) -> Float:
        """Returns how far to go against the slope [S, P, C, d + 1] of the penalised mean loss at each penalty."""
        far, inner = np.zeros_like(slope), slope[..., self.columns]
        along = 1.0 / (self.share * self.values + _PENALTY) - 1.0 / _PENALTY
        # one product of all heads at once, where `@` takes one a stack
        inside = np.tensordot(np.tensordot(inner, self.vectors, (-1, 0)) * along, self.vectors, (-1, 1))
        far[..., self.columns] = inner / _PENALTY + inside
        far[..., -1] = slope[..., -1] / self.share
        return far


@dataclass(frozen=True)
class Descent:
    """Heads on their way: for each of S sets of cases and P penalties one, on standardised inputs.

    Attributes:
        curvature: of the inputs.
        heads: float64 [S, P, C, d + 1].
        ahead: the same shape: where the next gradient is taken; numbers that float32 holds.
        momentum: float64 [S, P].
    """

    curvature: Curvature
    heads: Float
    ahead: Float
    momentum: Float

    @classmethod
    def start(cls, curvature: Curvature, sets: Sequence[Statistics], mean: Float, scale: Float) -> Self:
        """Returns heads after one step from zero, from the sums of each set and what standardises the inputs."""
        slope = np.stack([_slope_at_zero(part, mean, scale) for part in sets])[:, None]
        zeros = np.zeros((len(slope), len(PENALTIES), *slope.shape[2:]))
        begin = cls(curvature, zeros, zeros, np.ones(zeros.shape[:2]))
        return begin.stepped(np.broadcast_to(slope, zeros.shape))

    def stepped(self, gradient: Float) -> Self:
        """Returns the heads after one step.

        Args:
            gradient: [S, P, C, d + 1], of the mean log-loss of each set's cases at `ahead`.
        """
        slope = gradient.copy()
        slope[..., :-1] += _PENALTY * self.ahead[..., :-1]
        heads = self.ahead - self.curvature.step(slope)
        uphill = (slope * (heads - self.heads)).sum(axis=(2, 3)) > 0
        momentum = np.where(uphill, 1.0, (1.0 + np.sqrt(1.0 + 4.0 * self.momentum**2)) / 2.0)
        share = np.where(uphill, 0.0, (self.momentum - 1.0) / momentum)[..., None, None]
        ahead = (heads + share * (heads - self.heads)).astype(np.float32).astype(np.float64)
        return type(self)(self.curvature, heads, ahead, momentum)


def _slope_at_zero(statistics: Statistics, mean: Float, scale: Float) -> Float:
    """The gradient [C, d + 1] of the mean log-loss at a head of zeros, whose answer is the prior of the cases."""
    sums = np.column_stack([(statistics.sums - np.outer(statistics.counts, mean)) / scale, statistics.counts])
    prior = softmax(log_share(statistics.counts))
    return np.asarray((np.outer(prior, sums.sum(axis=0)) - sums) / max(statistics.cases, 1.0))
