"""The linear head trained at hospitals by a federated gradient algorithm: `fedavg-20-adjusted`, `scaffold-20`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method, Need, Rounds
from medtl_core.federation.outcome import Share
from medtl_core.federation.rounds import Trained, recipe_config
from medtl_core.federation.server_steps import Adam, Average, Momentum, Scaffold, ServerStep
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.linear import Training, train, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.rng import stream
from medtl_core.values import Array, Head, Released, Update

#: Algorithm -> what the server does with the mean change. FedProx is a term of the hospitals' loss.
ALGORITHMS: Mapping[str, Callable[[Study], ServerStep]] = {
    "fedavg": lambda study: Average(),
    "fedprox": lambda study: Average(),
    "fedavgm": lambda study: Momentum(study.settings.server_momentum, study.settings.server_rate),
    "fedadam": lambda study: Adam(study.settings.adam_rate),
    "scaffold": lambda study: Scaffold(Training.of(recipe_config(study.settings)), len(study.hospitals.weights)),
}


def fit(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training of a stack of heads [M, C, d + 1]; head m > 0 leaves out fold m - 1."""
    training = Training.of(config)
    inputs = with_bias(site.values, arrays["mean"].astype(np.float64), arrays["scale"].astype(np.float64))
    stack = arrays["heads"].astype(np.float64)
    mine = None
    if len(stack) > 1:
        fold = site.fold(len(stack) - 1)
        mine = np.stack([np.full(len(fold), True), *(fold != index for index in range(len(stack) - 1))])
    control = arrays.get("control")
    shuffled = training.shuffles(len(site.label))
    trained = train(
        stack, inputs, site.label, training, mine=mine,
        rng=stream(site.seed, "fit", site.name, int(config["round"])) if shuffled else None,
        control=None if control is None else control.astype(np.float64),
    )  # fmt: skip
    before, after = _mean_losses(np.concatenate([stack[:1], trained[:1]]), inputs, site.label)
    return Released(Update({"heads": trained.astype(np.float32)}), metrics={"loss-before": before, "loss-after": after})


def _mean_losses(heads: NDArray[np.float64], inputs: NDArray[np.float64], label: NDArray[np.int64]) -> list[float]:
    """Mean log-loss of each head of a stack [H, C, d + 1], from one product."""
    if not len(label):
        return [0.0] * len(heads)
    logits = (inputs @ heads.reshape(-1, heads.shape[-1]).T).reshape(len(label), *heads.shape[:2])
    logits -= logits.max(axis=2, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=2)) - logits[np.arange(len(label)), :, label]
    return [float(total) / len(label) for total in losses.sum(axis=0)]


@final
@dataclass(frozen=True)
class GradientMethod(Trained):
    """A linear head trained by a federated gradient algorithm.

    Attributes:
        algorithm: one of `ALGORITHMS`.
        adjusted: whether the class prior is removed afterwards (Menon et al., ICLR 2021).
        folds: whether the heads without each fold are wanted too, which train along in the same messages.
    """

    syntax: ClassVar[str] = (
        rf"(?P<algorithm>{'|'.join(ALGORITHMS)})-(?P<rounds>[1-9][0-9]{{0,3}})(?P<adjusted>-adjusted)?"
    )
    example: ClassVar[str] = "fedavg-20"
    summary: ClassVar[str] = "the linear head trained at hospitals and averaged, for so many rounds"
    task: ClassVar[str] = "fit"

    algorithm: str
    adjusted: bool
    folds: bool = False

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (Rounds(self.algorithm, self.rounds, self.folds),)

    @property
    def trained_as(self) -> str:
        """See Trained."""
        return self.algorithm

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained: one head, and one for each left-out fold where some method wants them cross-validated."""
        folds = study.settings.folds * self._folds_train(study)
        return {"heads": np.zeros((1 + folds, len(study.problem.classes), study.problem.width + 1))}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        proximal = study.settings.proximal if self.algorithm == "fedprox" else 0.0
        return {**recipe_config(study.settings), "proximal": proximal}

    def step(self, study: Study) -> ServerStep:
        """See Trained."""
        return ALGORITHMS[self.algorithm](study)

    def heads(self, study: Study) -> Float:
        """Returns the trained heads on raw features, [M, C, d + 1]: of all cases, then without each fold."""
        return study.finished(self.course(study).exact[self.rounds]["heads"], self.adjusted)

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Head:
        """See Trained."""
        facts = {"rounds": self.rounds, "adjusted": self.adjusted}
        return study.head(self.heads(study)[0], self.algorithm, facts)

    def bill(self, study: Study) -> dict[str, Share]:
        """See Trained: of a message that holds heads of folds for others, the bytes of the method's own alone."""
        each = 4 * len(study.problem.classes) * (study.problem.width + 1)
        alone, together = (1 + study.settings.folds * wanted for wanted in (self.folds, self._folds_train(study)))
        own = super().bill(study)
        share = Share.among(alone, together, up=each, down=each, rounds=own[self.phase].rounds)
        return {**own, self.phase: share}

    def _folds_train(self, study: Study) -> bool:
        return self.folds or study.folds_needed(self.algorithm)


#: The gradient head that `auto` and the ensembles weigh against the closed-form heads, cross-validated.
RIVAL = GradientMethod("fedavg-20-adjusted", 20, "fedavg", adjusted=True, folds=True)

METHODS: tuple[type[Method], ...] = (GradientMethod,)
TASKS: Mapping[str, Task] = {"fit": fit}
