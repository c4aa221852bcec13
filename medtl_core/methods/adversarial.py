"""Adversarial training across hospitals: a small adapter learns features from which the hospital cannot be told.

Gradient reversal (Ganin and Lempitsky, ICML 2015): a domain head guesses the hospital from the adapter's output h, and
the adapter is pushed the other way. A hospital alone knows one domain only, so its domain head would learn a constant:
here adapter, label head and domain head are averaged together in every round, and what a hospital works against is the
average of all. Naive federated versions diverge, hence the small capped weight and the proximal term. Only
arrays of the network move; no feature leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.feature_map import FeatureMap, solve, tasks_of
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, NamedCourse, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.statistics import Float
from medtl_core.methods.network import (
    HIDDEN,
    NAMES,
    Recipe,
    batches,
    embed,
    forward,
    network_of,
    recipe_config,
    standardised,
    start_of,
)
from medtl_core.rng import bucket, stream
from medtl_core.values import Array, Released, Update

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


def fit_adversarial(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training of adapter, label head and domain head; the domain's gradient is reversed once."""
    inputs = standardised(site.values, arrays["mean"], arrays["scale"])
    rng = stream(site.seed, "adversarial", site.name, int(config["round"]))
    start = {name: arrays[name] for name in (*NAMES, *DOMAIN)}
    weight = reversal((int(config["round"]) - 1) / int(config["of"]), float(config["cap"]))
    targets = (site.label, domain_of(site, arrays))
    return Released(Update(_trained(start, inputs, targets, weight, recipe=Recipe.of(config), rng=rng)))


def _trained(
    start: Arrays, inputs: NDArray[np.float32], targets: tuple[NDArray[np.int64], int], weight: float, *,
    recipe: Recipe, rng: np.random.Generator,
) -> dict[str, Array]:  # fmt: skip
    import torch

    label = torch.from_numpy(targets[0])
    features = torch.from_numpy(inputs)
    current = {name: torch.tensor(np.asarray(array, np.float32), requires_grad=True) for name, array in start.items()}
    first = {name: array.detach().clone() for name, array in current.items()}
    for _ in range(recipe.epochs):
        for batch in batches(len(label), recipe.batch_size, rng):
            rows = torch.from_numpy(batch)
            cost = _cost(current, features[rows], label[rows], targets[1], weight)
            slopes = torch.autograd.grad(cost, list(current.values()))
            with torch.no_grad():
                for (name, array), slope in zip(current.items(), slopes, strict=True):
                    pull = recipe.weight_decay * array + recipe.proximal * (array - first[name])
                    array -= recipe.learning_rate * (slope + pull)
    done = {name: array.detach().numpy() for name, array in current.items()}
    if not all(np.isfinite(array).all() for array in done.values()):
        raise DataError("adversarial training diverged (an array is not finite); lower the learning rate")
    return done


def _cost(
    arrays: Mapping[str, "Tensor"], features: "Tensor", label: "Tensor", domain: int, weight: float
) -> "Tensor":  # fmt: skip
    import torch
    from torch.nn import functional

    hidden = reversed_gradient(embed(arrays, features), weight)
    guess = hidden @ arrays["domain.weight"].T + arrays["domain.bias"]
    mine = torch.full((len(label),), domain)
    return functional.cross_entropy(forward(arrays, features), label) + functional.cross_entropy(guess, mine)


def _hidden(site: SiteData, arrays: Arrays) -> Float:
    """The adapter's output on the training cases, float64 [n, hidden]."""
    inputs = standardised(site.values, arrays["mean"], arrays["scale"]).astype(np.float64)
    return np.asarray(np.tanh(inputs @ arrays["body.weight"].T + arrays["body.bias"]))


def _read(site: SiteData, arrays: Arrays, config: Config) -> tuple[Float, NDArray[np.int64]]:
    return _hidden(site, arrays), np.full(len(site.label), domain_of(site, arrays))


#: The adapter's output, and the hospital in the place of the diagnosis.
PROBE = FeatureMap("probe", _read, lambda site, arrays: len(arrays["domains"]))


def hospital_accuracy(study: Study, arrays: Arrays) -> float:
    """Returns how well a cross-validated discriminant tells the hospital from an adapter's output; chance is 1 / K.

    A measurement, not a part of any method: its phases "probe_statistics" and "probe_validate" are billed to none.

    Args:
        study: its hospitals are asked.
        arrays: with `body.weight`, `body.bias`.
    """
    sent = {**_fixed(study), **{name: arrays[name] for name in ("body.weight", "body.bias")}}
    reading = study.reading(PROBE, sent, width=len(arrays["body.bias"]), targets=len(sent["domains"]))
    return solve(reading, {"": (Discriminant(), reading.sums())})[""].choice.balanced_accuracy


def _mark(name: str) -> int:
    """A number for a hospital's name, so that every hospital finds itself in one array sent to all."""
    return bucket(0, f"domain/{name}", 2**62)


def _fixed(study: Study) -> dict[str, Array]:
    domains = np.array([_mark(name) for name in study.hospitals.weights], np.int64)
    return {**study.moments.standardisation, "domains": domains}


@final
@dataclass(frozen=True)
class AdversarialMethod(Method):
    """Federated gradient reversal on the small network; its plain relative is `network-R`.

    Attributes:
        rounds: of training.
        cap: largest weight of the reversed gradient; `adversarial-R-0` trains the same arrays in the same way, and the
            adapter does not see the domain head: the twin that shows what the adversary does.
    """

    syntax: ClassVar[str] = r"adversarial-(?P<rounds>[1-9][0-9]{0,3})(-(?P<cap>[01](\.[0-9]{1,3})?))?"
    example: ClassVar[str] = "adversarial-3"
    summary: ClassVar[str] = "the small network trained against a federated head that guesses the hospital"

    rounds: int
    cap: float = 0.1

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        course = self._course(study)
        accuracy = hospital_accuracy(study, course.last)
        facts = {
            "rounds": self.rounds, "cap": self.cap, "hospital_accuracy": accuracy,
            "hospital_chance": 1.0 / len(study.hospitals.weights),
        }  # fmt: skip
        bill = {"moments": Share(), f"fit-{self.name}": Share()}
        return Outcome({"": network_of(study, course.last, facts)}, bill, 0.0, facts)

    def _course(self, study: Study) -> NamedCourse:
        domains = len(study.hospitals.weights)
        start = {
            **start_of(study), "domain.weight": np.zeros((domains, HIDDEN), np.float32),
            "domain.bias": np.zeros(domains, np.float32),
        }  # fmt: skip
        config: dict[str, Value] = {
            **recipe_config(study), "proximal": study.settings.proximal, "cap": self.cap,
        }  # fmt: skip
        exchange = Exchange("fit_adversarial", f"fit-{self.name}", self.rounds, config, _fixed(study))
        return run_rounds(study.hospitals, exchange, start)


METHODS: tuple[type[Method], ...] = (AdversarialMethod,)
TASKS: Mapping[str, Task] = {
    "fit_adversarial": fit_adversarial, **tasks_of(PROBE),
}  # fmt: skip
