"""Federated averaging of named arrays: broadcast, train at every hospital, average the changes, repeat."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from medtl_core.federation.folds import weighted_mean
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Reply, Request, Value
from medtl_core.federation.server_steps import Average, Memory, ServerStep
from medtl_core.heads.statistics import Float
from medtl_core.values import Array


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
class NamedCourse:
    """What the rounds gave.

    Attributes:
        arrays: float32 arrays by name, after each round asked for.
        metrics: what each hospital said of its training, by round and site.
    """

    arrays: Mapping[int, Mapping[str, Array]]
    metrics: Mapping[int, Mapping[str, Mapping[str, float]]]

    @property
    def last(self) -> Mapping[str, Array]:
        """The arrays after the last round."""
        return self.arrays[max(self.arrays)]


def run_rounds(hospitals: Hospitals, exchange: Exchange, start: Mapping[str, Array]) -> NamedCourse:
    """Trains named arrays; each hospital's change counts by the number of cases it registered.

    Args:
        hospitals: who trains.
        exchange: what they are asked.
        start: arrays by name; they travel as float32.

    Raises:
        RunError: a round missed its quorum.
    """
    names = sorted(start)
    current = {name: np.asarray(start[name], np.float64) for name in names}
    expect = {name: ArraySpec(current[name].shape, "float32") for name in names}
    memory: Memory = {}
    kept: dict[int, Mapping[str, Array]] = {}
    told: dict[int, dict[str, Mapping[str, float]]] = {}
    for number in range(1, exchange.rounds + 1):
        sent = {name: array.astype(np.float32) for name, array in current.items()}
        config = {**exchange.config, "round": number, "of": exchange.rounds}
        request = Request(exchange.task, {**exchange.fixed, **sent}, config, expect, exchange.phase)
        heard: dict[str, Mapping[str, float]] = {}
        change = weighted_mean(_changes(hospitals.ask(request), sent, heard))
        current, memory = _stepped(exchange.step, sent, change, memory)
        told[number] = heard
        if number in exchange.keep or number == exchange.rounds:
            kept[number] = {name: array.astype(np.float32) for name, array in current.items()}
    return NamedCourse(kept, told)


def _changes(
    replies: Iterator[Reply], sent: Mapping[str, Array], heard: dict[str, Mapping[str, float]]
) -> Iterator[tuple[dict[str, Array], float]]:
    for reply in replies:
        heard[reply.site] = reply.metrics
        yield {name: reply.arrays[name].astype(np.float64) - sent[name] for name in sent}, reply.weight


def _stepped(
    step: ServerStep, sent: Mapping[str, Array], change: Mapping[str, Array], memory: Memory
) -> tuple[dict[str, Float], Memory]:
    """Applies a server step to all arrays as one vector, since a step such as Adam has one memory."""
    names = sorted(sent)
    head = np.concatenate([sent[name].astype(np.float64).ravel() for name in names])
    moved, memory = step.apply(head, np.concatenate([change[name].ravel() for name in names]), memory)
    stops = np.cumsum([sent[name].size for name in names])[:-1]
    parts = np.split(moved, stops)
    return {name: part.reshape(sent[name].shape) for name, part in zip(names, parts, strict=True)}, memory
