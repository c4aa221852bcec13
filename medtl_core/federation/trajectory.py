"""Rounds of a gradient algorithm: broadcast a head, train it at every hospital, average, repeat."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from medtl_core.config import Settings
from medtl_core.federation.folds import weighted_mean
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Reply, Request
from medtl_core.federation.server_steps import Adam, Average, Control, Memory, Momentum, ServerStep
from medtl_core.heads.linear import Training
from medtl_core.heads.statistics import Float
from medtl_core.values import Array


@dataclass(frozen=True)
class Course:
    """What a gradient algorithm gave.

    Attributes:
        heads: standardised-space heads [M, C, d + 1] after the rounds asked for.
        stack: number M of heads trained side by side (the full one, then one per left-out fold).
    """

    heads: Mapping[int, Float]
    stack: int


def server_step(algorithm: str, settings: Settings) -> ServerStep:
    """Returns what the server does with the mean change under `algorithm`."""
    steps: dict[str, ServerStep] = {
        "fedavgm": Momentum(settings.server_momentum, settings.server_rate),
        "fedadam": Adam(settings.adam_rate),
    }
    return steps.get(algorithm, Average())


def run_course(
    hospitals: Hospitals, settings: Settings, algorithm: str, start: tuple[Float, Float, Float], keep: frozenset[int]
) -> Course:
    """Trains heads for max(keep) rounds.

    Args:
        hospitals: who trains.
        settings: of the local training.
        algorithm: one of `names.ALGORITHMS`.
        start: heads [M, C, d + 1], feature means [d] and scales [d].
        keep: rounds whose heads to return.
    """
    heads, mean, scale = start
    step, memory = server_step(algorithm, settings), Memory()
    control = Control(np.zeros_like(heads)) if algorithm == "scaffold" else None
    fixed = {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
    kept: dict[int, Float] = {}
    for number in range(1, max(keep) + 1):
        request = Request(
            "fit",
            arrays={"heads": heads.astype(np.float32), **fixed},
            config=_recipe(settings, algorithm, number, max(keep)),
            expect={"heads": ArraySpec(heads.shape, "float32")},
            phase=f"fit-{algorithm}",
            own=_corrections(control) if control else None,
        )
        base = request.arrays["heads"].astype(np.float64)  # what the hospitals really started from
        moves = Moves(base, settings, control)
        mean_change = weighted_mean(moves.of(hospitals.ask(request)))["heads"]
        heads, memory = step.apply(base, mean_change, memory)
        control = control.after(moves.fresh, len(hospitals.weights)) if control else None
        if number in keep:
            kept[number] = heads
    return Course(kept, len(heads))


@dataclass(frozen=True)
class Moves:
    """How far each hospital moved in one round; notes SCAFFOLD's next control variates on the way."""

    base: Float
    settings: Settings
    control: Control | None
    fresh: dict[str, Float] = field(default_factory=dict)

    def of(self, replies: Iterator[Reply]) -> Iterator[tuple[dict[str, Array], float]]:
        """Yields the change and the agreed weight of each reply."""
        training = Training(self.settings.local_epochs, self.settings.batch_size, self.settings.learning_rate)
        for reply in replies:
            change = reply.arrays["heads"].astype(np.float64) - self.base
            if self.control:
                rate = max(training.steps(reply.weight), 1) * training.learning_rate
                self.fresh[reply.site] = self.control.moved(reply.site, change, rate)
            yield {"heads": change}, reply.weight


def _corrections(control: Control) -> Callable[[str], dict[str, Array]]:
    def own(site: str) -> dict[str, Array]:
        return {"control": control.correction(site).astype(np.float32)}

    return own


def _recipe(settings: Settings, algorithm: str, number: int, rounds: int) -> dict[str, str | int | float | bool]:
    return {
        "round": number,
        "of": rounds,
        "epochs": settings.local_epochs,
        "batch-size": settings.batch_size,
        "learning-rate": settings.learning_rate,
        "weight-decay": settings.weight_decay,
        "proximal": settings.proximal if algorithm == "fedprox" else 0.0,
    }
