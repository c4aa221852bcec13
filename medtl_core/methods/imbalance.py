"""Rare classes: losses that weigh them.

A loss gives its value to torch and its gradient to numpy, so that the linear head, trained without torch, and a
fine-tuned backbone minimise the same thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.heads.linear import class_weights, softmax
from medtl_core.heads.statistics import Float

if TYPE_CHECKING:
    from torch import Tensor

#: Smallest class share a loss works with. A hospital without a class would otherwise push it away without limit.
FLOOR = 1e-2


@final
@dataclass(frozen=True)
class Loss:
    """Cross-entropy of logits plus an offset, weighed by class and averaged over the cases of a batch.

    The offset is left out when the classifier answers. With the log prior of the training cases it absorbs their
    imbalance, so that the plain logits are those of balanced classes: balanced softmax (Ren et al., NeurIPS 2020, eq.
    4), the logit-adjusted loss (Menon et al., ICLR 2021, eq. 10), and, with a hospital's own prior, calibrated logits
    (FedLC, Zhang et al., ICML 2022). The mean is over cases, not over weights: batches then add up.

    Attributes:
        offset: [C], added to the logits.
        weight: [C], of a case of each class; None = all alike.
    """

    offset: Float
    weight: Float | None = None

    def value(self, logits: "Tensor", label: "Tensor") -> "Tensor":
        """Returns the mean loss of logits [n, C] and labels [n], a scalar in nats."""
        from torch.nn.functional import cross_entropy

        shifted = logits + logits.new_tensor(self.offset)
        if self.weight is None:
            return cross_entropy(shifted, label)
        return (cross_entropy(shifted, label, reduction="none") * logits.new_tensor(self.weight)[label]).mean()

    def residual(self, logits: Float, label: NDArray[np.int64]) -> Float:
        """Returns the gradient of each case's loss by its logits, [n, C]; its mean is the gradient of `value`."""
        residual = softmax(logits + self.offset)
        residual[np.arange(len(label)), label] -= 1.0
        return residual if self.weight is None else residual * self.weight[label][:, None]


#: Loss name -> the loss for class counts [C]: those of the cases trained on, or of all hospitals ("logit-adjusted").
LOSSES: Mapping[str, Callable[[Float], Loss]] = {
    "cross-entropy": lambda counts: Loss(np.zeros(len(counts))),
    "balanced-softmax": lambda counts: Loss(log_share(counts)),
    "logit-adjusted": lambda counts: Loss(log_share(counts)),
    "class-weighted": lambda counts: Loss(np.zeros(len(counts)), class_weights(counts)),
}


def find_loss(name: str, counts: Float) -> Loss:
    """Returns the loss called `name` for class counts [C].

    Raises:
        ConfigError: the name is unknown, or the counts are not non-negative numbers with a positive sum.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss {name!r} is not known; {did_you_mean(name, LOSSES)}")
    known = np.asarray(counts, np.float64)
    if known.ndim != 1 or not np.isfinite(known).all() or (known < 0).any() or not known.sum() > 0:
        raise ConfigError(f"loss {name!r} needs one non-negative case count a class with a positive sum, not {counts}")
    return LOSSES[name](known)


def log_share(counts: Float, floor: float = FLOOR) -> Float:
    """Returns the log share of each class [C], at least log `floor`, also of a class without cases.

    Example:
        >>> log_share(np.array([1.0, 3.0, 0.0])).round(4).tolist()
        [-1.3863, -0.2877, -4.6052]
    """
    return np.asarray(np.log(np.maximum(counts / counts.sum(), floor)))
