"""Federated averaging of the linear head for rare classes: each variant changes the hospitals' loss.

All share one task and start from the same recipe and batch order as `fedavg`, so that they differ from it in what
their name says and in nothing else. Post-hoc correction of the same head is `fedavg-R-adjusted`.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_loss
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, NamedCourse, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.imbalance import Loss, find_loss
from medtl_core.methods.network import batches
from medtl_core.rng import stream
from medtl_core.values import Released, Update

_ROUNDS = "-(?P<rounds>[1-9][0-9]{0,3})"
#: Order of the cases, as fedavg's; it travels, since hospitals of earlier versions read it.
_ORDER = "shuffled"


@dataclass(frozen=True)
class Balancing(Method):
    """What the variants share: rounds of `fit_loss`, then the head on raw features, its logits as trained.

    Attributes:
        rounds: of training.
    """

    #: One of `imbalance.LOSSES`.
    loss: ClassVar[str]
    #: Whose class counts the loss works with: "own" (the hospital's) or "all" (the sum over hospitals).
    prior: ClassVar[str] = "own"

    rounds: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        kind = self.name.split("-")[0]
        keep = frozenset(other.rounds for other in study.methods if isinstance(other, type(self))) | {self.rounds}
        course = study.once(f"balanced/{kind}/{max(keep)}", lambda: self._course(study, kind, keep))
        head = course.arrays[self.rounds]["head"].astype(np.float64)
        facts = {"rounds": self.rounds, "loss": self.loss, "order": _ORDER, "prior": self.prior}
        part = self.rounds / max(keep)
        bill = {"moments": Share(), f"fit-{kind}": Share(part, part)}
        return Outcome({"": study.head(study.finished(head, False), kind, facts)}, bill, 0.0, facts)

    def _course(self, study: Study, kind: str, keep: frozenset[int]) -> NamedCourse:
        moments, chosen = study.moments, study.settings
        config: dict[str, Value] = {
            "epochs": chosen.local_epochs, "batch-size": chosen.batch_size, "learning-rate": chosen.learning_rate,
            "weight-decay": chosen.weight_decay, "loss": self.loss, "order": _ORDER, "prior": self.prior,
        }  # fmt: skip
        fixed = {
            name: np.asarray(getattr(moments, name), np.float32) for name in ("mean", "scale", "counts")
        }  # the same message as FedAvg's, and C numbers more
        start = {"head": np.zeros((len(study.problem.classes), study.problem.width + 1))}
        return run_rounds(study.hospitals, Exchange("fit_loss", f"fit-{kind}", max(keep), config, fixed, keep), start)


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
    """One round of local training of a head [C, d + 1] with a loss by name; see `imbalance`."""
    head = arrays["head"].astype(np.float64)
    if not len(site.label):
        return Released(Update({"head": arrays["head"]}))
    training = Training(
        int(config["epochs"]), int(config["batch-size"]), float(config["learning-rate"]), float(config["weight-decay"])
    )
    own = np.bincount(site.label, minlength=site.classes).astype(np.float64)
    loss = find_loss(str(config["loss"]), own if config["prior"] == "own" else arrays["counts"].astype(np.float64))
    inputs = with_bias(site.values, arrays["mean"].astype(np.float64), arrays["scale"].astype(np.float64))
    rng = stream(site.seed, "fit", site.name, int(config["round"]))  # the batches fedavg would draw
    trained = train(head, inputs, site.label, training, loss, rng=rng)
    metrics = {
        f"loss-{when}": log_loss(inputs @ weights.T, site.label)
        for when, weights in (("before", head), ("after", trained))
    }
    return Released(Update({"head": trained.astype(np.float32)}), metrics=metrics)


def train(
    head: Float, inputs: Float, label: NDArray[np.int64], training: Training, loss: Loss, *, rng: np.random.Generator
) -> Float:
    """Returns a head [C, d + 1] after one round of mini-batch gradient descent.

    Args:
        head: where the round starts.
        inputs: [n, d + 1], standardised features with a constant last column.
        label: int [n].
        training: the round's recipe.
        loss: of logits and labels.
        rng: of the order.

    Raises:
        DataError: the head left the finite numbers; the hospital sits out this round.
    """
    current = head.copy()
    for _ in range(training.epochs):
        for batch in batches(len(label), training.batch_size, rng):
            features = inputs[batch]
            residual = loss.residual(features @ current.T, label[batch])
            current -= training.learning_rate * (residual.T @ features / len(batch) + training.weight_decay * current)
    if not np.isfinite(current).all():
        raise DataError("local training diverged (the head is not finite); lower the learning rate")
    return current


METHODS: tuple[type[Method], ...] = (Balanced, LogitAdjusted, Weighted)
TASKS = {"fit_loss": fit_loss}
