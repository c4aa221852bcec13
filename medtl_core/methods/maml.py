"""MAML across hospitals: a network that is good after a few gradient steps, and ANIL, which moves its head only.

Every hospital takes the meta-gradient of its own episodes, the server averages the networks. MAML: Finn et al., ICML
2017. ANIL, whose inner loop moves the head only: Raghu et al., ICLR 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.study import Study
from medtl_core.heads.linear import class_weights
from medtl_core.heads.statistics import Float
from medtl_core.methods.inner_loop import Inner
from medtl_core.methods.models.network import HEAD, NAMES, Network
from medtl_core.methods.network import NetworkTrained, network_of
from medtl_core.values import Array

#: Tasks a hospital takes a meta-gradient of in one round.
TASKS_A_ROUND = 20
#: Outer step of plain gradient descent.
OUTER_RATE = 0.1


@final
@dataclass(frozen=True)
class Maml(NetworkTrained):
    """Meta-training on episodes, then the inner loop on the cases of all hospitals together.

    Attributes:
        algorithm: "maml" or "anil".
    """

    syntax: ClassVar[str] = r"(?P<algorithm>maml|anil)-(?P<rounds>[1-9][0-9]{0,3})"
    example: ClassVar[str] = "anil-2"
    summary: ClassVar[str] = "a network meta-trained to learn from a few steps; the federation then takes them together"
    task: ClassVar[str] = "fit_meta"
    phases: ClassVar[tuple[str, ...]] = ("step",)

    algorithm: str

    @property
    def inner(self) -> Inner:
        """The inner loop of the name."""
        return Inner(names=HEAD if self.algorithm == "anil" else NAMES)

    @property
    def facts(self) -> dict[str, Any]:
        """See NetworkTrained."""
        return {"rounds": self.rounds, **self.inner.config()}

    def sent(self, study: Study) -> Mapping[str, Array]:
        """See Trained: besides, the weight of each class under which all count alike, [C]."""
        weight = class_weights(study.moments.counts).astype(np.float32)
        return {**study.moments.standardisation, "weight": weight}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        ways = max(len(study.problem.classes), 2)
        return {
            **self.inner.config(), "outer-rate": OUTER_RATE, "tasks": TASKS_A_ROUND, "ways": ways,
            "whole": False, "batch-size": study.settings.batch_size,  # read by hospitals of earlier versions
        }  # fmt: skip

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Network:
        """See Trained."""
        inner = self.inner
        exchange = Exchange("gradient_step", f"step-{self.name}", inner.steps, inner.config(), self.sent(study))
        return network_of(study, run_rounds(study.hospitals, exchange, arrays).last, self.facts)


METHODS: tuple[type[Method], ...] = (Maml,)
