"""Penalised multinomial logistic regression from sums of gradients, in few steps.

The Hessian of the log-loss is at most Z'Z / 2 whatever the head (Böhning, Annals of the Institute of Statistical
Mathematics 44, 1992), so with the Gram matrix of the inputs, which hospitals sum once, the step

    W <- W - gradient (Z'Z / 2N + penalty)^-1

goes as far as is safe in every direction at once. Nesterov's extrapolation, restarted where it leads uphill (O'Donoghue
and Candès, 2015), makes five steps enough for a head that answers like the solution (docs/methods.md).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.linear import softmax
from medtl_core.heads.statistics import Float

#: Of the weights' squared length, half of which is added to the mean log-loss; the bias is free.
PENALTIES = (0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Curvature:
    """The bound on the Hessian for some columns of inputs that are centred over all cases, so that the bias is apart.

    Attributes:
        columns: int64 [k], of the d features.
        values, vectors: eigenvalues [k] and eigenvectors [k, k] of the inputs' mean outer product.
    """

    columns: NDArray[np.int64]
    values: Float
    vectors: Float

    @classmethod
    def of(cls, gram: Float, cases: float, columns: NDArray[np.int64]) -> Self:
        """Returns the bound from the Gram matrix [d, d] of standardised inputs."""
        values, vectors = np.linalg.eigh(gram[np.ix_(columns, columns)] / cases)
        return cls(columns, np.maximum(values, 0.0), vectors)

    def step(self, slope: Float) -> Float:
        """Returns how far to go against the slope [S, P, C, d + 1] of the penalised mean loss at each penalty."""
        far = np.zeros_like(slope)
        bound = 0.5 * self.values + np.asarray(PENALTIES)[:, None, None]
        far[..., self.columns] = ((slope[..., self.columns] @ self.vectors) / bound) @ self.vectors.T
        far[..., -1] = 2.0 * slope[..., -1]
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
