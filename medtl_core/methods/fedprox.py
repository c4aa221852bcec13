"""FedProx: a term of the hospitals' loss holds them near the head a round starts from (Li et al., MLSys 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.methods.gradient import LinearTrained


@dataclass(frozen=True)
class FedProx(LinearTrained):
    """FedAvg with the proximal term of the settings."""

    syntax: ClassVar[str] = f"fedprox{ROUNDS}"
    example: ClassVar[str] = "fedprox-20"
    summary: ClassVar[str] = "fedavg whose local training is pulled towards the head of the round's start"

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**super().config(study), "proximal": study.settings.proximal}


METHODS = (FedProx,)
