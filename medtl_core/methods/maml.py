"""MAML across hospitals: a network that is good after a few gradient steps, and ANIL, which moves its head only.

Every hospital takes the meta-gradient of its own tasks, the server averages the networks. MAML: Finn et al., ICML 2017.
ANIL, whose inner loop moves the head only: Raghu et al., ICLR 2020.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from medtl_core.errors import DataError
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.linear import class_weights
from medtl_core.methods.episodes import Shape, sample
from medtl_core.methods.network import HEAD, NAMES, forward, network_of, standardised, start_of
from medtl_core.rng import stream
from medtl_core.values import Array, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Tasks a hospital takes a meta-gradient of in one round.
TASKS_A_ROUND = 20
#: Inner and outer step of plain gradient descent.
INNER_RATE, OUTER_RATE = 0.2, 0.1

Side = tuple["Tensor", "Tensor"]


@dataclass(frozen=True)
class Inner:
    """The inner loop.

    Attributes:
        steps: gradient steps on the support cases.
        rate: of each.
        names: arrays that move; `HEAD` makes it ANIL.
        second_order: whether the meta-gradient goes through the steps; without, they count as constants.
    """

    steps: int = 3
    rate: float = INNER_RATE
    names: tuple[str, ...] = NAMES
    second_order: bool = True

    @classmethod
    def of(cls, config: Config) -> "Inner":
        """Reads the loop from a message's config, as `config` writes it."""
        names = HEAD if config["head-only"] else NAMES
        return cls(int(config["steps"]), float(config["inner-rate"]), names, bool(config["second-order"]))

    def config(self) -> dict[str, Value]:
        """Returns the loop as flat values."""
        return {
            "steps": self.steps, "inner-rate": self.rate, "head-only": self.names == HEAD,
            "second-order": self.second_order,
        }  # fmt: skip


def adapted(
    arrays: Mapping[str, "Tensor"], side: Side, inner: Inner, columns: "Tensor | None" = None
) -> dict[str, "Tensor"]:
    """Returns the arrays after the inner loop: w <- w - rate grad L(w; side), the graph kept if second order.

    Args:
        arrays: tensors that require a gradient, by the names of `NAMES`.
        side: standardised features [n, d] and labels [n].
        inner: the loop.
        columns: int [N], the logits that take part; labels are positions in it. None = all.
    """
    import torch

    current = dict(arrays)
    for _ in range(inner.steps):
        cost = _loss(current, side, columns)
        moved = [current[name] for name in inner.names]
        slopes = torch.autograd.grad(cost, moved, create_graph=inner.second_order)
        fresh = {
            name: array - inner.rate * slope for name, array, slope in zip(inner.names, moved, slopes, strict=True)
        }
        current |= fresh
    return current


def meta_gradient(
    arrays: Mapping[str, Array], support: Side, query: Side, inner: Inner, columns: "Tensor | None" = None
) -> tuple[dict[str, "Tensor"], float]:
    """Returns the gradient, by every array, of the query loss after the inner loop, and that loss in nats.

    Args:
        arrays: by the names of `NAMES`; computed in their own precision.
        support: standardised features and labels for the inner loop.
        query: the same for the loss.
        inner: the loop.
        columns: logits that take part; None = all.
    """
    import torch

    start = {name: torch.tensor(np.asarray(arrays[name]), requires_grad=True) for name in NAMES}
    loss = _loss(adapted(start, support, inner, columns), query, columns)
    slopes = torch.autograd.grad(loss, list(start.values()))
    return dict(zip(start, slopes, strict=True)), float(loss.detach())


def fit_meta(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of meta-gradient steps at a hospital, one a task; reads `mean`, `scale` and the network."""
    import torch

    inner, rate = Inner.of(config), float(config["outer-rate"])
    inputs = torch.from_numpy(standardised(site.values, arrays["mean"], arrays["scale"]))
    rng = stream(site.seed, "meta", site.name, int(config["round"]))
    current: dict[str, Array] = {name: np.asarray(arrays[name], np.float32) for name in NAMES}
    losses = []
    for sides, columns in _tasks(site, inputs, config, rng):
        slopes, loss = meta_gradient(current, sides[0], sides[1], inner, columns)
        with np.errstate(over="ignore", invalid="ignore"):  # said once, below
            current = {name: array - rate * slopes[name].numpy() for name, array in current.items()}
        losses.append(loss)
    if not all(np.isfinite(array).all() for array in current.values()):
        raise DataError("meta-training diverged (an array is not finite); lower its rates")
    return Released(Update(current), metrics={"loss-before": losses[0], "loss-after": losses[-1]})


def gradient_step(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One step of gradient descent on all of a hospital's cases, each weighted by its class (`weight` [C]).

    The mean over hospitals, each counting by its cases, is the same step on the pooled cases.
    """
    import torch
    from torch.nn.functional import cross_entropy

    names = HEAD if config["head-only"] else NAMES
    current = {name: torch.tensor(np.asarray(arrays[name], np.float32), requires_grad=True) for name in NAMES}
    inputs = torch.from_numpy(standardised(site.values, arrays["mean"], arrays["scale"]))
    label = torch.from_numpy(site.label)
    weight = torch.from_numpy(np.asarray(arrays["weight"], np.float32))[label]
    cost = (weight * cross_entropy(forward(current, inputs), label, reduction="none")).mean()
    slopes = torch.autograd.grad(cost, [current[name] for name in names])
    moved = {
        name: current[name] - float(config["inner-rate"]) * slope for name, slope in zip(names, slopes, strict=True)
    }
    done = {name: array.detach().numpy() for name, array in {**current, **moved}.items()}
    return Released(Update(done), metrics={"loss-before": float(cost.detach())})


def _loss(arrays: Mapping[str, "Tensor"], side: Side, columns: "Tensor | None") -> "Tensor":
    import torch

    logits = forward(arrays, side[0])
    return torch.nn.functional.cross_entropy(logits if columns is None else logits[:, columns], side[1])


def _tasks(
    site: SiteData, inputs: "Tensor", config: Config, rng: np.random.Generator
) -> "Iterator[tuple[tuple[Side, Side], Tensor]]":
    """Yields the two sides of each task, an episode, and the logits that take part."""
    import torch

    for _ in range(int(config["tasks"])):
        task = sample(site.label, site.patients, Shape(int(config["ways"])), rng=rng)
        sides = [
            (inputs[torch.from_numpy(rows)], torch.from_numpy(way))
            for rows, way in zip((task.support, task.query), task.ways(site.label), strict=True)
        ]
        yield (sides[0], sides[1]), torch.from_numpy(task.classes)


def fixed_of(study: Study) -> dict[str, Array]:
    """Returns what travels untrained: `mean` and `scale` [d], and `weight` [C], under which all classes count alike."""
    moments = study.moments
    return {**moments.standardisation, "weight": class_weights(moments.counts).astype(np.float32)}


@final
@dataclass(frozen=True)
class Maml(Method):
    """Meta-training on episodes, then the inner loop on the cases of all hospitals together.

    Attributes:
        algorithm: "maml" or "anil".
        rounds: of meta-training.
        steps: of the inner loop.
        first: whether second derivatives are left out.
    """

    syntax: ClassVar[str] = (
        r"(?P<algorithm>maml|anil)-(?P<rounds>[1-9][0-9]{0,3})(?:-steps-(?P<steps>[1-5]))?(?P<first>-first-order)?"
    )
    example: ClassVar[str] = "anil-2"
    summary: ClassVar[str] = "a network meta-trained to learn from a few steps; the federation then takes them together"

    algorithm: str
    rounds: int
    first: bool
    steps: int = 3

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        names = HEAD if self.algorithm == "anil" else NAMES
        inner = Inner(self.steps, INNER_RATE, names, not self.first).config()
        phases, fixed = (f"fit-{self.name}", f"step-{self.name}"), fixed_of(study)
        config: dict[str, Value] = {
            **inner, "outer-rate": OUTER_RATE, "tasks": TASKS_A_ROUND, "ways": max(len(study.problem.classes), 2),
            "whole": False, "batch-size": study.settings.batch_size,  # read by hospitals of earlier versions
        }  # fmt: skip
        training = Exchange("fit_meta", phases[0], self.rounds, config, fixed)
        trained = run_rounds(study.hospitals, training, start_of(study)).last
        steps = Exchange("gradient_step", phases[1], self.steps, inner, fixed)
        facts = {"rounds": self.rounds, **inner}
        model = network_of(study, run_rounds(study.hospitals, steps, trained).last, facts)
        return Outcome({"": model}, dict.fromkeys(("moments", *phases), Share()), 0.0, facts)


METHODS: tuple[type[Method], ...] = (Maml,)
TASKS: Mapping[str, Task] = {"fit_meta": fit_meta, "gradient_step": gradient_step}
