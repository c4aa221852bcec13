"""Rounds of the linear head: what `fedavg`, `fedprox`, `fedavgm`, `fedadam` and `scaffold` share."""

from collections.abc import Mapping

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.rounds import Trained, recipe_config
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training, train
from medtl_core.heads.statistics import Float
from medtl_core.rng import stream
from medtl_core.values import Array, Head, Released, Update


class LinearTrained(Trained):
    """The linear head trained at hospitals and averaged; a method says by what step of the server, or what loss."""

    task = "fit"

    @property
    def trained_as(self) -> str:
        """See Trained: the first word of the name."""
        return self.name.partition("-")[0]

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained: a stack of one head [1, C, d + 1]."""
        return {"heads": np.zeros((1, len(study.problem.classes), study.problem.width + 1))}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**recipe_config(study.settings), "proximal": 0.0}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Head:
        """See Trained."""
        raw = study.finished(arrays["heads"])
        return study.head(raw[0], self.trained_as, {"rounds": self.rounds})


def fit(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training of a stack of heads [M, C, d + 1]."""
    training, stack, control = Training.of(config), arrays["heads"].astype(np.float64), arrays.get("control")
    control = None if control is None else control.astype(np.float64)
    lesson = site.lesson(arrays["mean"], arrays["scale"], control)
    shuffled = training.shuffles(len(site.label))
    rng = stream(site.seed, "fit", site.name, int(config["round"])) if shuffled else None
    trained = train(stack, lesson, training, rng=rng)
    before, after = _mean_losses(np.concatenate([stack[:1], trained[:1]]), lesson.inputs, site)
    return Released(Update({"heads": trained.astype(np.float32)}), metrics={"loss-before": before, "loss-after": after})


def _mean_losses(heads: Float, inputs: Float, site: SiteData) -> list[float]:
    """Mean log-loss of each head of a stack [H, C, d + 1], from one product."""
    cases = len(site.label)
    if not cases:
        return [0.0] * len(heads)
    logits = (inputs @ heads.reshape(-1, heads.shape[-1]).T).reshape(cases, *heads.shape[:2])
    logits -= logits.max(axis=2, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=2)) - logits[np.arange(cases), :, site.label]
    return [float(total) / cases for total in losses.sum(axis=0)]


TASKS = {"fit": fit}
