"""Ditto: beside the federated head, every hospital trains one of its own that may not stray far from it.

The federated head w is trained exactly as by `fedavg`; in each round the hospital also trains its personal head v on
its own cases, min f_k(v) + lambda / 2 ||v - w||^2, from where v was (Li et al., ICML 2021, Algorithm 1), and keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.federation.method import Method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import TASKS as CORE
from medtl_core.federation.tasks import Arrays, Task
from medtl_core.heads.linear import Training, to_raw, train, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.network import Recipe
from medtl_core.methods.personal.client import Finished, Step, Trainee, Visit, adjusted, affine_head
from medtl_core.methods.personal.server import Opening, Personal, tasks_of
from medtl_core.rng import stream
from medtl_core.values import Array

#: Strength lambda of the pull towards the federated head, unless the name says another.
PULL = 0.3


def towards(centre: Float, pull: float, training: Training) -> tuple[Training, Float]:
    """Returns the recipe and the constant gradient that add `pull / 2 ||v - centre||^2` to the loss of a head v.

    pull (v - w) is a weight decay of strength `pull` and a constant; `heads.linear.train` takes both.
    """
    return replace(training, weight_decay=training.weight_decay + pull), -pull * centre


@final
@dataclass(frozen=True)
class DittoPart(Trainee):
    """Ditto's hospital; a late one begins at the federated head."""

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """See Resident."""
        return {"head": visit.arrays["head"].astype(np.float64)}

    def train(self, visit: Visit, kept: Arrays) -> Step:
        """See Resident."""
        site, config = visit.site, visit.config
        sent = {"heads": visit.arrays["head"][None], "mean": visit.arrays["mean"], "scale": visit.arrays["scale"]}
        fitted = CORE["fit"](site, sent, {**config, "proximal": 0.0})
        inputs = with_bias(site.values, sent["mean"].astype(np.float64), sent["scale"].astype(np.float64))
        centre = visit.arrays["head"].astype(np.float64)
        recipe = Recipe.of(config)
        plain = Training(recipe.epochs, recipe.batch_size, recipe.learning_rate, recipe.weight_decay)
        training, constant = towards(centre, float(config["pull"]), plain)
        rng = stream(site.seed, visit.identity.method, site.name, visit.round)
        own = train(kept["head"][None], inputs, site.label, training, rng=rng, control=constant[None])[0]
        return Step({"head": fitted.update.arrays["heads"][0]}, {"head": own}, fitted.metrics)

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        mean, scale = (visit.arrays[name].astype(np.float64) for name in ("mean", "scale"))
        return Finished(affine_head(visit, adjusted(visit, to_raw(kept["head"], mean, scale))))


@final
@dataclass(frozen=True)
class Ditto(Personal):
    """FedAvg's head, and one at each hospital that is pulled towards it (Li et al., ICML 2021).

    Attributes:
        pull: lambda, the strength of the pull; 0.3 when the name does not say.
    """

    word: ClassVar[str] = "ditto"
    syntax: ClassVar[str] = r"ditto-(?P<rounds>[1-9][0-9]{0,3})(@(?P<pull>[0-9]*\.?[0-9]+))?(?P<adjusted>-adjusted)?"
    example: ClassVar[str] = "ditto-3"
    summary: ClassVar[str] = "personal: a linear head of one's own, pulled towards fedavg's (@0.1 to @1: how strongly)"

    pull: float = PULL

    def opening(self, study: Study) -> Opening:
        """See Personal.

        Raises:
            ConfigError: the pull is zero, or so strong that a step of the learning rate overshoots.
        """
        if not 0 < self.pull * study.settings.learning_rate < 1:
            raise ConfigError(
                f"{self.name}: the pull @{self.pull:g} must be above 0 and below 1 / learning-rate = "
                f"{1 / study.settings.learning_rate:g}; usual is 0.1 to 1"
            )
        start = np.zeros((len(study.problem.classes), study.problem.width + 1))
        return Opening({"head": start}, config={"pull": self.pull})


METHODS: tuple[type[Method], ...] = (Ditto,)
TASKS: Mapping[str, Task] = tasks_of("ditto", DittoPart())
