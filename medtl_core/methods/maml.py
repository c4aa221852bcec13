"""MAML across hospitals: a network that is good after a few gradient steps, and ANIL, which moves its head only.

Every hospital takes the meta-gradient of its own episodes, the server averages the networks. MAML: Finn et al., ICML
2017. ANIL: Raghu et al., ICLR 2020.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS, Exchange, run_rounds
from medtl_core.heads.logistic import class_weights
from medtl_core.heads.statistics import Float
from medtl_core.methods.inner_loop import OUTER, Inner
from medtl_core.methods.models.network import HEAD, NAMES, Network
from medtl_core.methods.network import NetworkTrained
from medtl_core.values import Array


@dataclass(frozen=True)
class Maml(NetworkTrained):
    """A network meta-trained to learn from a few steps; the federation then takes them together."""

    syntax = f"(?P<algorithm>maml|anil){ROUNDS}"
    example = "anil-2"
    task = "fit_meta"
    phases = ("step",)
    reads = ()

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
        return {**study.moments.standardisation, "weight": class_weights(study.moments.counts).astype(np.float32)}

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained; hospitals of earlier versions read the last two values."""
        ways, size = max(len(study.problem.classes), 2), study.settings.batch_size
        return {**self.inner.config(), **OUTER, "ways": ways, "whole": False, "batch-size": size}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Network:
        """See Trained."""
        inner = self.inner
        exchange = Exchange("gradient_step", f"step-{self.name}", inner.steps, inner.config(), self.sent(study))
        return super().model(study, run_rounds(study.hospitals, exchange, arrays).exact[inner.steps])


METHODS = (Maml,)
