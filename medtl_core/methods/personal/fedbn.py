"""FedBN: the network is averaged, the normalisation of the features stays at the hospital (Li et al., ICLR 2021)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medtl_core.federation.rounds import ROUNDS, as_float32
from medtl_core.heads.linear import Training
from medtl_core.methods.local_sgd import descend, epochs
from medtl_core.methods.models.network import NAMES, network_loss, standardised
from medtl_core.methods.personal.client import LocalRound, OwnModel, RoundResult, personal_tasks
from medtl_core.methods.personal.partial import PartPersonal, only, own_network
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Own cases that weigh as much as the pooled moments; one case alone has no spread.
PULL = 10.0

#: The hospital's affine normalisation: each feature is multiplied by 1 + gain and raised by shift.
NORM = ("norm.gain", "norm.shift")


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


def train_with_norm(here: LocalRound) -> RoundResult:
    """Trains the network on features normalised by the hospital's own moments and by an affine map of its own."""

    def loss(arrays: Mapping[str, "Tensor"], inputs: "Tensor", label: "Tensor") -> "Tensor":
        return network_loss(arrays, inputs * (1.0 + arrays["norm.gain"]) + arrays["norm.shift"], label)

    inputs = standardised(here.site.values, own_moments(here))
    passes = epochs(inputs, here.site.label, loss, Training.of(here.config), rng=here.order(0))
    fitted = descend({**only(here.sent, NAMES), **here.kept}, passes, Training.of(here.config))
    return only(fitted.arrays, NAMES), only(fitted.arrays, NORM), fitted.metrics


def network_with_norm(here: LocalRound) -> OwnModel:
    """Returns the shared network, the hospital's affine map folded into the hidden layer."""
    weight, kept = here.sent["body.weight"], here.kept
    folded = {
        "body.bias": here.sent["body.bias"] + weight @ kept["norm.shift"],
        "body.weight": weight * (1.0 + kept["norm.gain"]),
    }
    return own_network(here, {**here.sent, **folded, **own_moments(here)}), {}


class FedBN(PartPersonal):
    """Personal: each hospital normalises the features by itself; the network is averaged."""

    syntax = f"fedbn{ROUNDS}"
    example = "fedbn-3"
    averaged = NAMES


METHODS = (FedBN,)
TASKS = personal_tasks("fedbn", network_with_norm, train_with_norm, identity_norm)
