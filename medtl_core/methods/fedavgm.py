"""FedAvgM: the server keeps momentum (Hsu et al., 2019, arXiv:1909.06335)."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.federation.server_steps import Momentum, ServerStep
from medtl_core.methods.gradient import LinearTrained


@dataclass(frozen=True)
class FedAvgM(LinearTrained):
    """FedAvg whose server adds the change of a round to a running one."""

    syntax: ClassVar[str] = f"fedavgm{ROUNDS}"
    example: ClassVar[str] = "fedavgm-20"
    summary: ClassVar[str] = "fedavg with momentum at the server"

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Momentum(study.settings.server_momentum, study.settings.server_rate)


METHODS = (FedAvgM,)
