"""The inner loop of MAML at a hospital: a few gradient steps on the support cases of an episode, or on all cases."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medtl_core.federation.hospitals import Value
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training
from medtl_core.methods.episodes import EpisodeLoss, Side, episodic_sgd
from medtl_core.methods.local_sgd import descend
from medtl_core.methods.models.network import HEAD, NAMES, forward, standardised
from medtl_core.values import Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Step of plain gradient descent.
INNER_RATE = 0.2
#: Tasks a hospital takes a meta-gradient of in one round, and the step it takes for each, as flat values.
OUTER: Mapping[str, Value] = {"tasks": 20, "outer-rate": 0.1}


@dataclass(frozen=True)
class Inner:
    """The inner loop: steps on the support cases, the rate of each, and the arrays that move (`HEAD` makes it ANIL)."""

    steps: int = 3
    rate: float = INNER_RATE
    names: tuple[str, ...] = NAMES

    @classmethod
    def of(cls, config: Config) -> "Inner":
        """Reads the loop from a message's config, as `config` writes it."""
        return cls(int(config["steps"]), float(config["inner-rate"]), HEAD if config["head-only"] else NAMES)

    def config(self) -> dict[str, Value]:
        """Returns the loop as flat values; the meta-gradient goes through the steps."""
        head_only = self.names == HEAD
        return {"steps": self.steps, "inner-rate": self.rate, "head-only": head_only, "second-order": True}


def adapted(
    arrays: Mapping[str, "Tensor"], side: Side, inner: Inner, columns: "Tensor | None" = None
) -> dict[str, "Tensor"]:
    """Returns the arrays after the inner loop: w <- w - rate grad L(w; side), the graph kept.

    Labels are positions among the `columns` [N], the logits that take part; None = all.
    """
    import torch

    current = dict(arrays)
    for _ in range(inner.steps):
        moved = [current[name] for name in inner.names]
        slopes = torch.autograd.grad(_loss(current, side, columns), moved, create_graph=True)
        steps = zip(inner.names, moved, slopes, strict=True)
        current |= {name: array - inner.rate * slope for name, array, slope in steps}
    return current


def _loss(arrays: Mapping[str, "Tensor"], side: Side, columns: "Tensor | None") -> "Tensor":
    from torch.nn.functional import cross_entropy

    logits = forward(arrays, side[0])
    return cross_entropy(logits if columns is None else logits[:, columns], side[1])


def _meta_loss(config: Config) -> EpisodeLoss:
    inner = Inner.of(config)

    def loss(arrays: Mapping[str, "Tensor"], support: Side, query: Side, classes: "Tensor") -> "Tensor":
        return _loss(adapted(arrays, support, inner, classes), query, classes)

    return loss


def gradient_step(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One step of gradient descent on all of a hospital's cases, each weighted by its class (`weight` [C]).

    The mean over hospitals, each counting by its cases, is the same step on the pooled cases.
    """
    import torch
    from torch.nn.functional import cross_entropy

    inputs, label = torch.from_numpy(standardised(site.values, arrays)), torch.from_numpy(site.label)
    weight = torch.from_numpy(np.asarray(arrays["weight"], np.float32))[label]

    def cost(current: Mapping[str, "Tensor"]) -> "Tensor":
        return (weight * cross_entropy(forward(current, inputs), label, reduction="none")).mean()

    inner = Inner.of(config)
    training = Training(learning_rate=inner.rate, weight_decay=0.0)
    moved = descend({name: arrays[name] for name in NAMES}, [[(cost, 1)]], training, inner.names)
    return Released(Update(moved.arrays), metrics={"loss-before": moved.loss_before})


TASKS = {
    "fit_meta": episodic_sgd("meta", NAMES, _meta_loss, count="tasks", rate="outer-rate"),
    "gradient_step": gradient_step,
}
