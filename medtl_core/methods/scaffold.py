"""SCAFFOLD: hospitals' gradients are corrected by control variates (Karimireddy et al., ICML 2020)."""

from dataclasses import dataclass
from typing import ClassVar

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS, recipe_config
from medtl_core.federation.server_steps import Scaffold, ServerStep
from medtl_core.heads.linear import Training
from medtl_core.methods.gradient import LinearTrained


@dataclass(frozen=True)
class ScaffoldMethod(LinearTrained):
    """FedAvg whose hospitals are told how their gradients differ from everybody's."""

    syntax: ClassVar[str] = f"scaffold{ROUNDS}"
    example: ClassVar[str] = "scaffold-20"
    summary: ClassVar[str] = "fedavg corrected for how far each hospital's gradients drift"

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Scaffold(Training.of(recipe_config(study.settings)), len(study.hospitals.weights))


METHODS = (ScaffoldMethod,)
