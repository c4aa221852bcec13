"""Federated averaging of the linear head for rare classes: each variant changes the hospitals' loss.

All share one task and start from the same recipe and batch order as `fedavg`, so that they differ from it in what
their name says and in nothing else. Post-hoc correction of the same head is `fedavg-R-adjusted`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_loss
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.rounds import Trained, recipe_config
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.linear import Training, batches, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.imbalance import find_loss
from medtl_core.rng import stream
from medtl_core.values import Array, Head, Released, Update

_ROUNDS = "-(?P<rounds>[1-9][0-9]{0,3})"
#: Order of the cases, as fedavg's; it travels, since hospitals of earlier versions read it.
_ORDER = "shuffled"


@dataclass(frozen=True)
class Balancing(Trained):
    """What the variants share: rounds of `fit_loss`, then the head on raw features, its logits as trained."""

    task: ClassVar[str] = "fit_loss"
    #: One of `imbalance.LOSSES`.
    loss: ClassVar[str]
    #: Whose class counts the loss works with: "own" (the hospital's) or "all" (the sum over hospitals).
    prior: ClassVar[str] = "own"

    @property
    def trained_as(self) -> str:
        """See Trained."""
        return self.name.split("-")[0]

    @property
    def told(self) -> dict[str, Value]:
        """What hospitals are told of the loss, and the facts say."""
        return {"loss": self.loss, "order": _ORDER, "prior": self.prior}

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        return {"head": np.zeros((len(study.problem.classes), study.problem.width + 1))}

    def sent(self, study: Study) -> Mapping[str, Array]:
        """See Trained: the message of FedAvg, and the class counts [C] of all hospitals."""
        return {**study.moments.standardisation, "counts": study.moments.counts.astype(np.float32)}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**recipe_config(study.settings), **self.told}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Head:
        """See Trained."""
        head = study.finished(arrays["head"].astype(np.float32).astype(np.float64), False)
        return study.head(head, self.trained_as, {"rounds": self.rounds, **self.told})


@final
@dataclass(frozen=True)
class Balanced(Balancing):
    """Balanced softmax with each hospital's own prior (Ren et al. 2020; as FedLC, Zhang et al. 2022)."""

    syntax: ClassVar[str] = "fedbal" + _ROUNDS
    example: ClassVar[str] = "fedbal-20"
    summary: ClassVar[str] = "fedavg whose local loss absorbs the hospital's own class prior (balanced softmax, FedLC)"
    loss: ClassVar[str] = "balanced-softmax"


@final
@dataclass(frozen=True)
class LogitAdjusted(Balancing):
    """The logit-adjusted loss with the prior of all hospitals together (Menon et al. 2021)."""

    syntax: ClassVar[str] = "fedlogit" + _ROUNDS
    example: ClassVar[str] = "fedlogit-20"
    summary: ClassVar[str] = "fedavg whose local loss absorbs the class prior of all hospitals together"
    loss: ClassVar[str] = "logit-adjusted"
    prior: ClassVar[str] = "all"


@final
@dataclass(frozen=True)
class Weighted(Balancing):
    """Cross-entropy with weights inverse to the class counts of all hospitals together."""

    syntax: ClassVar[str] = "fedweighted" + _ROUNDS
    example: ClassVar[str] = "fedweighted-20"
    summary: ClassVar[str] = "fedavg whose local loss weighs classes inversely to their cases at all hospitals"
    loss: ClassVar[str] = "class-weighted"
    prior: ClassVar[str] = "all"


def fit_loss(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of mini-batch descent of a head [C, d + 1] with a loss by name, over the batches fedavg would draw.

    Raises:
        DataError: the head left the finite numbers; the hospital sits out this round.
    """
    if not len(site.label):
        return Released(Update({"head": arrays["head"]}))
    training = Training.of(config)
    own = np.bincount(site.label, minlength=site.classes).astype(np.float64)
    loss = find_loss(str(config["loss"]), own if config["prior"] == "own" else arrays["counts"].astype(np.float64))
    inputs = with_bias(site.values, arrays["mean"].astype(np.float64), arrays["scale"].astype(np.float64))
    rng = stream(site.seed, "fit", site.name, int(config["round"]))
    head = arrays["head"].astype(np.float64)
    metrics = {"loss-before": log_loss(inputs @ head.T, site.label)}
    for _ in range(training.epochs):
        for rows in batches(len(site.label), training.batch_size, rng=rng):
            residual = loss.residual(inputs[rows] @ head.T, site.label[rows])
            slope = residual.T @ inputs[rows] / len(rows) + training.weight_decay * head
            head -= training.learning_rate * slope
    if not np.isfinite(head).all():
        raise DataError("local training diverged (the head is not finite); lower the learning rate")
    metrics["loss-after"] = log_loss(inputs @ head.T, site.label)
    return Released(Update({"head": head.astype(np.float32)}), metrics=metrics)


METHODS: tuple[type[Method], ...] = (Balanced, LogitAdjusted, Weighted)
TASKS: Mapping[str, Task] = {"fit_loss": fit_loss}
