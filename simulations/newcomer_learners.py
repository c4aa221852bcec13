"""What a newcomer can do with a few labelled cases: the learners that `simulations.newcomer` compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.methods.adaptation import Support, adapt_metric
from medtl_core.methods.inner_loop import INNER_RATE, Inner, adapted
from medtl_core.methods.local import logistic
from medtl_core.methods.models.metric import Metric, unit
from medtl_core.methods.models.network import HEAD, NAMES, Network, embedded, standardised
from medtl_core.values import ABSENT

Values = NDArray[np.float32]
Logits = NDArray[np.float64]

#: Inner steps at the newcomer: more than in meta-training, as is usual (Finn et al., 2017, section 5.1).
_STEPS = 10


@dataclass(frozen=True)
class Newcomer:
    """A hospital that comes to a federation with labelled cases; what several learners need of it is obtained once."""

    study: Study
    support: Support
    rounds: int

    def federated(self, name: str) -> Any:
        """Returns the federation's classifier by a method's name."""
        return self.study.outcome(find_method(name)).heads[""]

    @property
    def metric(self) -> Metric:
        """The federation's metric."""
        found: Metric = self.federated("metric")
        return found


def metric_default(newcomer: Newcomer, values: Values) -> Logits:
    """What `medtl adapt` gives: distance by the rule, known classes drawn to the federation's means."""
    return adapt_metric(newcomer.metric, newcomer.support).logits(values)


def metric_own(newcomer: Newcomer, values: Values) -> Logits:
    """The federation's metric, the newcomer's class means alone, distance by the rule."""
    return adapt_metric(newcomer.metric, newcomer.support, mean_cases=0.0).logits(values)


def plain_cl2n(newcomer: Newcomer, values: Values) -> Logits:
    """SimpleShot: standardised by the federation, unit length, nearest mean; no whitening."""
    metric = newcomer.metric
    return _nearest(
        unit(metric.standardised(newcomer.support.values)), newcomer.support, unit(metric.standardised(values))
    )


def protonet(newcomer: Newcomer, values: Values) -> Logits:
    """The embedding trained on episodes across the hospitals; prototypes of the newcomer's cases alone."""
    network: Network = newcomer.federated(f"protonet-{newcomer.rounds}")
    own, queries = (embedded(cases, network.arrays) for cases in (newcomer.support.values, values))
    return _nearest(own, newcomer.support, queries)


def local_logistic(newcomer: Newcomer, values: Values) -> Logits:
    """Class-balanced logistic regression on the newcomer's cases alone, standardised by the federation."""
    metric, support = newcomer.metric, newcomer.support
    inputs = with_bias(support.values, metric.mean, metric.scale)
    head = to_raw(logistic(inputs, support.label, len(support.classes)), metric.mean, metric.scale)
    return values.astype(np.float64) @ head[:, :-1].T + head[:, -1]


def anil(newcomer: Newcomer, values: Values) -> Logits:
    """ANIL's network after inner steps on the newcomer's cases; a class new to it starts from a zero row."""
    import torch

    network: Network = newcomer.federated(f"anil-{newcomer.rounds}")
    support = newcomer.support
    arrays = {name: torch.tensor(network.arrays[name]) for name in NAMES}
    rows = [network.classes.index(name) if name in network.classes else -1 for name in support.classes]
    for name in HEAD:
        known, none = arrays[name], torch.zeros_like(arrays[name][0])
        arrays[name] = torch.stack([known[row] if row >= 0 else none for row in rows])
    start = {name: array.requires_grad_() for name, array in arrays.items()}
    inputs = standardised(support.values, network.arrays)
    side = torch.from_numpy(inputs), torch.from_numpy(support.label)
    done = adapted(start, side, Inner(_STEPS, INNER_RATE, HEAD))
    weight, bias = (done[name].detach().numpy().astype(np.float64) for name in ("head.weight", "head.bias"))
    return np.asarray(embedded(values, network.arrays) @ weight.T + bias)


def _nearest(cases: NDArray[np.float64], support: Support, queries: NDArray[np.float64]) -> Logits:
    onehot = np.eye(len(support.classes))[support.label].T
    centres = (onehot @ cases) / np.maximum(support.counts, 1.0)[:, None]
    logits = 2.0 * queries @ centres.T - (centres**2).sum(axis=1)
    return np.asarray(np.where(support.counts > 0, logits, ABSENT))


Learner = Callable[[Newcomer, Values], Logits]

#: Shown name -> learner, in the order of the table.
LEARNERS: Mapping[str, Learner] = {
    "ProtoNet": protonet,
    "CL2N without whitening": plain_cl2n,
    "metric, the newcomer's means only": metric_own,
    "metric (`medtl adapt`)": metric_default,
    "local logistic": local_logistic,
    "ANIL": anil,
}
