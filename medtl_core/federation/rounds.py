"""Rounds of federated averaging over named arrays, and the methods that are made of them.

Broadcast, train at every hospital, average the changes, repeat.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from medtl_core.config import Settings
from medtl_core.federation.folds import parted, weighted_mean
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Reply, Request, Value
from medtl_core.federation.method import Method, Need, Rounds
from medtl_core.federation.model import Classifier
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.server_steps import Average, Memory, ServerStep
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.values import Array

#: How many rounds, at the end of a method's name.
ROUNDS = "-(?P<rounds>[1-9][0-9]{0,3})"
#: No trained number is larger, short of training that has run away: its square still is a float32.
LARGEST_TRAINED = 1e12


@dataclass(frozen=True)
class Exchange:
    """What is asked in every round.

    Attributes:
        task: the hospital's task; it answers with the trained arrays under their names.
        phase: label under which the cost is booked.
        rounds: how many.
        config: flat values sent along; "round" and "of" are added.
        fixed: arrays sent along that are not trained.
        keep: rounds whose arrays to return; the last one always is.
        step: what the server does with the mean change.
    """

    task: str
    phase: str
    rounds: int
    config: Mapping[str, Value] = field(default_factory=dict)
    fixed: Mapping[str, Array] = field(default_factory=dict)
    keep: frozenset[int] = frozenset()
    step: ServerStep = field(default_factory=Average)


@dataclass(frozen=True)
class Course:
    """What the rounds gave.

    Attributes:
        exact: float64 arrays by name, after each round asked for.
        metrics: what hospitals said of their training, by round and name: the mean over those that said it.
        flagged: the sites for which a metric was ever other than 0, by its name.
    """

    exact: Mapping[int, Mapping[str, Float]]
    metrics: Mapping[int, Mapping[str, float]]
    flagged: Mapping[str, Collection[str]]


def run_rounds(hospitals: Hospitals, exchange: Exchange, start: Mapping[str, Array]) -> Course:
    """Trains named arrays; each hospital's change counts by the number of cases it registered.

    Args:
        hospitals: who trains.
        exchange: what they are asked.
        start: arrays by name; they travel as float32.

    Raises:
        RunError: a round missed its quorum.
    """
    shapes = {name: np.shape(start[name]) for name in sorted(start)}
    current, memory = _joined(start, shapes), Memory()
    expect = {name: ArraySpec(shape, "float32", -LARGEST_TRAINED, LARGEST_TRAINED) for name, shape in shapes.items()}
    exact: dict[int, Mapping[str, Float]] = {}
    metrics: dict[int, Mapping[str, float]] = {}
    flagged: dict[str, set[str]] = {}
    for number in range(1, exchange.rounds + 1):
        sent = as_float32(parted(current, shapes))
        config = {**exchange.config, "round": number, "of": exchange.rounds}
        one = _Round(exchange.step, shapes, _joined(sent, shapes), memory, flagged)
        own = one.control if exchange.step.corrects else None
        request = Request(exchange.task, {**exchange.fixed, **sent}, config, expect, exchange.phase, own)
        change = weighted_mean(one.changes(hospitals.ask(request)))[""]
        current, memory = exchange.step.apply(one.start, change, {**memory, **one.heard})
        metrics[number] = {name: float(np.mean(values)) for name, values in one.metrics.items()}
        if number in exchange.keep or number == exchange.rounds:
            exact[number] = parted(current, shapes)
    return Course(exact, metrics, flagged)


@dataclass(frozen=True)
class _Round:
    """One round: where it starts, as one vector [p], and what is noted of each hospital on the way."""

    step: ServerStep
    shapes: Mapping[str, tuple[int, ...]]
    start: Float
    memory: Memory
    flagged: dict[str, set[str]]
    heard: Memory = field(default_factory=dict)
    metrics: dict[str, list[float]] = field(default_factory=dict)

    def control(self, site: str) -> dict[str, Array]:
        """Returns what corrects one hospital's gradients, in the shape of the array it trains."""
        (control,) = parted(self.step.correction(site, self.start, self.memory), self.shapes).values()
        return as_float32({"control": control})

    def changes(self, replies: Iterator[Reply]) -> Iterator[tuple[dict[str, Array], float]]:
        """Yields how far each hospital moved, and its agreed weight."""
        for reply in replies:
            change = _joined(reply.arrays, self.shapes) - self.start
            for name, value in reply.metrics.items():
                self.metrics.setdefault(name, []).append(value)
                if value:
                    self.flagged.setdefault(name, set()).add(reply.site)
            self.heard.update(self.step.heard(reply.site, change, reply.weight, self.memory))
            yield {"": change}, reply.weight


def _joined(arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> Float:
    """Named arrays as one vector, since a step such as Adam has one memory."""
    return np.concatenate([np.asarray(arrays[name], np.float64).ravel() for name in shapes])


def as_float32(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns named arrays as they travel."""
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


#: Settings of the local training.
RECIPE = ("local-epochs", "batch-size", "learning-rate", "weight-decay")


def recipe_config(settings: Settings) -> dict[str, Value]:
    """Returns the local training of the settings as flat values for a message."""
    public = settings.public()
    return {word.removeprefix("local-"): public[word] for word in RECIPE}


@dataclass(frozen=True)
class Trained(Method):
    """A method that runs rounds: it owns the moments, the course of rounds, the bill and the facts.

    A subclass names the hospitals' `task` and gives `start` and `model`; it says `sent`, `config` or `step` where it
    differs from averaging what the local training of the settings gives.
    """

    #: What hospitals are asked in every round.
    task: ClassVar[str]
    #: First words of the phases in which `model` asks hospitals once more, each booked as WORD-NAME.
    phases: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = RECIPE

    rounds: int

    @abstractmethod
    def start(self, study: Study) -> Mapping[str, Array]:
        """Returns the arrays before training, by name."""

    @abstractmethod
    def model(self, study: Study, arrays: Mapping[str, Float]) -> Classifier:
        """Returns the classifier of the trained arrays, float64; what it says of itself are the method's facts."""

    def sent(self, study: Study) -> Mapping[str, Array]:
        """Returns what travels along untrained: mean and scale of the features."""
        return study.moments.standardisation

    def config(self, study: Study) -> Mapping[str, Value]:
        """Returns the flat values of every message."""
        return recipe_config(study.settings)

    def step(self, study: Study) -> ServerStep:
        """Returns what the server does with the mean change."""
        return Average()

    @property
    def trained_as(self) -> str:
        """What is trained; methods that train the same share its rounds."""
        return self.name

    @property
    def phase(self) -> str:
        """Label of the rounds."""
        return f"fit-{self.trained_as}"

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (Rounds(self.trained_as, self.rounds),)

    def course(self, study: Study) -> Course:
        """Returns what the rounds gave, after those that any method needs; they are run once."""
        keep = study.rounds_needed(self.trained_as) | {self.rounds}

        def run() -> Course:
            fixed, config = self.sent(study), self.config(study)
            exchange = Exchange(self.task, self.phase, max(keep), config, fixed, keep, self.step(study))
            return run_rounds(study.hospitals, exchange, self.start(study))

        return study.once(f"course/{self.trained_as}/{max(keep)}", run)

    def bill(self, study: Study) -> dict[str, Share]:
        """Returns what the method needs of each phase."""
        part = self.rounds / max(self.course(study).exact)
        asked = [f"{word}-{self.name}" for word in self.phases]
        return {"moments": Share(), self.phase: Share(part, part), **dict.fromkeys(asked, Share())}

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        model = self.model(study, self.course(study).exact[self.rounds])
        return Outcome({"": model}, self.bill(study), 0.0, model.facts)
