"""Personal parts of the small network: which of its arrays are averaged, and which stay at the hospital.

FedPer and FedRep share the hidden layer and keep the head; FedBN shares both and keeps the normalisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from medtl_core.evaluation.calibration import log_prior
from medtl_core.federation.method import Method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Task
from medtl_core.methods.network import (
    BODY,
    HEAD,
    NAMES,
    Network,
    Recipe,
    Trained,
    fit,
    forward,
    standardised,
    start_of,
)
from medtl_core.methods.personal.client import FLOOR, Finished, Step, Trainee, Visit
from medtl_core.methods.personal.server import ROUNDS, Opening, Personal, tasks_of
from medtl_core.rng import stream
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Own cases that weigh as much as the pooled moments in FedBN's normalisation; one case alone has no spread.
PULL = 10.0

#: FedBN's own affine normalisation: each feature is multiplied by 1 + gain and raised by shift.
NORM = ("norm.gain", "norm.shift")


@final
@dataclass(frozen=True)
class HeadPart(Trainee):
    """A hospital that trains parts of the network in turn, shares the body and keeps the head.

    Attributes:
        turns: names trained one after the other, each for the recipe's passes.
        refit: whether the head is fitted once more after the rounds, to the last shared body.
    """

    lateness: ClassVar[bool] = False

    turns: tuple[tuple[str, ...], ...]
    refit: bool = False

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """See Resident."""
        head = np.zeros((visit.site.classes, len(visit.arrays["body.bias"])), np.float32)
        return {"head.weight": head, "head.bias": head[:, 0].copy()}

    def train(self, visit: Visit, kept: Arrays) -> Step:
        """See Trainee."""
        done = _in_turn(visit, {**_only(visit.arrays, BODY), **kept}, self.turns)
        return Step(_only(done.arrays, BODY), _only(done.arrays, kept), _losses(done))

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        network = {**_only(visit.arrays, BODY), **kept}
        if not self.refit:
            return Finished(_network(visit, network))
        done = _in_turn(visit, network, (HEAD,))
        return Finished(_network(visit, done.arrays), _losses(done))


@final
@dataclass(frozen=True)
class NormPart(Trainee):
    """FedBN's hospital: its features are normalised by its own moments and by an affine map of its own."""

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """See Resident."""
        return {name: np.zeros(visit.site.values.shape[1], np.float32) for name in NORM}

    def train(self, visit: Visit, kept: Arrays) -> Step:
        """See Resident."""
        mean, scale = own_moments(visit)
        recipe, rng = Recipe.of(visit.config), _order(visit, 0)
        inputs = standardised(visit.site.values, mean, scale)
        start = {**_only(visit.arrays, NAMES), **kept}
        done = fit(start, inputs, visit.site.label, recipe, rng=rng, train=(*NAMES, *NORM), answer=_normalised)
        return Step(_only(done.arrays, NAMES), _only(done.arrays, NORM), _losses(done))

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident: the affine map is folded into the hidden layer."""
        mean, scale = own_moments(visit)
        shared = _only(visit.arrays, NAMES)
        weight = shared["body.weight"]
        shared["body.bias"] = shared["body.bias"] + weight @ kept["norm.shift"]
        shared["body.weight"] = weight * (1.0 + kept["norm.gain"])
        return Finished(_network(visit, {**shared, "mean": mean, "scale": scale}))


def own_moments(visit: Visit) -> tuple[Array, Array]:
    """Returns this hospital's mean and scale of the features [d], float32, drawn towards the pooled ones by `PULL`.

    The moments are those of n own cases and `PULL` cases with the pooled mean and variance; labels are not read.
    """
    pooled_mean, pooled_scale = (visit.arrays[name].astype(np.float64) for name in ("mean", "scale"))
    values = visit.site.values.astype(np.float64)
    total = len(values) + PULL
    mean = (values.sum(axis=0) + PULL * pooled_mean) / total
    square = ((values - mean) ** 2).sum(axis=0) + PULL * (pooled_scale**2 + (pooled_mean - mean) ** 2)
    return mean.astype(np.float32), np.sqrt(square / total).astype(np.float32)


@dataclass(frozen=True)
class NetworkPart(Personal):
    """A personal method on the small network."""

    #: Arrays that are averaged.
    averaged: ClassVar[tuple[str, ...]] = BODY

    def opening(self, study: Study) -> Opening:
        """See Personal."""
        return Opening(_only(start_of(study), self.averaged))


@final
@dataclass(frozen=True)
class FedPer(NetworkPart):
    """Body averaged, head kept; both trained together (Arivazhagan et al., 2019, arXiv:1912.00818)."""

    word: ClassVar[str] = "fedper"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedper-3"
    summary: ClassVar[str] = "personal: the small network's body is averaged, its head stays at the hospital"


@final
@dataclass(frozen=True)
class FedRep(NetworkPart):
    """Body averaged, head kept; in each round first the head, then the body (Collins et al., ICML 2021)."""

    word: ClassVar[str] = "fedrep"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedrep-3"
    summary: ClassVar[str] = "personal: as fedper, but each round trains the head first and then the body"


@final
@dataclass(frozen=True)
class FedBN(NetworkPart):
    """Everything averaged but the normalisation of the features (Li et al., ICLR 2021)."""

    word: ClassVar[str] = "fedbn"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedbn-3"
    summary: ClassVar[str] = "personal: each hospital normalises the features by itself; the network is averaged"
    averaged: ClassVar[tuple[str, ...]] = NAMES


def _in_turn(visit: Visit, arrays: Arrays, turns: tuple[tuple[str, ...], ...]) -> Trained:
    """Trains parts of the network one after the other; the loss before is that of the first turn."""
    inputs = standardised(visit.site.values, visit.arrays["mean"], visit.arrays["scale"])
    recipe, before = Recipe.of(visit.config), 0.0
    done = Trained(dict(arrays), 0.0, 0.0)
    for number, names in enumerate(turns):
        done = fit(done.arrays, inputs, visit.site.label, recipe, rng=_order(visit, number), train=names)
        before = before if number else done.loss_before
    return replace(done, loss_before=before)


def _order(visit: Visit, turn: int) -> np.random.Generator:
    """The batch order of a turn: of the seed, the hospital and the round, so that a repeated request repeats it."""
    return stream(visit.site.seed, visit.identity.method, visit.site.name, visit.round, turn)


def _normalised(arrays: Mapping[str, "Tensor"], inputs: "Tensor") -> "Tensor":
    return forward(arrays, inputs * (1.0 + arrays["norm.gain"]) + arrays["norm.shift"])


def _network(visit: Visit, arrays: Arrays) -> Network:
    own = {**_only(visit.arrays, ("mean", "scale")), **arrays}
    own = {name: np.asarray(own[name], np.float32) for name in (*NAMES, "mean", "scale")}
    if visit.config.get("adjusted"):
        own["head.bias"] = own["head.bias"] - log_prior(visit.counts, floor=FLOOR).astype(np.float32)
    return Network(own, visit.seen, visit.identity.classes, visit.identity.fingerprint)


def _only(arrays: Arrays, names: Mapping[str, Array] | tuple[str, ...]) -> dict[str, Array]:
    return {name: arrays[name] for name in names}


def _losses(done: Trained) -> dict[str, float]:
    return {"loss-before": done.loss_before, "loss-after": done.loss_after}


METHODS: tuple[type[Method], ...] = (FedPer, FedRep, FedBN)
TASKS: Mapping[str, Task] = {
    **tasks_of("fedper", HeadPart((NAMES,))),
    **tasks_of("fedrep", HeadPart((HEAD, BODY), refit=True)),
    **tasks_of("fedbn", NormPart()),
}
