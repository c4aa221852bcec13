"""Rare classes: losses that weigh them, orders that show them more often, and the rule for when to use either.

Each loss gives its value to torch and its gradient to numpy, so that the linear head, trained without torch, and a
fine-tuned backbone minimise the same thing.
"""

from abc import ABC, abstractmethod
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

Order = NDArray[np.int64]

#: Smallest class share a loss works with. A hospital without a class would otherwise push it away without limit.
FLOOR = 1e-2

#: The rule's limits (METHODS section 3): fewer cases a hospital and no more classes than this, and a loss that knows
#: the hospital's own prior does harm.
FEW_SHOTS, FEW_CLASSES = 50, 3


class Loss(ABC):
    """A loss on logits, averaged over the cases of a batch."""

    @abstractmethod
    def value(self, logits: "Tensor", label: "Tensor") -> "Tensor":
        """Returns the mean loss of logits [n, C] and labels [n], a scalar in nats."""

    @abstractmethod
    def residual(self, logits: Float, label: NDArray[np.int64]) -> Float:
        """Returns the gradient of each case's loss by its logits, [n, C]; its mean is the gradient of `value`."""


@final
@dataclass(frozen=True)
class Shifted(Loss):
    """Cross-entropy of logits plus an offset, which is left out when the classifier answers.

    With the log prior of the training cases the offset absorbs their imbalance, so that the plain logits are those of
    balanced classes: balanced softmax (Ren et al., NeurIPS 2020, eq. 4), the logit-adjusted loss (Menon et al., ICLR
    2021, eq. 10), and, with a hospital's own prior, calibrated logits (FedLC, Zhang et al., ICML 2022).

    Attributes:
        offset: [C], added to the logits; zero = plain cross-entropy.
    """

    offset: Float

    def value(self, logits: "Tensor", label: "Tensor") -> "Tensor":
        """See Loss."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(logits + logits.new_tensor(self.offset), label)

    def residual(self, logits: Float, label: NDArray[np.int64]) -> Float:
        """See Loss."""
        residual = softmax(logits + self.offset)
        residual[np.arange(len(label)), label] -= 1.0
        return residual


@final
@dataclass(frozen=True)
class Weighted(Loss):
    """Cross-entropy with a weight for each class. The mean is over cases, not over weights: batches then add up.

    Attributes:
        weight: [C].
    """

    weight: Float

    def value(self, logits: "Tensor", label: "Tensor") -> "Tensor":
        """See Loss."""
        from torch.nn.functional import cross_entropy

        return (cross_entropy(logits, label, reduction="none") * logits.new_tensor(self.weight)[label]).mean()

    def residual(self, logits: Float, label: NDArray[np.int64]) -> Float:
        """See Loss."""
        return Shifted(np.zeros(logits.shape[1])).residual(logits, label) * self.weight[label][:, None]


@final
@dataclass(frozen=True)
class Focal(Loss):
    """Focal loss -(1 - p)^gamma log p of the true class's probability p (Lin et al., ICCV 2017, eq. 4).

    Attributes:
        gamma: at least 1; how much less an easy case counts.
    """

    gamma: float = 2.0

    def value(self, logits: "Tensor", label: "Tensor") -> "Tensor":
        """See Loss."""
        from torch.nn.functional import log_softmax

        logp = log_softmax(logits, dim=1).gather(1, label[:, None])[:, 0]
        return -((1 - logp.exp()) ** self.gamma * logp).mean()

    def residual(self, logits: Float, label: NDArray[np.int64]) -> Float:
        """See Loss."""
        residual = Shifted(np.zeros(logits.shape[1])).residual(logits, label)
        own = 1.0 + residual[np.arange(len(label)), label]
        rest = np.maximum(1.0 - own, 0.0)
        log_own = np.log(np.maximum(own, np.finfo(np.float64).tiny))
        factor = rest**self.gamma - self.gamma * own * rest ** (self.gamma - 1) * log_own
        return residual * factor[:, None]


#: Loss name -> the loss for class counts [C]: those of the cases trained on, or of all hospitals ("logit-adjusted").
LOSSES: Mapping[str, Callable[[Float], Loss]] = {
    "cross-entropy": lambda counts: Shifted(np.zeros(len(counts))),
    "balanced-softmax": lambda counts: Shifted(log_share(counts)),
    "logit-adjusted": lambda counts: Shifted(log_share(counts)),
    "class-weighted": lambda counts: Weighted(class_weights(counts)),
    "focal": lambda counts: Focal(),
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


def loss_function(name: str, counts: Float) -> Callable[["Tensor", "Tensor"], "Tensor"]:
    """Returns the torch loss called `name`: logits [n, C] and labels [n] in, a scalar out.

    Args:
        name: one of `LOSSES`.
        counts: [C], cases of each class at this hospital; for "logit-adjusted", at all hospitals.

    Raises:
        ConfigError: as `find_loss`.
    """
    return find_loss(name, counts).value


def log_share(counts: Float, floor: float = FLOOR) -> Float:
    """Returns the log share of each class [C], at least log `floor`, also of a class without cases.

    Example:
        >>> log_share(np.array([1.0, 3.0, 0.0])).round(4).tolist()
        [-1.3863, -0.2877, -4.6052]
    """
    return np.asarray(np.log(np.maximum(counts / counts.sum(), floor)))


def shuffled_order(label: NDArray[np.int64], rng: np.random.Generator) -> Order:
    """Returns every case once, in random order, int64 [n]."""
    return rng.permutation(len(label))


def balanced_order(label: NDArray[np.int64], rng: np.random.Generator) -> Order:
    """Returns as many cases as there are, in random order, with every class present equally often (up to one).

    A class with too many cases shows only some of them; one with too few repeats them, each as often as the others.

    Example:
        >>> label = np.array([0, 0, 0, 0, 0, 1])
        >>> np.bincount(label[balanced_order(label, np.random.default_rng(0))]).tolist()
        [3, 3]
    """
    present = rng.permutation(np.unique(label))  # which class gets the odd case is drawn too
    drawn = []
    for number, name in enumerate(present):
        cases = np.flatnonzero(label == name)
        wanted = len(label) // len(present) + (number < len(label) % len(present))
        rounds = [rng.permutation(cases) for _ in range(-(-wanted // len(cases)))]
        drawn.append(np.concatenate(rounds or [cases])[:wanted])
    return rng.permutation(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)


#: Name -> order of one pass over the cases.
ORDERS: Mapping[str, Callable[[NDArray[np.int64], np.random.Generator], Order]] = {
    "shuffled": shuffled_order,
    "balanced": balanced_order,
}


def order(name: str, label: NDArray[np.int64], batch: int, rng: np.random.Generator) -> list[Order]:
    """Returns the batches of one pass over the cases, each int64 [at most `batch`].

    Args:
        name: "shuffled" (every case once) or "balanced" (every class equally often).
        label: int [n].
        batch: cases a step.
        rng: of the order.

    Raises:
        ConfigError: the name is unknown or the batch holds no case.
    """
    if name not in ORDERS:
        raise ConfigError(f"order {name!r} is not known; {did_you_mean(name, ORDERS)}")
    if batch < 1:
        raise ConfigError(f"batch={batch} must be at least 1")
    chosen = ORDERS[name](label, rng)
    return [chosen[first : first + batch] for first in range(0, len(chosen), batch)]


def rule(counts: Float, shots: float) -> str:
    """Returns where class imbalance is best corrected: "logit-adjusted" (in the loss) or "post-hoc" (afterwards).

    Correcting in the loss helps with many classes and strong imbalance; with few cases a hospital and few classes,
    some classes are missing at some hospitals and it gains nothing or does harm (METHODS section 3): then the class
    prior is removed from the finished classifier instead (`calibrate.adjust`). Of the two priors a loss can work with,
    that of all hospitals was the better one wherever both were measured.

    Args:
        counts: [C], cases of each class at all hospitals together.
        shots: cases of a typical hospital.

    Example:
        >>> rule(np.array([30.0, 10.0]), 20), rule(np.array([30.0, 10.0, 5.0, 5.0]), 20)
        ('post-hoc', 'logit-adjusted')
    """
    return "post-hoc" if shots < FEW_SHOTS and len(counts) <= FEW_CLASSES else "logit-adjusted"
