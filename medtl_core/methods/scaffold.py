"""SCAFFOLD: hospitals' gradients are corrected by control variates (Karimireddy et al., ICML 2020)."""

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS, recipe_config
from medtl_core.federation.server_steps import Scaffold, ServerStep
from medtl_core.heads.linear import Training
from medtl_core.methods.gradient import LinearTrained


class ScaffoldMethod(LinearTrained):
    """FedAvg corrected for how far each hospital's gradients drift."""

    syntax = f"scaffold{ROUNDS}"
    example = "scaffold-20"

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return Scaffold(Training.of(recipe_config(study.settings)), len(study.hospitals.weights))


METHODS = (ScaffoldMethod,)
