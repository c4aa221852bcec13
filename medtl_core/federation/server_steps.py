"""What the server does with the averaged change of a round: FedAvg, FedAvgM and FedAdam behind one seam.

Flower's strategies of the same names hold every reply of a round and one flat model; these steps take the running mean
instead, for any stack of heads. A test proves that each equals its Flower namesake on the same replies.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medtl_core.heads.statistics import Float

#: Whatever a step remembers between rounds, by name.
Memory = dict[str, Float]


class ServerStep(ABC):
    """Turns the mean change of a round into the next head."""

    @abstractmethod
    def apply(self, head: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """Returns the next head and the step's memory.

        Args:
            head: where the round started, any shape.
            change: weighted mean of (local head - head), same shape.
            memory: what `apply` returned last round; empty in the first.
        """


@dataclass(frozen=True)
class Average(ServerStep):
    """FedAvg (McMahan et al., AISTATS 2017): move to the mean."""

    def apply(self, head: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        return head + change, memory


@dataclass(frozen=True)
class Momentum(ServerStep):
    """FedAvgM (Hsu et al., 2019): V <- momentum V + change; w <- w + rate V."""

    momentum: float = 0.9
    rate: float = 0.3

    def apply(self, head: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        velocity = self.momentum * memory["velocity"] + change if memory else change
        return head + self.rate * velocity, {"velocity": velocity}


@dataclass(frozen=True)
class Adam(ServerStep):
    """FedAdam (Reddi et al., ICLR 2021, Algorithm 2): m and v of the change; w <- w + rate m / (sqrt(v) + tau).

    The rate is bias-corrected with exponent t + 1, as Flower's FedAdam does.
    """

    rate: float = 0.01
    first: float = 0.9
    second: float = 0.99
    tau: float = 1e-3

    def apply(self, head: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        zero = np.zeros_like(head)
        mean = self.first * memory.get("mean", zero) + (1 - self.first) * change
        square = self.second * memory.get("square", zero) + (1 - self.second) * change**2
        power = memory.get("power", np.ones(1)) + 1.0
        rate = self.rate * np.sqrt(1 - self.second**power) / (1 - self.first**power)
        return head + rate * mean / (np.sqrt(square) + self.tau), {"mean": mean, "square": square, "power": power}


@dataclass(frozen=True)
class Control:
    """SCAFFOLD's control variates, kept by the server: it knows every term, so a hospital needs no state of its own.

    c_k <- c_k - c + (w - w_k) / (steps_k lr);  c <- mean of c_k over all hospitals (Karimireddy et al., ICML 2020,
    option II).

    Attributes:
        mean: c, the shape of the heads.
        own: c_k of each hospital by name; absent = zero.
    """

    mean: Float
    own: Mapping[str, Float] = field(default_factory=dict)

    def correction(self, site: str) -> Float:
        """Returns c - c_k, what hospital `site` adds to its gradients."""
        return self.mean - self.own[site] if site in self.own else self.mean

    def moved(self, site: str, change: Float, steps_rate: float) -> Float:
        """Returns c_k after a round in which hospital `site` moved by `change` in steps x learning rate."""
        return -self.correction(site) - change / steps_rate

    def after(self, fresh: Mapping[str, Float], hospitals: int) -> "Control":
        """Returns the next control: the variates of the hospitals that answered, and their mean over all."""
        own = {**self.own, **fresh}
        return Control(np.asarray(sum(own.values(), np.zeros_like(self.mean)) / hospitals), own)
