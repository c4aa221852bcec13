"""Adversarial training across hospitals: a small adapter learns features from which the hospital cannot be told.

Naive federated versions diverge, hence the small capped weight and the proximal term. Only arrays of the network move.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import RECIPE, ROUNDS, recipe_config
from medtl_core.methods.models.network import HIDDEN
from medtl_core.methods.network import NetworkTrained
from medtl_core.methods.reversal import sent_of
from medtl_core.values import Array


@dataclass(frozen=True)
class AdversarialMethod(NetworkTrained):
    """The small network trained against a federated head that guesses the hospital.

    Attributes:
        cap: largest weight of the reversed gradient; with 0 the adapter does not see the domain head: the twin that
            shows what the adversary does.
    """

    syntax = rf"adversarial{ROUNDS}(-(?P<cap>[01](\.[0-9]{{1,3}})?))?"
    example = "adversarial-3"
    task = "fit_adversarial"
    reads = (*RECIPE, "proximal")

    cap: float = 0.1

    @property
    def facts(self) -> dict[str, Any]:
        """See NetworkTrained."""
        return {"rounds": self.rounds, "cap": self.cap}

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        domains = len(study.hospitals.weights)
        head = {"domain.weight": np.zeros((domains, HIDDEN)), "domain.bias": np.zeros(domains)}
        return {**super().start(study), **head}

    def sent(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        return sent_of(study)

    def config(self, study: Study) -> Mapping[str, Value]:
        """See Trained."""
        return {**recipe_config(study.settings), "proximal": study.settings.proximal, "cap": self.cap}


METHODS = (AdversarialMethod,)
