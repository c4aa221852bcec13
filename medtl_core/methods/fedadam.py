"""FedAdam: the server takes Adam's step (Reddi et al., ICLR 2021)."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.federation.server_steps import Adam, ServerStep
from medtl_core.methods.gradient import LinearTrained


@dataclass(frozen=True)
class FedAdam(LinearTrained):
    """FedAvg whose server scales each number's change by how much it has been changing."""

    syntax: ClassVar[str] = f"fedadam{ROUNDS}"
    example: ClassVar[str] = "fedadam-20"
    summary: ClassVar[str] = "fedavg with Adam's step at the server"

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Adam(study.settings.adam_rate)


METHODS = (FedAdam,)
