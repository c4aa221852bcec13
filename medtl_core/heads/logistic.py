"""Penalised multinomial logistic regression from sums of gradients, in few steps.

The Hessian of the log-loss is at most Z'Z / 2 whatever the head (Böhning, Annals of the Institute of Statistical
Mathematics 44, 1992), so with the Gram matrix of the inputs, which hospitals sum once, the step

    W <- W - gradient (share Z'Z / N + penalty)^-1

never diverges for a share of a quarter or more. On average over the cases the curvature of the answers is at most that
of the prior, for it is concave in the probabilities; where the prior's is more than a quarter, it is the share.
Nesterov's extrapolation, restarted where it leads uphill (O'Donoghue and Candès, 2015), makes a few steps enough for a
head that answers like the solution. The first is free: at a head of zeros the gradient follows from the class sums.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.linear import log_share, softmax
from medtl_core.heads.statistics import Float, Statistics

#: Of the weights' squared length, half of which is added to the mean log-loss; the bias is free.
PENALTIES = (0.1, 0.3, 1.0, 3.0)
#: Of the inputs' mean outer product in the curvature that is assumed, at least: from here on no step diverges.
_SHARE = 0.25


@dataclass(frozen=True)
class Curvature:
    """What is assumed of the Hessian for some columns of inputs that are centred over all cases: the bias is apart.

    Attributes:
        columns: int64 [k], of the d features.
        values, vectors: eigenvalues [k] and eigenvectors [k, k] of the inputs' mean outer product.
        share: of it.
    """

    columns: NDArray[np.int64]
    values: Float
    vectors: Float
    share: float

    @classmethod
    def of(cls, standard: Statistics, columns: NDArray[np.int64]) -> Self:
        """Returns the curvature for the standardised inputs of all cases."""
        values, vectors = np.linalg.eigh(standard.gram[np.ix_(columns, columns)] / standard.cases)
        prior = standard.counts / standard.cases
        share = float(np.linalg.eigvalsh(np.diag(prior) - np.outer(prior, prior))[-1])
        return cls(columns, np.maximum(values, 0.0), vectors, max(share, _SHARE))

    def step(self, slope: Float) -> Float:
        """Returns how far to go against the slope [S, P, C, d + 1] of the penalised mean loss at each penalty."""
        far = np.zeros_like(slope)
        bound = self.share * self.values + np.asarray(PENALTIES)[:, None, None]
        far[..., self.columns] = ((slope[..., self.columns] @ self.vectors) / bound) @ self.vectors.T
        far[..., -1] = slope[..., -1] / self.share
        return far


@dataclass(frozen=True)
class Descent:
    """Heads on their way: for each of S sets of cases and P penalties one, on standardised inputs.

    Attributes:
        heads: float64 [S, P, C, d + 1].
        ahead: the same shape: where the next gradient is taken; numbers that float32 holds.
        momentum: float64 [S, P].
    """

    heads: Float
    ahead: Float
    momentum: Float

    @classmethod
    def start(cls, sets: int, classes: int, width: int) -> Self:
        """Returns heads of zeros."""
        zeros = np.zeros((sets, len(PENALTIES), classes, width + 1))
        return cls(zeros, zeros, np.ones(zeros.shape[:2]))

    def stepped(self, gradient: Float, curvature: Curvature) -> Self:
        """Returns the heads after one step.

        Args:
            gradient: [S, P, C, d + 1], of the mean log-loss of each set's cases at `ahead`.
            curvature: of the inputs.
        """
        slope = gradient.copy()
        slope[..., :-1] += np.asarray(PENALTIES)[:, None, None] * self.ahead[..., :-1]
        heads = self.ahead - curvature.step(slope)
        uphill = (slope * (heads - self.heads)).sum(axis=(2, 3)) > 0
        momentum = np.where(uphill, 1.0, (1.0 + np.sqrt(1.0 + 4.0 * self.momentum**2)) / 2.0)
        share = np.where(uphill, 0.0, (self.momentum - 1.0) / momentum)[..., None, None]
        ahead = (heads + share * (heads - self.heads)).astype(np.float32).astype(np.float64)
        return type(self)(heads, ahead, momentum)


def slope_at_zero(statistics: Statistics, mean: Float, scale: Float) -> Float:
    """Returns the gradient [C, d + 1] of the mean log-loss at a head of zeros, whose answer is the prior.

    Inputs are standardised by `mean` and `scale`; the prior is that of the cases behind the statistics.
    """
    sums = np.column_stack([(statistics.sums - np.outer(statistics.counts, mean)) / scale, statistics.counts])
    prior = softmax(log_share(statistics.counts))
    return np.asarray((np.outer(prior, sums.sum(axis=0)) - sums) / max(statistics.cases, 1.0))


def errors(heads: Float, offset: Float, inputs: Float, label: NDArray[np.int64], fold: NDArray[np.int64]) -> Float:
    """Returns the gradient of each case's log-loss by its logits, [n, S, H, C].

    Set 0 holds all cases, set s > 0 those outside fold s - 1; a case outside a set counts 0 there.

    Args:
        heads: [S, H, C, d + 1].
        offset: [S, C], added to the logits.
        inputs: [n, d + 1], with a constant last column.
        label: int64 [n].
        fold: int64 [n].
    """
    flat = heads.reshape(-1, heads.shape[-1])
    residual = softmax((inputs @ flat.T).reshape(len(inputs), *heads.shape[:3]) + offset[:, None])
    residual[np.arange(len(label)), :, :, label] -= 1.0
    residual[np.arange(len(label)), fold + 1] = 0.0
    return residual
