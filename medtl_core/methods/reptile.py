"""Reptile across hospitals: federated averaging in which the server goes only part of the way."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

from medtl_core.federation.method import Method
from medtl_core.federation.server_steps import Average, ServerStep
from medtl_core.federation.study import Study
from medtl_core.methods.network import NetworkTrained


@final
@dataclass(frozen=True)
class Reptile(NetworkTrained):
    """The small network trained at hospitals, the server moving `rate` of the way to the mean in every round.

    Attributes:
        rate: of the server, e.g. `reptile-20-rate-0.3`.
    """

    syntax: ClassVar[str] = r"reptile-(?P<rounds>[1-9][0-9]{0,3})(?:-rate-(?P<rate>[0-9]+(?:\.[0-9]+)?))?"
    example: ClassVar[str] = "reptile-3"
    summary: ClassVar[str] = "the small network; the server goes half of the way (-rate-X: X of it) to the mean"
    task: ClassVar[str] = "fit_network"

    rate: float = 0.5

    @property
    def facts(self) -> dict[str, Any]:
        """See NetworkTrained."""
        return {"rounds": self.rounds, "rate": self.rate}

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Average(self.rate)


METHODS: tuple[type[Method], ...] = (Reptile,)
