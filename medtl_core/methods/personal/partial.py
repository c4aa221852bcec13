"""Personal methods on the small network: some of its arrays are averaged, the others stay at the hospital."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

import numpy as np

from medtl_core.federation.rounds import as_float32
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Task
from medtl_core.heads.linear import Training
from medtl_core.methods.local_sgd import Fitted, descend, epochs
from medtl_core.methods.models.network import BODY, HEAD, NAMES, Network, network_loss, standardised
from medtl_core.methods.network import start_of
from medtl_core.methods.personal.client import LocalRound, OwnModel, RoundResult, personal_tasks
from medtl_core.methods.personal.server import Personal
from medtl_core.values import Array


class PartPersonal(Personal):
    """A personal method on the small network."""

    #: Arrays that are averaged.
    averaged: ClassVar[tuple[str, ...]] = BODY

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Personal."""
        return only(start_of(study), self.averaged)


def only(arrays: Arrays, names: Iterable[str]) -> dict[str, Array]:
    """Returns some of the arrays."""
    return {name: arrays[name] for name in names}


def own_network(here: LocalRound, arrays: Arrays) -> Network:
    """Returns the small network of these arrays and moments as the hospital's model."""
    whole = as_float32(only(arrays, (*NAMES, "mean", "scale")))
    return Network(whole, here.seen, here.key.classes, here.key.fingerprint)


def kept_head_tasks(word: str, turns: tuple[tuple[str, ...], ...], *, refit: bool = False) -> dict[str, Task]:
    """Returns the tasks of a method that shares the body and keeps the head.

    Args:
        word: see `personal_tasks`.
        turns: names of the arrays that are trained one after the other in a round, each for all passes.
        refit: whether the head is fitted once more to the last shared body.
    """

    def begin(here: LocalRound) -> dict[str, Array]:
        weight = np.zeros((here.site.classes, len(here.sent["body.bias"])), np.float32)
        return {"head.weight": weight, "head.bias": weight[:, 0].copy()}

    def train(here: LocalRound) -> RoundResult:
        fitted = _in_turn(here, turns)
        return only(fitted.arrays, BODY), only(fitted.arrays, HEAD), fitted.metrics

    def finish(here: LocalRound) -> OwnModel:
        fitted = _in_turn(here, (HEAD,)) if refit else None
        head = fitted.arrays if fitted else here.kept
        return own_network(here, {**here.sent, **only(head, HEAD)}), fitted.metrics if fitted else {}

    return personal_tasks(word, finish, train, begin, joins_late=False)


def _in_turn(here: LocalRound, turns: Iterable[tuple[str, ...]]) -> Fitted:
    """Trains parts of the network one after the other; the loss before is that of the first turn."""
    inputs = standardised(here.site.values, here.sent)
    fitted = first = Fitted({**only(here.sent, BODY), **here.kept})
    for number, names in enumerate(turns):
        passes = epochs(inputs, here.site.label, network_loss, Training.of(here.config), rng=here.order(number))
        fitted = descend(fitted.arrays, passes, Training.of(here.config), names)
        first = fitted if number == 0 else first
    return replace(fitted, loss_before=first.loss_before)
