"""Reptile across hospitals: federated averaging in which the server goes only part of the way."""

from dataclasses import dataclass
from typing import ClassVar, final

from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.server_steps import Memory, ServerStep
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.methods.network import network_of, recipe_config, start_of


@final
@dataclass(frozen=True)
class Partway(ServerStep):
    """w <- w + rate (mean of w_k - w): Reptile's outer step (Nichol et al., 2018, algorithm 2). Rate 1 is FedAvg.

    Attributes:
        rate: share of the way to the mean.

    Example:
        >>> import numpy as np
        >>> Partway(0.5).apply(np.array([1.0]), np.array([2.0]), {})[0].tolist()
        [2.0]
    """

    rate: float = 0.5

    def apply(self, head: Float, change: Float, memory: Memory) -> tuple[Float, Memory]:
        """See ServerStep."""
        return head + self.rate * change, memory


@final
@dataclass(frozen=True)
class Reptile(Method):
    """The small network trained at hospitals, the server moving `rate` of the way to the mean in every round.

    Attributes:
        rounds: of training.
        rate: of the server, e.g. `reptile-20-rate-0.3`.
    """

    syntax: ClassVar[str] = r"reptile-(?P<rounds>[1-9][0-9]{0,3})(?:-rate-(?P<rate>[0-9]+(?:\.[0-9]+)?))?"
    example: ClassVar[str] = "reptile-3"
    summary: ClassVar[str] = "the small network; the server goes half of the way (-rate-X: X of it) to the mean"

    rounds: int
    rate: float = 0.5

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        phase, fixed = f"fit-{self.name}", study.moments.standardisation
        exchange = Exchange("fit_network", phase, self.rounds, recipe_config(study), fixed, step=Partway(self.rate))
        facts = {"rounds": self.rounds, "rate": self.rate}
        model = network_of(study, run_rounds(study.hospitals, exchange, start_of(study)).last, facts)
        return Outcome({"": model}, {"moments": Share(), phase: Share()}, 0.0, facts)


METHODS: tuple[type[Method], ...] = (Reptile,)
