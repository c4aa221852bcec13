"""What the server does with the changes of a round: FedAvg, FedAvgM, FedAdam, SCAFFOLD and Reptile behind one seam.

Flower's strategies of the same names hold every reply of a round and one flat model; these steps take the running mean
instead, for any named arrays. A test proves that each equals its Flower namesake on the same replies.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from medtl_core.heads.linear import Training
from medtl_core.heads.statistics import Float

#: Whatever a step remembers between rounds, by name.
Memory = dict[str, Float]


class ServerStep(ABC):
    """Turns the mean change of a round into the next arrays. It sees them as one vector [p], state in and state out."""

    #: Whether hospitals are sent a correction of their own, as array "control", with the one array they train.
    corrects: ClassVar[bool] = False

    @abstractmethod
    def apply(self, current: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """Returns the next arrays and the step's memory.

        Args:
            current: where the round started, [p].
            change: weighted mean of (trained at a hospital - current), [p].
            memory: what `apply` returned last round, and what `heard` returned since; empty in the first.
        """

    def correction(self, site: str, current: Float, memory: Memory) -> Float:
        """Returns what a hospital adds to every gradient of the round, [p]."""
        return np.zeros_like(current)

    def heard(self, site: str, change: Float, cases: int, memory: Memory) -> Memory:
        """Returns what is to be remembered of one hospital's change [p], trained on so many cases."""
        return {}


@dataclass(frozen=True)
class Average(ServerStep):
    """Goes `rate` of the way to the mean: at 1 FedAvg (McMahan et al., AISTATS 2017), below it Reptile's outer step.

    Reptile: Nichol et al., 2018, algorithm 2.
    """

    rate: float = 1.0

    def apply(self, current: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        return current + self.rate * change, memory


@dataclass(frozen=True)
class Momentum(ServerStep):
    """FedAvgM (Hsu et al., 2019): V <- momentum V + change; w <- w + rate V."""

    momentum: float = 0.9
    rate: float = 0.3

    def apply(self, current: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        velocity = self.momentum * memory["velocity"] + change if memory else change
        return current + self.rate * velocity, {"velocity": velocity}


@dataclass(frozen=True)
class Adam(ServerStep):
    """FedAdam (Reddi et al., ICLR 2021, Algorithm 2): m and v of the change; w <- w + rate m / (sqrt(v) + tau).

    The rate is bias-corrected with exponent t + 1, as Flower's FedAdam does.
    """

    rate: float = 0.01
    first: float = 0.9
    second: float = 0.99
    tau: float = 1e-3

    def apply(self, current: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        zero = np.zeros_like(current)
        mean = self.first * memory.get("mean", zero) + (1 - self.first) * change
        square = self.second * memory.get("square", zero) + (1 - self.second) * change**2
        power = memory.get("power", np.ones(1)) + 1.0
        rate = self.rate * np.sqrt(1 - self.second**power) / (1 - self.first**power)
        return current + rate * mean / (np.sqrt(square) + self.tau), {"mean": mean, "square": square, "power": power}


@dataclass(frozen=True)
class Scaffold(ServerStep):
    """FedAvg with SCAFFOLD's control variates c and c_k, all kept by the server: it knows every term they are made of.

    c_k <- c_k - c + (w - w_k) / (steps_k lr);  c <- mean of c_k over all hospitals (Karimireddy et al., ICML 2020,
    option II). A hospital's gradients are corrected by c - c_k; one that never answered has c_k = 0.
    """

    corrects: ClassVar[bool] = True

    training: Training
    hospitals: int

    def correction(self, site: str, current: Float, memory: Memory) -> Float:
        """See ServerStep."""
        return np.asarray(memory.get("mean", np.zeros_like(current)) - memory.get(f"of {site}", 0.0))

    def heard(self, site: str, change: Float, cases: int, memory: Memory) -> Memory:
        """See ServerStep."""
        rate = max(self.training.steps(cases), 1) * self.training.learning_rate
        return {f"of {site}": -self.correction(site, change, memory) - change / rate}

    def apply(self, current: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        own = {name: control for name, control in memory.items() if name != "mean"}
        mean = sum(own.values(), np.zeros_like(current)) / self.hospitals
        return current + change, {**own, "mean": np.asarray(mean)}
