"""FedAvgM: the server keeps momentum (Hsu et al., 2019, arXiv:1909.06335)."""

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import RECIPE, ROUNDS
from medtl_core.federation.server_steps import Momentum, ServerStep
from medtl_core.methods.gradient import LinearTrained


class FedAvgM(LinearTrained):
    """FedAvg with momentum at the server."""

    syntax = f"fedavgm{ROUNDS}"
    example = "fedavgm-20"
    reads = (*RECIPE, "server-momentum", "server-rate")

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Momentum(study.settings.server_momentum, study.settings.server_rate)


METHODS = (FedAvgM,)
