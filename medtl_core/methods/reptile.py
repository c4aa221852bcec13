"""Reptile across hospitals: federated averaging in which the server goes only part of the way."""

from dataclasses import dataclass
from typing import Any, ClassVar

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.federation.server_steps import Average, ServerStep
from medtl_core.methods.network import NetworkTrained

#: How far the server goes towards the mean in every round.
RATE = 0.5


@dataclass(frozen=True)
class Reptile(NetworkTrained):
    """The small network trained at hospitals, the server moving `RATE` of the way to the mean in every round."""

    syntax: ClassVar[str] = f"reptile{ROUNDS}"
    example: ClassVar[str] = "reptile-3"
    summary: ClassVar[str] = "the small network; the server goes half of the way to the mean of the hospitals"
    task: ClassVar[str] = "fit_network"

    @property
    def facts(self) -> dict[str, Any]:
        """See NetworkTrained."""
        return {"rounds": self.rounds, "rate": RATE}

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Average(RATE)


METHODS = (Reptile,)
