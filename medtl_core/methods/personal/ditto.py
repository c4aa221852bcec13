"""Ditto: beside the federated head, every hospital trains one of its own that may not stray far from it.

The federated head w is trained exactly as by `fedavg`; in each round the hospital also trains its personal head v on
its own cases, min f_k(v) + lambda / 2 ||v - w||^2, from where v was (Li et al., ICML 2021, Algorithm 1), and keeps it.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS
from medtl_core.heads.linear import Training, to_raw, train
from medtl_core.methods.gradient import fit
from medtl_core.methods.personal.client import LocalRound, RoundResult, personal_tasks
from medtl_core.methods.personal.server import Personal
from medtl_core.values import Array

#: Strength lambda of the pull towards the federated head.
PULL = 0.3


def train_both(here: LocalRound) -> RoundResult:
    """Trains the federated head as `fedavg` does, and the hospital's own.

    The pull of strength p adds p (v - w) to the gradient at v: a weight decay of p, and the constant -p w.
    """
    site, pull = here.site, float(here.config["pull"])
    sent = {"heads": here.sent["head"][None], "mean": here.sent["mean"], "scale": here.sent["scale"]}
    fitted = fit(site, sent, {**here.config, "proximal": 0.0})
    training = Training.of(here.config)
    pulled = replace(training, weight_decay=training.weight_decay + pull)
    constant = -pull * here.sent["head"].astype(np.float64)[None]
    own = train(here.kept["head"][None], site.lesson(*here.moments, constant), pulled, rng=here.order())[0]
    return {"head": fitted.update.arrays["heads"][0]}, {"head": own}, fitted.metrics


class Ditto(Personal):
    """Personal: a linear head of one's own, pulled towards fedavg's."""

    syntax = f"ditto{ROUNDS}"
    example = "ditto-3"

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Personal."""
        return {"head": np.zeros((len(study.problem.classes), study.problem.width + 1))}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Personal."""
        return {"pull": PULL}


METHODS = (Ditto,)
#: A hospital's own head begins at the federated one, and is folded back to raw features at the end.
TASKS = personal_tasks(
    "ditto",
    lambda here: (here.head(to_raw(here.kept["head"], *here.moments)), {}),
    train_both,
    lambda here: {"head": here.sent["head"].astype(np.float64)},
)
