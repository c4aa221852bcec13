"""Rounds of the linear head with a loss for rare classes: what `fedlogit` and `fedweighted` share.

They start from the recipe and batch order of `fedavg` and differ from it in the hospitals' loss alone. A loss gives its
value to torch and its gradient to numpy, so that the linear head and a fine-tuned backbone minimise the same thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.evaluation.calibration import log_loss
from medtl_core.federation.hospitals import Value
from medtl_core.federation.rounds import Trained, recipe_config
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training, batches, check_converged, softmax
from medtl_core.heads.logistic import class_weights
from medtl_core.heads.statistics import Float
from medtl_core.rng import stream
from medtl_core.values import Array, Head, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Smallest class share a loss works with. A class without cases would otherwise be pushed away without limit.
_SHARE = 1e-2


def log_share(counts: Float) -> Float:
    """Returns the log share of each class [C], at least log `_SHARE`, also of a class without cases."""
    return np.asarray(np.log(np.maximum(counts / max(counts.sum(), 1.0), _SHARE)))


@final
@dataclass(frozen=True)
class Loss:
    """Cross-entropy of logits plus an offset, weighed by class and averaged over the cases of a batch.

    The offset is left out when the classifier answers. The mean is over cases, not over weights: batches then add up.

    Attributes:
        offset: [C], added to the logits.
        weight: [C], of a case of each class; None = all alike.
    """

    offset: Float
    weight: Float | None = None

    def value(self, logits: "Tensor", label: "Tensor") -> "Tensor":
        """Returns the mean loss of logits [n, C] and labels [n], a scalar in nats."""
        from torch.nn.functional import cross_entropy

        shifted = logits + logits.new_tensor(self.offset)
        if self.weight is None:
            return cross_entropy(shifted, label)
        return (cross_entropy(shifted, label, reduction="none") * logits.new_tensor(self.weight)[label]).mean()

    def residual(self, logits: Float, label: NDArray[np.int64]) -> Float:
        """Returns the gradient of each case's loss by its logits, [n, C]; its mean is the gradient of `value`."""
        residual = softmax(logits + self.offset)
        residual[np.arange(len(label)), label] -= 1.0
        return residual if self.weight is None else residual * self.weight[label][:, None]


#: Loss -> what it is for the class counts [C] of all hospitals. The log prior absorbs the imbalance, so that the plain
#: logits are those of balanced classes (logit-adjusted loss, Menon et al., ICLR 2021, eq. 10).
LOSSES: Mapping[str, Callable[[Float], Loss]] = {
    "logit-adjusted": lambda counts: Loss(log_share(counts)),
    "class-weighted": lambda counts: Loss(np.zeros(len(counts)), class_weights(counts)),
}


def find_loss(name: str, counts: Float) -> Loss:
    """Returns the loss called `name` for class counts [C].

    Raises:
        ConfigError: the name is unknown, or the counts are not non-negative numbers with a positive sum.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss {name!r} is not known; {did_you_mean(name, LOSSES)}")
    known = np.asarray(counts, np.float64)
    if known.ndim != 1 or not np.isfinite(known).all() or (known < 0).any() or not known.sum() > 0:
        raise ConfigError(f"loss {name!r} needs one non-negative case count a class with a positive sum, not {counts}")
    return LOSSES[name](known)


class Balanced(Trained):
    """Rounds of `fit_loss`, then the head on raw features, its logits as trained."""

    task = "fit_loss"
    #: One of `LOSSES`.
    loss: ClassVar[str]

    @property
    def trained_as(self) -> str:
        """See Trained."""
        return self.name.split("-")[0]

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        return {"head": np.zeros((len(study.problem.classes), study.problem.width + 1))}

    def sent(self, study: Study) -> Mapping[str, Array]:
        """See Trained: the message of FedAvg, and the class counts [C] of all hospitals."""
        return {**study.moments.standardisation, "counts": study.moments.counts.astype(np.float32)}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**recipe_config(study.settings), **self._words}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Head:
        """See Trained."""
        head = study.finished(arrays["head"].astype(np.float32).astype(np.float64))
        return study.head(head, self.trained_as, {"rounds": self.rounds, **self._words})

    @property
    def _words(self) -> dict[str, Value]:
        return {"loss": self.loss, "order": "shuffled", "prior": "all"}  # hospitals of earlier versions read all three


def fit_loss(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of mini-batch descent of a head [C, d + 1] with a loss by name, over the batches fedavg would draw.

    Raises:
        DivergedError: the head left the finite numbers; the hospital sits out this round.
    """
    if not len(site.label):
        return Released(Update({"head": arrays["head"]}))
    training, loss = Training.of(config), find_loss(str(config["loss"]), arrays["counts"])
    inputs = site.lesson(arrays["mean"], arrays["scale"]).inputs
    rng = stream(site.seed, "fit", site.name, int(config["round"]))
    head = arrays["head"].astype(np.float64)
    before = log_loss(inputs @ head.T, site.label)
    for _ in range(training.epochs):
        for rows in batches(len(site.label), training.batch_size, rng=rng):
            residual = loss.residual(inputs[rows] @ head.T, site.label[rows])
            slope = residual.T @ inputs[rows] / len(rows) + training.weight_decay * head
            head -= training.learning_rate * slope
    check_converged(head)
    metrics = {"loss-before": before, "loss-after": log_loss(inputs @ head.T, site.label)}
    return Released(Update({"head": head.astype(np.float32)}), metrics=metrics)


TASKS = {"fit_loss": fit_loss}
