"""FedProx: a term of the hospitals' loss holds them near the head a round starts from (Li et al., MLSys 2020)."""

from collections.abc import Mapping

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import RECIPE, ROUNDS
from medtl_core.methods.gradient import LinearTrained


class FedProx(LinearTrained):
    """FedAvg whose local training is pulled towards the head of the round's start."""

    syntax = f"fedprox{ROUNDS}"
    example = "fedprox-20"
    reads = (*RECIPE, "proximal")

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**super().config(study), "proximal": study.settings.proximal}


METHODS = (FedProx,)
