"""Personal parts of the small network: which of its arrays are averaged, and which stay at the hospital.

FedPer, FedRep and FedBABU share the hidden layer and keep the head; FedBN shares both and keeps the normalisation.
"""

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from medtl_core.calibrate import log_prior
from medtl_core.methods.method import Method
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Task
from medtl_core.rng import stream
from medtl_core.transfer.keep import ROUNDS, Opening, Personal, tasks_of
from medtl_core.transfer.network import (
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
from medtl_core.transfer.resident import FLOOR, Finished, Step, Trainee, Visit
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Passes of FedBABU's local fine-tuning of the head, once, after the rounds.
TUNING = 20

#: Own cases that weigh as much as the pooled moments in FedBN's normalisation; one case alone has no spread.
PULL = 10.0

#: FedBN's own affine normalisation: each feature is multiplied by 1 + gain and raised by shift.
NORM = ("norm.gain", "norm.shift")


@dataclass(frozen=True)
class Part(Trainee, ABC):
    """A hospital that trains parts of the network in turn, shares the body and keeps the head.

    Attributes:
        turns: names trained one after the other, each for the recipe's passes.
    """

    lateness: ClassVar[bool] = False

    turns: tuple[tuple[str, ...], ...]

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """See Resident."""
        head = np.zeros((visit.site.classes, len(visit.arrays["body.bias"])), np.float32)
        return {"head.weight": head, "head.bias": head[:, 0].copy()}

    def train(self, visit: Visit, kept: Arrays) -> Step:
        """See Trainee."""
        done = _in_turn(visit, self.network(visit, kept), self.turns)
        return Step(_only(done.arrays, BODY), _only(done.arrays, kept), _losses(done))

    def network(self, visit: Visit, kept: Arrays) -> dict[str, Array]:
        """Returns the shared body under the hospital's head."""
        return {**_only(visit.arrays, BODY), **kept}


@final
@dataclass(frozen=True)
class PerPart(Part):
    """FedPer's hospital: what it kept is its head."""

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        return Finished(_network(visit, self.network(visit, kept)))


@final
@dataclass(frozen=True)
class RepPart(Part):
    """FedRep's hospital: after the rounds the head is fitted once more, to the last shared body."""

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        done = _in_turn(visit, self.network(visit, kept), (HEAD,))
        return Finished(_network(visit, done.arrays), _losses(done))


@final
@dataclass(frozen=True)
class BabuPart(Part):
    """FedBABU's hospital: it keeps nothing between rounds; its head is the agreed random one until the end."""

    lateness: ClassVar[bool] = True

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """See Resident."""
        return {}

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        recipe = replace(Recipe.of(visit.config), epochs=TUNING)
        done = _in_turn(visit, self.network(visit, kept), (HEAD,), recipe)
        return Finished(_network(visit, done.arrays), _losses(done))

    def network(self, visit: Visit, kept: Arrays) -> dict[str, Array]:
        """Returns the shared body under the head all share without sending it: unit rows from the run's seed."""
        hidden = len(visit.arrays["body.bias"])
        rows = stream(visit.site.seed, "fedbabu", "head").standard_normal((visit.site.classes, hidden))
        weight = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        head = {"head.weight": weight, "head.bias": np.zeros(visit.site.classes, np.float32)}
        return {**_only(visit.arrays, BODY), **head}


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
class FedBabu(NetworkPart):
    """Only the body is trained, under an agreed random head; then a head is tuned locally (Oh et al., ICLR 2022)."""

    word: ClassVar[str] = "fedbabu"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedbabu-3"
    summary: ClassVar[str] = "personal: only the body is trained together; each hospital then tunes a head of its own"


@final
@dataclass(frozen=True)
class FedBN(NetworkPart):
    """Everything averaged but the normalisation of the features (Li et al., ICLR 2021)."""

    word: ClassVar[str] = "fedbn"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedbn-3"
    summary: ClassVar[str] = "personal: each hospital normalises the features by itself; the network is averaged"
    averaged: ClassVar[tuple[str, ...]] = NAMES


def _in_turn(visit: Visit, arrays: Arrays, turns: tuple[tuple[str, ...], ...], recipe: Recipe | None = None) -> Trained:
    """Trains parts of the network one after the other; the loss before is that of the first turn."""
    inputs = standardised(visit.site.values, visit.arrays["mean"], visit.arrays["scale"])
    chosen = recipe or Recipe.of(visit.config)
    before = 0.0
    done = Trained(dict(arrays), 0.0, 0.0)
    for number, names in enumerate(turns):
        done = fit(done.arrays, inputs, visit.site.label, chosen, rng=_order(visit, number), train=names)
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


METHODS: tuple[type[Method], ...] = (FedPer, FedRep, FedBabu, FedBN)
TASKS: Mapping[str, Task] = {
    **tasks_of("fedper", PerPart((NAMES,))),
    **tasks_of("fedrep", RepPart((HEAD, BODY))),
    **tasks_of("fedbabu", BabuPart((BODY,))),
    **tasks_of("fedbn", NormPart()),
}
