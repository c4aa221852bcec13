"""Ensembles along one training: soups of heads that began alike, and snapshots of a cyclic learning rate.

A soup averages weights, so it costs one head to use (Wortsman et al., ICML 2022); that is only sensible among heads
trained from the same start. On the affine head of this house the average of the weights is the average of the logits.
Snapshots (Huang et al., ICLR 2017) are heads at the ends of cosine cycles of the learning rate; their probabilities are
averaged. Both papers are about deep networks with many minima. A regularised affine head has one, so expect little.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.heads.crossval import Choice, choose
from medtl_core.heads.statistics import Float
from medtl_core.methods import tasks
from medtl_core.methods.hospitals import Value
from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.rounds import Exchange, run_rounds
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.transfer.mixture import Mixture
from medtl_core.values import Array, Released, Update

#: Ingredients of a soup: factors on the settings' learning rate and weight decay.
INGREDIENTS: tuple[tuple[float, float], ...] = ((0.5, 1.0), (1.0, 1.0), (1.0, 10.0), (2.0, 1.0))


@final
@dataclass(frozen=True)
class Ingredient:
    """Something to average.

    Attributes:
        head: float64 [..., C, d + 1].
        start: digest of the head its training began with; see `start_of`.
    """

    head: Float
    start: str


def start_of(head: Array) -> str:
    """Returns the digest of a starting head."""
    return hashlib.sha256(np.ascontiguousarray(head, np.float64).tobytes()).hexdigest()


def uniform(ingredients: Sequence[Ingredient]) -> Float:
    """Returns the average of heads that began alike.

    Raises:
        ConfigError: there is none, or they began from different heads.

    Example:
        >>> uniform([Ingredient(np.array([[1.0]]), "a"), Ingredient(np.array([[3.0]]), "a")]).tolist()
        [[2.0]]
    """
    if not ingredients:
        raise ConfigError("a soup needs at least one ingredient")
    if len({one.start for one in ingredients}) > 1:
        raise ConfigError("a soup averages heads trained from the same start only; use an ensemble of these instead")
    return np.asarray(np.mean([one.head for one in ingredients], axis=0))


def greedy(losses: Mapping[frozenset[int], float]) -> frozenset[int]:
    """Returns the ingredients of the greedy soup: from the best one on, each joins if that lowers the held-out loss.

    Args:
        losses: held-out loss of the uniform soup of every non-empty set of ingredients.

    Example:
        >>> pairs = {(0,): 1.0, (1,): 2.0, (2,): 3.0, (0, 1): 1.5, (0, 2): 0.5, (1, 2): 9.0, (0, 1, 2): 9.0}
        >>> sorted(greedy({frozenset(key): loss for key, loss in pairs.items()}))
        [0, 2]
    """
    singles = sorted((one for one in losses if len(one) == 1), key=lambda one: (losses[one], min(one)))
    soup = singles[0]
    for one in singles[1:]:
        if losses[soup | one] < losses[soup]:
            soup = soup | one
    return soup


def soup_fit(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training of every ingredient's stack of heads [I, M, C, d + 1], each by its own recipe."""
    trained = []
    for stack, rate, decay in zip(arrays["heads"], arrays["rates"], arrays["decays"], strict=True):
        own = {**config, "learning-rate": float(rate), "weight-decay": float(decay)}
        trained.append(tasks.fit(site, {**arrays, "heads": stack}, own).update.arrays["heads"])
    return Released(Update({"heads": np.stack(trained)}))


def snapshot_fit(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training at this round's learning rate; see `cyclic_rate`."""
    rate = cyclic_rate(int(config["round"]), int(config["length"])) * float(config["learning-rate"])
    return tasks.fit(site, arrays, {**config, "learning-rate": rate})


def cyclic_rate(number: int, length: int) -> float:
    """Returns the factor on the learning rate in a round counted from 1: a cosine from 2 down, begun anew each cycle.

    Example:
        >>> [round(cyclic_rate(number, 4), 3) for number in (1, 2, 3, 4, 5)]
        [2.0, 1.707, 1.0, 0.293, 2.0]
    """
    return float(1.0 + np.cos(np.pi * ((number - 1) % length) / length))


def head_config(study: Study) -> dict[str, Value]:
    """Returns the settings' local training of a head, as the task `fit` reads it."""
    chosen = study.settings
    return {
        "epochs": chosen.local_epochs, "batch-size": chosen.batch_size, "learning-rate": chosen.learning_rate,
        "weight-decay": chosen.weight_decay, "proximal": 0.0,
    }  # fmt: skip


def head_scale(study: Study) -> dict[str, Array]:
    """Returns the pooled standardisation as it travels: `mean` and `scale` [d], float32."""
    moments = study.moments
    return {"mean": moments.mean.astype(np.float32), "scale": moments.scale.astype(np.float32)}


@final
@dataclass(frozen=True)
class Soup(Method):
    """The average of FedAvg heads of several learning rates and decays, all from the zero head, e.g. `soup-20-greedy`.

    Attributes:
        rounds: of training.
        greedy: whether ingredients are chosen by cross-validation instead of all being used.
        adjusted: whether the class prior is removed afterwards.
    """

    syntax: ClassVar[str] = r"soup-(?P<rounds>[1-9][0-9]{0,2})(?P<greedy>-greedy)?(?P<adjusted>-adjusted)?"
    example: ClassVar[str] = "soup-2-greedy"
    summary: ClassVar[str] = (
        "average of FedAvg heads of four recipes from one start; greedy: chosen by cross-validation"
    )

    rounds: int
    greedy: bool
    adjusted: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        trained, start = study.once(f"soup-{self.rounds}", lambda: self._trained(study))
        finished = study.finished(trained, self.adjusted)  # [I, M, C, d + 1]
        phase = f"soup-{self.rounds}"
        bill = {"moments": Share(), phase: Share(work=1.0 if self.greedy else 1 / trained.shape[1])}
        facts: dict[str, Any] = {"rounds": self.rounds, "adjusted": self.adjusted}
        chosen, factor = frozenset(range(len(trained))), 1.0
        if self.greedy:
            choices = self._choices(study, finished[:, 1:], start)
            chosen = greedy({one: choice.loss for one, choice in choices.items()})
            factor = choices[chosen].temperature
            singles = {str(min(one)): choice.loss for one, choice in choices.items() if len(one) == 1}
            facts |= {"cv_loss": choices[chosen].loss, "cv_losses": singles, "temperature": factor}
            bill |= {"statistics": Share(), f"validate-{self.name}": Share()}
        affine = factor * uniform([Ingredient(finished[index, 0], start) for index in sorted(chosen)])
        facts |= {"ingredients": [list(INGREDIENTS[index]) for index in sorted(chosen)]}
        return Outcome({"": study.head(affine, "soup", facts)}, bill, 0.0, facts)

    def _trained(self, study: Study) -> tuple[Float, str]:
        """Heads [I, M, C, d + 1] and the digest of their common start; fold heads train along if a soup is greedy."""
        wanted = [Soup.parse(name) for name in study.names]
        folds = study.settings.folds if any(one and one.greedy and one.rounds == self.rounds for one in wanted) else 0
        shape = (len(INGREDIENTS), 1 + folds, len(study.problem.classes), study.problem.width + 1)
        start, chosen = np.zeros(shape, np.float32), study.settings
        rates, decays = np.array(INGREDIENTS).T
        fixed = {"rates": rates * chosen.learning_rate, "decays": decays * chosen.weight_decay, **head_scale(study)}
        phase = f"soup-{self.rounds}"
        exchange = Exchange("soup_fit", phase, self.rounds, head_config(study), fixed)
        course = run_rounds(study.hospitals, exchange, {"heads": start})
        return course.last["heads"].astype(np.float64), start_of(start[0, 0])

    def _choices(self, study: Study, fold_heads: Float, start: str) -> dict[frozenset[int], Choice]:
        """Cross-validated choice of every non-empty set of ingredients [I, F, C, d + 1], in one exchange."""
        count = len(fold_heads)
        sets = [frozenset(i for i in range(count) if code >> i & 1) for code in range(1, 2**count)]
        soups = [uniform([Ingredient(fold_heads[index], start) for index in sorted(one)]) for one in sets]
        sums = study.validate(np.stack(soups, axis=1), f"validate-{self.name}").arrays
        rows = [Update({name: array[row : row + 1] for name, array in sums.items()}) for row in range(len(sets))]
        return {one: choose(row, study.statistics.counts) for one, row in zip(sets, rows, strict=True)}


@final
@dataclass(frozen=True)
class Snapshot(Method):
    """The mean probability of FedAvg heads at the ends of learning-rate cycles: `snapshot-5x4` is 5 cycles of 4 rounds.

    Attributes:
        cycles: number of snapshots.
        length: rounds of a cycle.
        adjusted: whether the class prior is removed from each.
    """

    syntax: ClassVar[str] = r"snapshot-(?P<cycles>[1-9][0-9]?)x(?P<length>[1-9][0-9]?)(?P<adjusted>-adjusted)?"
    example: ClassVar[str] = "snapshot-2x2"
    summary: ClassVar[str] = "mean probability of FedAvg heads at the ends of cycles of the learning rate"

    cycles: int
    length: int
    adjusted: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        phase = f"snapshot-{self.cycles}x{self.length}"
        snapshots = study.once(phase, lambda: self._snapshots(study, phase))
        heads = {f"round {number}": study.finished(head, self.adjusted) for number, head in snapshots.items()}
        facts = {"rounds": self.cycles * self.length, "adjusted": self.adjusted, "members": list(heads)}
        mixture = Mixture.of(study, heads, np.full(self.cycles, 1.0 / self.cycles), facts)
        return Outcome({"": mixture}, {"moments": Share(), phase: Share()}, 0.0, mixture.facts)

    def _snapshots(self, study: Study, phase: str) -> dict[int, Float]:
        ends = [self.length * (cycle + 1) for cycle in range(self.cycles)]
        config = {**head_config(study), "length": self.length}
        exchange = Exchange("snapshot_fit", phase, ends[-1], config, head_scale(study), frozenset(ends))
        start = np.zeros((1, len(study.problem.classes), study.problem.width + 1))
        course = run_rounds(study.hospitals, exchange, {"heads": start})
        return {number: course.arrays[number]["heads"][0].astype(np.float64) for number in ends}


METHODS: tuple[type[Method], ...] = (Soup, Snapshot)
TASKS: Mapping[str, Task] = {task.__name__: task for task in (soup_fit, snapshot_fit)}
