"""Ditto: beside the federated head, every hospital trains one of its own that may not stray far from it.

The federated head w is trained exactly as by `fedavg`; in each round the hospital also trains its personal head v on
its own cases, min f_k(v) + lambda / 2 ||v - w||^2, from where v was (Li et al., ICML 2021, Algorithm 1), and keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Task
from medtl_core.heads.linear import to_raw, train, with_bias
from medtl_core.methods.gradient import fit
from medtl_core.methods.personal.client import LocalRound, OwnModel, RoundResult, personal_tasks
from medtl_core.methods.personal.server import Personal
from medtl_core.values import Array

#: Strength lambda of the pull towards the federated head, unless the name says another.
PULL = 0.3


def federated_head(here: LocalRound) -> Mapping[str, Array]:
    """Returns where a hospital's own head begins: at the federated one."""
    return {"head": here.sent["head"].astype(np.float64)}


def train_both(here: LocalRound) -> RoundResult:
    """Trains the federated head as `fedavg` does, and the hospital's own.

    The pull of strength p adds p (v - w) to the gradient at v: a weight decay of p, and the constant -p w.
    """
    site, pull = here.site, float(here.config["pull"])
    sent = {"heads": here.sent["head"][None], "mean": here.sent["mean"], "scale": here.sent["scale"]}
    fitted = fit(site, sent, {**here.config, "proximal": 0.0})
    pulled = replace(here.training, weight_decay=here.training.weight_decay + pull)
    constant = -pull * here.sent["head"].astype(np.float64)[None]
    inputs = with_bias(site.values, *here.moments)
    own = train(here.kept["head"][None], inputs, site.label, pulled, rng=here.order(), control=constant)[0]
    return RoundResult({"head": fitted.update.arrays["heads"][0]}, {"head": own}, fitted.metrics)


def own_head(here: LocalRound) -> OwnModel:
    """Returns the hospital's own head on raw features."""
    raw = to_raw(here.kept["head"], *here.moments)
    raw[:, -1] -= here.prior
    return here.head(raw), {}


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

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Personal."""
        return {"head": np.zeros((len(study.problem.classes), study.problem.width + 1))}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Personal.

        Raises:
            ConfigError: the pull is zero, or so strong that a step of the learning rate overshoots.
        """
        if not 0 < self.pull * study.settings.learning_rate < 1:
            raise ConfigError(
                f"{self.name}: the pull @{self.pull:g} must be above 0 and below 1 / learning-rate = "
                f"{1 / study.settings.learning_rate:g}; usual is 0.1 to 1"
            )
        return {"pull": self.pull}


METHODS: tuple[type[Method], ...] = (Ditto,)
TASKS: Mapping[str, Task] = personal_tasks("ditto", own_head, train_both, federated_head)
