"""Gradient reversal across hospitals (Ganin and Lempitsky, ICML 2015): what a hospital trains, and what it is told.

A domain head guesses the hospital from the adapter's output h, and the adapter is pushed the other way. A hospital
alone knows one domain only, so its domain head would learn a constant: adapter, label head and domain head are averaged
together in every round, and what a hospital works against is the average of all.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training
from medtl_core.methods.local_sgd import Pass, epochs, local_sgd
from medtl_core.methods.models.network import NAMES, embed, network_loss, standardised
from medtl_core.rng import bucket
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Arrays of the head that guesses the hospital.
DOMAIN = ("domain.bias", "domain.weight")


def reversal(progress: float, cap: float) -> float:
    """Returns the weight of the reversed gradient after a share p of the training: 2 / (1 + e^-10p) - 1, or `cap`."""
    return min(2.0 / (1.0 + float(np.exp(-10.0 * progress))) - 1.0, cap)


def reversed_gradient(values: "Tensor", weight: float) -> "Tensor":
    """Returns `values` unchanged; their gradient arrives multiplied by -weight."""
    return (1.0 + weight) * values.detach() - weight * values


def mark(name: str) -> int:
    """Returns a number for a hospital's name, so that every hospital finds itself in one array sent to all."""
    return bucket(0, f"domain/{name}", 2**62)


def sent_of(study: Study) -> dict[str, Array]:
    """Returns what travels untrained: `mean` and `scale` [d], and the `domains` [K], a number for each hospital."""
    domains = np.array([mark(name) for name in study.hospitals.weights], np.int64)
    return {**study.moments.standardisation, "domains": domains}


def domain_of(site: SiteData, arrays: Arrays) -> int:
    """Returns this hospital's number among the `domains` the server sent.

    Raises:
        ConfigError: the server does not know this hospital by its name.
    """
    places = np.flatnonzero(arrays["domains"] == mark(site.name))
    if len(places) != 1:
        raise ConfigError(f"hospital {site.name!r} is not among the {len(arrays['domains'])} domains of this run")
    return int(places[0])


def _passes(site: SiteData, arrays: Arrays, config: Config, rng: np.random.Generator) -> Iterable[Pass]:
    """Label loss and domain loss; the domain's gradient is reversed once, on its way into the adapter."""
    domain = domain_of(site, arrays)
    weight = reversal((int(config["round"]) - 1) / int(config["of"]), float(config["cap"]))

    def loss(current: Mapping[str, "Tensor"], inputs: "Tensor", label: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        hidden = reversed_gradient(embed(current, inputs), weight)
        guess = hidden @ current["domain.weight"].T + current["domain.bias"]
        return network_loss(current, inputs, label) + cross_entropy(guess, label.new_full(label.shape, domain))

    return epochs(standardised(site.values, arrays), site.label, loss, Training.of(config), rng=rng)


TASKS = {"fit_adversarial": local_sgd("adversarial", (*NAMES, *DOMAIN), _passes, metrics=False)}
