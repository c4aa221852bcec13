"""FedAdam: the server takes Adam's step (Reddi et al., ICLR 2021)."""

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import RECIPE, ROUNDS
from medtl_core.federation.server_steps import Adam, ServerStep
from medtl_core.methods.gradient import LinearTrained


class FedAdam(LinearTrained):
    """FedAvg with Adam's step at the server."""

    syntax = f"fedadam{ROUNDS}"
    example = "fedadam-20"
    reads = (*RECIPE, "adam-rate")

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Adam(study.settings.adam_rate)


METHODS = (FedAdam,)
