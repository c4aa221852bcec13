"""FedAvg of a multi-label task: heads of all findings trained at hospitals by a masked sigmoid loss, and averaged."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.hospitals import Value
from medtl_core.federation.rounds import ROUNDS, Trained, recipe_config
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training, batches, check_converged, to_raw, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.multilabel.model import FindingsHead
from medtl_core.methods.multilabel.solving import log_losses
from medtl_core.methods.multilabel.sums import labels_of
from medtl_core.rng import stream
from medtl_core.values import Array, Released, Update


def fit_labels(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training of heads [L, d + 1]: the mean over cases of the log-loss of their known findings.

    Raises:
        DivergedError: the training diverged; the hospital sits out this round.
    """
    training, labels = Training.of(config), labels_of(site.material)
    inputs = with_bias(site.values, arrays["mean"].astype(np.float64), arrays["scale"].astype(np.float64))
    start = arrays["heads"].astype(np.float64)
    trained = _trained(start, inputs, labels, training, stream(site.seed, "fit", site.name, int(config["round"])))
    check_converged(trained)
    before, after = (float(log_losses(inputs @ head.T, labels).sum(axis=1).mean()) for head in (start, trained))
    return Released(Update({"heads": trained.astype(np.float32)}), metrics={"loss-before": before, "loss-after": after})


def _trained(
    start: Float, inputs: Float, labels: NDArray[np.int8], training: Training, rng: np.random.Generator
) -> Float:
    """Gradient steps, batch by batch."""
    current, known, there = start.copy(), labels >= 0, labels == 1
    for _ in range(training.epochs):
        for rows in batches(len(labels), training.batch_size, rng=rng):
            odds = inputs[rows] @ current.T
            error = (0.5 + 0.5 * np.tanh(0.5 * odds) - there[rows]) * known[rows] / len(rows)
            pull = training.weight_decay * current + training.proximal * (current - start)
            current -= training.learning_rate * (error.T @ inputs[rows] + pull)
    return current


@dataclass(frozen=True)
class LabelFedAvg(Trained):
    """Multi-label: the heads of all findings trained at hospitals and averaged; unknown findings do not count."""

    syntax = f"fedavg{ROUNDS}"
    example = "fedavg-20"
    task = "fit_labels"

    @property
    def trained_as(self) -> str:
        """See Trained."""
        return "fedavg-labels"

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        return {"heads": np.zeros((len(study.problem.classes), study.problem.width + 1))}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**recipe_config(study.settings), "proximal": 0.0}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> FindingsHead:
        """See Trained."""
        raw = to_raw(arrays["heads"], study.moments.mean, study.moments.scale)
        return FindingsHead.of(study, raw, "fedavg", {"rounds": self.rounds})


LABEL_METHODS = (LabelFedAvg,)
TASKS = {fit_labels.__name__: fit_labels}
