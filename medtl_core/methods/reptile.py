"""Reptile across hospitals: federated averaging in which the server goes only part of the way."""

from typing import Any

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.federation.server_steps import Average, ServerStep
from medtl_core.methods.network import NetworkTrained

#: How far the server goes towards the mean in every round.
RATE = 0.5


class Reptile(NetworkTrained):
    """The small network; the server goes half of the way to the mean of the hospitals."""

    syntax = f"reptile{ROUNDS}"
    example = "reptile-3"
    task = "fit_network"

    @property
    def facts(self) -> dict[str, Any]:
        """See NetworkTrained."""
        return {"rounds": self.rounds, "rate": RATE}

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Average(RATE)


METHODS = (Reptile,)
