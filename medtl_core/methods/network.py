"""`network-R`: federated averaging of the small network, and what every method that trains it shares."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS, Trained, as_float32
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training
from medtl_core.heads.statistics import Float
from medtl_core.methods.local_sgd import Pass, epochs, local_sgd
from medtl_core.methods.models.network import NAMES, Network, initial, network_loss, standardised
from medtl_core.rng import stream
from medtl_core.values import Array


def start_of(study: Study) -> dict[str, Array]:
    """Returns the untrained network of this study, the same for every method of one seed."""
    rng = stream(study.settings.seed, "network", "initial")
    return initial(study.problem.width, len(study.problem.classes), rng=rng)


class NetworkTrained(Trained):
    """A method that trains the small network, all of it in the hands of the hospitals' task."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the model says of its training."""
        return {"rounds": self.rounds}

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        return start_of(study)

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Network:
        """See Trained."""
        moments, problem = study.moments, study.problem
        whole = as_float32({name: arrays[name] for name in NAMES}) | moments.standardisation
        return Network(whole, moments.counts > 0, problem.classes, problem.fingerprint, self.facts)


def _passes(site: SiteData, arrays: Arrays, config: Config, rng: np.random.Generator) -> Iterable[Pass]:
    return epochs(standardised(site.values, arrays), site.label, network_loss, Training.of(config), rng=rng)


class NetworkMethod(NetworkTrained):
    """One hidden layer on the cached features, trained at hospitals and averaged."""

    syntax = f"network{ROUNDS}"
    example = "network-3"
    task = "fit_network"


METHODS = (NetworkMethod,)
TASKS = {"fit_network": local_sgd("network", NAMES, _passes)}
