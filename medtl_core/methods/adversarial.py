"""Adversarial training across hospitals: a small adapter learns features from which the hospital cannot be told.

Gradient reversal (Ganin and Lempitsky, ICML 2015): a domain head guesses the hospital from the adapter's output h, and
the adapter is pushed the other way. A hospital alone knows one domain only, so its domain head would learn a constant:
here adapter, label head and domain head are averaged together in every round, and what a hospital works against is the
average of all. Naive federated versions diverge, hence the small capped weight and the proximal term. Only
arrays of the network move; no feature leaves.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError
from medtl_core.federation.feature_map import FeatureMap, solve, tasks_of
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.rounds import as_float32, recipe_config
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.linear import Training
from medtl_core.heads.statistics import Float
from medtl_core.methods.local_sgd import Pass, epochs, local_sgd
from medtl_core.methods.models.network import BODY, HIDDEN, NAMES, Network, embed, embedded, network_loss, standardised
from medtl_core.methods.network import NetworkTrained, network_of
from medtl_core.rng import bucket
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Arrays of the head that guesses the hospital.
DOMAIN = ("domain.bias", "domain.weight")


def reversal(progress: float, cap: float) -> float:
    """Returns the weight of the reversed gradient after a share of the training: 2 / (1 + e^-10p) - 1, at most `cap`.

    Example:
        >>> reversal(0.0, 0.1), reversal(0.5, 0.1)
        (0.0, 0.1)
    """
    return min(2.0 / (1.0 + float(np.exp(-10.0 * progress))) - 1.0, cap)


def reversed_gradient(values: "Tensor", weight: float) -> "Tensor":
    """Returns `values` unchanged; their gradient arrives multiplied by -weight."""
    return (1.0 + weight) * values.detach() - weight * values


def domain_of(site: SiteData, arrays: Arrays) -> int:
    """Returns this hospital's number among the `domains` the server sent.

    Raises:
        ConfigError: the server does not know this hospital by its name.
    """
    found = np.flatnonzero(arrays["domains"] == _mark(site.name))
    if len(found) != 1:
        raise ConfigError(f"hospital {site.name!r} is not among the {len(arrays['domains'])} domains of this run")
    return int(found[0])


def _passes(site: SiteData, arrays: Arrays, config: Config, rng: np.random.Generator) -> Iterable[Pass]:
    """Label loss and domain loss; the domain's gradient is reversed once, on its way into the adapter."""
    domain = domain_of(site, arrays)
    weight = reversal((int(config["round"]) - 1) / int(config["of"]), float(config["cap"]))

    def loss(current: Mapping[str, "Tensor"], inputs: "Tensor", label: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        hidden = reversed_gradient(embed(current, inputs), weight)
        guess = hidden @ current["domain.weight"].T + current["domain.bias"]
        mine = label.new_full(label.shape, domain)
        return network_loss(current, inputs, label) + cross_entropy(guess, mine)

    return epochs(standardised(site.values, arrays), site.label, loss, Training.of(config), rng=rng)


def _read(site: SiteData, arrays: Arrays, config: Config) -> tuple[Float, NDArray[np.int64]]:
    return embedded(site.values, arrays), np.full(len(site.label), domain_of(site, arrays))


#: The adapter's output, and the hospital in the place of the diagnosis.
PROBE = FeatureMap("probe", _read, lambda site, arrays: len(arrays["domains"]))


def hospital_accuracy(study: Study, arrays: Arrays) -> float:
    """Returns how well a cross-validated discriminant tells the hospital from an adapter's output; chance is 1 / K.

    A measurement, not a part of any method: its phases "probe_statistics" and "probe_validate" are billed to none.

    Args:
        study: its hospitals are asked.
        arrays: with `body.weight`, `body.bias`.
    """
    sent = {**sent_of(study), **{name: arrays[name] for name in BODY}}
    reading = study.reading(PROBE, sent, width=len(arrays["body.bias"]), targets=len(sent["domains"]))
    return solve(reading, {"": (Discriminant(), reading.sums())})[""].choice.balanced_accuracy


def _mark(name: str) -> int:
    """A number for a hospital's name, so that every hospital finds itself in one array sent to all."""
    return bucket(0, f"domain/{name}", 2**62)


def sent_of(study: Study) -> dict[str, Array]:
    """Returns what travels untrained: `mean` and `scale` [d], and the `domains` [K], a number for each hospital."""
    domains = np.array([_mark(name) for name in study.hospitals.weights], np.int64)
    return {**study.moments.standardisation, "domains": domains}


@final
@dataclass(frozen=True)
class AdversarialMethod(NetworkTrained):
    """Federated gradient reversal on the small network; its plain relative is `network-R`.

    Attributes:
        cap: largest weight of the reversed gradient; `adversarial-R-0` trains the same arrays in the same way, and the
            adapter does not see the domain head: the twin that shows what the adversary does.
    """

    syntax: ClassVar[str] = r"adversarial-(?P<rounds>[1-9][0-9]{0,3})(-(?P<cap>[01](\.[0-9]{1,3})?))?"
    example: ClassVar[str] = "adversarial-3"
    summary: ClassVar[str] = "the small network trained against a federated head that guesses the hospital"
    task: ClassVar[str] = "fit_adversarial"

    cap: float = 0.1

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

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Network:
        """See Trained."""
        accuracy, chance = hospital_accuracy(study, as_float32(arrays)), 1.0 / len(study.hospitals.weights)
        facts = {**self.facts, "cap": self.cap, "hospital_accuracy": accuracy, "hospital_chance": chance}
        return network_of(study, arrays, facts)


METHODS: tuple[type[Method], ...] = (AdversarialMethod,)
TASKS: Mapping[str, Task] = {
    "fit_adversarial": local_sgd("adversarial", (*NAMES, *DOMAIN), _passes, metrics=False),
    **tasks_of(PROBE),
}  # fmt: skip
