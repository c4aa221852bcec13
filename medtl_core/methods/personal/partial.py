"""Parts of the small network that stay at the hospital: FedPer and FedRep keep the head, FedBN the normalisation."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from medtl_core.federation.method import Method
from medtl_core.federation.rounds import as_float32
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Task
from medtl_core.methods.local_sgd import Fitted, descend, epochs
from medtl_core.methods.models.network import BODY, HEAD, NAMES, Network, network_loss, standardised
from medtl_core.methods.network import start_of
from medtl_core.methods.personal.client import LocalRound, OwnModel, RoundResult, personal_tasks
from medtl_core.methods.personal.server import ROUNDS, Personal
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Own cases that weigh as much as the pooled moments in FedBN's normalisation; one case alone has no spread.
PULL = 10.0

#: FedBN's own affine normalisation: each feature is multiplied by 1 + gain and raised by shift.
NORM = ("norm.gain", "norm.shift")

#: Names of the arrays that are trained one after the other in a round, each for all passes.
Turns = tuple[tuple[str, ...], ...]


def zero_head(here: LocalRound) -> Mapping[str, Array]:
    """Returns the head of a hospital that has none yet."""
    weight = np.zeros((here.site.classes, len(here.sent["body.bias"])), np.float32)
    return {"head.weight": weight, "head.bias": weight[:, 0].copy()}


def train_head_apart(here: LocalRound, turns: Turns) -> RoundResult:
    """Trains the network in turns; the body is shared, the head stays."""
    fitted = _in_turn(here, turns)
    return RoundResult(_only(fitted.arrays, BODY), _only(fitted.arrays, HEAD), fitted.metrics)


def own_network(here: LocalRound) -> OwnModel:
    """Returns the shared body under the hospital's own head."""
    return _network(here, {**here.sent, **here.kept}), {}


def refitted_network(here: LocalRound) -> OwnModel:
    """Returns the same after the head was fitted once more, to the last shared body."""
    fitted = _in_turn(here, (HEAD,))
    return _network(here, {**here.sent, **fitted.arrays}), fitted.metrics


def _in_turn(here: LocalRound, turns: Turns) -> Fitted:
    """Trains parts of the network one after the other; the loss before is that of the first turn."""
    inputs = standardised(here.site.values, here.sent)
    fitted = first = Fitted({**_only(here.sent, BODY), **here.kept})
    for number, names in enumerate(turns):
        passes = epochs(inputs, here.site.label, network_loss, here.training, rng=here.order(number))
        fitted = descend(fitted.arrays, passes, here.training, names)
        first = fitted if number == 0 else first
    return replace(fitted, loss_before=first.loss_before)


def identity_norm(here: LocalRound) -> Mapping[str, Array]:
    """Returns the affine normalisation that changes nothing."""
    return {name: np.zeros(here.site.values.shape[1], np.float32) for name in NORM}


def own_moments(here: LocalRound) -> dict[str, Array]:
    """Returns this hospital's `mean` and `scale` of the features [d], float32, drawn towards the pooled ones by `PULL`.

    The moments are those of n own cases and `PULL` cases with the pooled mean and variance; labels are not read.
    """
    pooled_mean, pooled_scale = here.moments
    values = here.site.values.astype(np.float64)
    total = len(values) + PULL
    mean = (values.sum(axis=0) + PULL * pooled_mean) / total
    square = ((values - mean) ** 2).sum(axis=0) + PULL * (pooled_scale**2 + (pooled_mean - mean) ** 2)
    return as_float32({"mean": mean, "scale": np.sqrt(square / total)})


def _normalised_loss(arrays: Mapping[str, "Tensor"], inputs: "Tensor", label: "Tensor") -> "Tensor":
    return network_loss(arrays, inputs * (1.0 + arrays["norm.gain"]) + arrays["norm.shift"], label)


def train_with_norm(here: LocalRound) -> RoundResult:
    """Trains the network on features normalised by the hospital's own moments and by an affine map of its own."""
    inputs = standardised(here.site.values, own_moments(here))
    passes = epochs(inputs, here.site.label, _normalised_loss, here.training, rng=here.order(0))
    fitted = descend({**_only(here.sent, NAMES), **here.kept}, passes, here.training)
    return RoundResult(_only(fitted.arrays, NAMES), _only(fitted.arrays, NORM), fitted.metrics)


def network_with_norm(here: LocalRound) -> OwnModel:
    """Returns the shared network, the hospital's affine map folded into the hidden layer."""
    weight, kept = here.sent["body.weight"], here.kept
    folded = {
        "body.bias": here.sent["body.bias"] + weight @ kept["norm.shift"],
        "body.weight": weight * (1.0 + kept["norm.gain"]),
    }
    return _network(here, {**here.sent, **folded, **own_moments(here)}), {}


def _network(here: LocalRound, arrays: Arrays) -> Network:
    whole = as_float32(_only(arrays, (*NAMES, "mean", "scale")))
    whole["head.bias"] = whole["head.bias"] - here.prior.astype(np.float32)
    return Network(whole, here.seen, here.key.classes, here.key.fingerprint)


def _only(arrays: Arrays, names: Iterable[str]) -> dict[str, Array]:
    return {name: arrays[name] for name in names}


@dataclass(frozen=True)
class PartPersonal(Personal):
    """A personal method on the small network."""

    #: Arrays that are averaged.
    averaged: ClassVar[tuple[str, ...]] = BODY

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Personal."""
        return _only(start_of(study), self.averaged)


@final
@dataclass(frozen=True)
class FedPer(PartPersonal):
    """Body averaged, head kept; both trained together (Arivazhagan et al., 2019, arXiv:1912.00818)."""

    word: ClassVar[str] = "fedper"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedper-3"
    summary: ClassVar[str] = "personal: the small network's body is averaged, its head stays at the hospital"


@final
@dataclass(frozen=True)
class FedRep(PartPersonal):
    """Body averaged, head kept; in each round first the head, then the body (Collins et al., ICML 2021)."""

    word: ClassVar[str] = "fedrep"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedrep-3"
    summary: ClassVar[str] = "personal: as fedper, but each round trains the head first and then the body"


@final
@dataclass(frozen=True)
class FedBN(PartPersonal):
    """Everything averaged but the normalisation of the features (Li et al., ICLR 2021)."""

    word: ClassVar[str] = "fedbn"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedbn-3"
    summary: ClassVar[str] = "personal: each hospital normalises the features by itself; the network is averaged"
    averaged: ClassVar[tuple[str, ...]] = NAMES


def _kept_head(turns: Turns) -> Callable[[LocalRound], RoundResult]:
    return partial(train_head_apart, turns=turns)


METHODS: tuple[type[Method], ...] = (FedPer, FedRep, FedBN)
TASKS: Mapping[str, Task] = {
    **personal_tasks("fedper", own_network, _kept_head((NAMES,)), zero_head, joins_late=False),
    **personal_tasks("fedrep", refitted_network, _kept_head((HEAD, BODY)), zero_head, joins_late=False),
    **personal_tasks("fedbn", network_with_norm, train_with_norm, identity_norm),
}
