"""The small trainable network on cached features that adversarial, meta and personal methods adapt.

Standardised features z pass one hidden layer, h = tanh(A z + a), and an affine head, W h + b. Its arrays have names, so
a method may average some and keep others. `network-R` is the plain method: federated averaging of all of it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.features.dataset import Material
from medtl_core.federation.hospitals import Value
from medtl_core.federation.method import Method
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.statistics import Float
from medtl_core.rng import stream
from medtl_core.values import ABSENT, Array, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Width of the hidden layer.
HIDDEN = 64
#: Arrays of the hidden layer ("body") and of the output layer ("head").
BODY, HEAD = ("body.bias", "body.weight"), ("head.bias", "head.weight")
NAMES = (*BODY, *HEAD)

#: Logits [n, C] of named arrays and inputs [n, d].
Answer = Callable[[Mapping[str, "Tensor"], "Tensor"], "Tensor"]


def initial(width: int, classes: int, *, rng: np.random.Generator, hidden: int = HIDDEN) -> dict[str, Array]:
    """Returns the arrays before training, float32: Glorot-uniform body (Glorot and Bengio 2010), zero head.

    Example:
        >>> sorted(initial(3, 2, rng=np.random.default_rng(0), hidden=4))
        ['body.bias', 'body.weight', 'head.bias', 'head.weight']
    """
    bound = np.sqrt(6.0 / (width + hidden))
    return {
        "body.weight": rng.uniform(-bound, bound, (hidden, width)).astype(np.float32),
        "body.bias": np.zeros(hidden, np.float32),
        "head.weight": np.zeros((classes, hidden), np.float32),
        "head.bias": np.zeros(classes, np.float32),
    }


def standardised(values: NDArray[np.floating[Any]], mean: Array, scale: Array) -> NDArray[np.float32]:
    """Returns features [n, d] as the network reads them, float32."""
    return ((np.asarray(values, np.float64) - mean) / scale).astype(np.float32)


def embed(arrays: Mapping[str, "Tensor"], inputs: "Tensor") -> "Tensor":
    """Returns the hidden layer [n, hidden] of standardised features [n, d]."""
    import torch

    return torch.tanh(inputs @ arrays["body.weight"].T + arrays["body.bias"])


def forward(arrays: Mapping[str, "Tensor"], inputs: "Tensor") -> "Tensor":
    """Returns logits [n, C] of standardised features [n, d]."""
    return embed(arrays, inputs) @ arrays["head.weight"].T + arrays["head.bias"]


@dataclass(frozen=True)
class Recipe:
    """How a hospital trains named arrays in one round.

    Attributes:
        epochs: passes over the cases.
        batch_size: cases a step.
        learning_rate: of plain gradient descent.
        weight_decay: L2 coefficient on everything trained.
        proximal: FedProx coefficient towards the round's start; 0 = off.
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 0.05
    weight_decay: float = 1e-3
    proximal: float = 0.0

    @classmethod
    def of(cls, config: Config) -> "Recipe":
        """Reads the recipe from a message's config, as `recipe_config` writes it."""
        return cls(
            int(config["epochs"]), int(config["batch-size"]), float(config["learning-rate"]),
            float(config["weight-decay"]), float(config.get("proximal", 0.0)),
        )  # fmt: skip


def recipe_config(study: Study) -> dict[str, Value]:
    """Returns the settings' local training as flat values for a message."""
    chosen = study.settings
    return {
        "epochs": chosen.local_epochs, "batch-size": chosen.batch_size, "learning-rate": chosen.learning_rate,
        "weight-decay": chosen.weight_decay,
    }  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """Arrays after local training, float32 by name, and the mean loss over the first and the last epoch."""

    arrays: dict[str, Array]
    loss_before: float
    loss_after: float


def fit(
    arrays: Arrays, inputs: NDArray[np.float32], label: NDArray[np.int64], recipe: Recipe, *,
    rng: np.random.Generator, train: tuple[str, ...] = NAMES, answer: Answer = forward,
) -> Trained:  # fmt: skip
    """Returns the arrays after one round of local training by gradient descent.

    Args:
        arrays: the network's arrays by name.
        inputs: standardised features [n, d].
        label: int [n].
        recipe: of the training.
        rng: of the batch order.
        train: names of the arrays to train; the others stay as they are.
        answer: logits of arrays and inputs; a method with further arrays brings its own.

    Raises:
        DataError: the training diverged; the hospital sits out this round.
    """
    import torch
    from torch.nn.functional import cross_entropy

    features, target = torch.from_numpy(inputs), torch.from_numpy(label)
    current = {name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()}
    trained = [current[name].requires_grad_() for name in train]
    start = [one.detach().clone() for one in trained]
    losses: list[float] = []
    for _ in range(recipe.epochs):
        seen = 0.0
        for batch in batches(len(label), recipe.batch_size, rng):
            rows = torch.from_numpy(batch)
            cost = cross_entropy(answer(current, features[rows]), target[rows])
            slopes = torch.autograd.grad(cost, trained)
            seen += float(cost.detach()) * len(batch)
            with torch.no_grad():
                for one, slope, first in zip(trained, slopes, start, strict=True):
                    pull = recipe.weight_decay * one + recipe.proximal * (one - first)
                    one -= recipe.learning_rate * (slope + pull)
        losses.append(seen / max(len(label), 1))
    done = {name: array.detach().numpy() for name, array in current.items()}
    if not all(np.isfinite(done[name]).all() for name in train):
        raise DataError("local training diverged (an array is not finite); lower the learning rate")
    return Trained(done, losses[0] if losses else 0.0, losses[-1] if losses else 0.0)


def batches(cases: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yields one pass over the cases in random order, as index arrays."""
    order = rng.permutation(cases)
    for first in range(0, cases, size):
        yield order[first : first + size]


def fit_network(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """One round of local training of the whole network; reads `mean`, `scale` and the arrays of `NAMES`."""
    inputs = standardised(site.values, arrays["mean"], arrays["scale"])
    rng = stream(site.seed, "network", site.name, int(config["round"]))
    done = fit({name: arrays[name] for name in NAMES}, inputs, site.label, Recipe.of(config), rng=rng)
    return Released(Update(done.arrays), metrics={"loss-before": done.loss_before, "loss-after": done.loss_after})


@final
@dataclass(frozen=True)
class Network(Model):
    """The trained network with the standardisation it expects.

    Attributes:
        arrays: `NAMES` and `mean`, `scale` [d], float32.
        seen: [C], above 0 for a class that any hospital has shown.
    """

    kind: ClassVar[str] = "network"
    AXES: ClassVar[Mapping[str, str]] = {
        "body.weight": "hd", "body.bias": "h", "head.weight": "ch", "head.bias": "c", "mean": "d", "scale": "d",
        "seen": "c",
    }  # fmt: skip

    arrays: Mapping[str, Array]
    seen: Array
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def embedded(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns the hidden layer [n, hidden], float64; no torch is needed."""
        inputs = standardised(values, self.arrays["mean"], self.arrays["scale"]).astype(np.float64)
        return np.asarray(np.tanh(inputs @ self.arrays["body.weight"].T + self.arrays["body.bias"]))

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        logits = self.embedded(values) @ self.arrays["head.weight"].T + self.arrays["head.bias"]
        return np.asarray(np.where(self.seen > 0, logits, ABSENT), np.float64)


def network_of(study: Study, arrays: Arrays, facts: Mapping[str, Any]) -> Network:
    """Returns trained arrays as a model of this study."""
    moments, problem = study.moments, study.problem
    trained = {name: np.asarray(arrays[name], np.float32) for name in NAMES}
    everything = {**trained, **moments.standardisation}
    return Network(everything, moments.counts > 0, problem.classes, problem.fingerprint, facts)


def start_of(study: Study) -> dict[str, Array]:
    """Returns the untrained network of this study, the same for every method of one seed."""
    rng = stream(study.settings.seed, "network", "initial")
    return initial(study.problem.width, len(study.problem.classes), rng=rng)


@final
@dataclass(frozen=True)
class NetworkMethod(Method):
    """Federated averaging of the small network (McMahan et al., AISTATS 2017).

    Attributes:
        rounds: of training.
    """

    syntax: ClassVar[str] = r"network-(?P<rounds>[1-9][0-9]{0,3})"
    example: ClassVar[str] = "network-3"
    summary: ClassVar[str] = "one hidden layer on the cached features, trained at hospitals and averaged"

    rounds: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        phase, fixed = f"fit-{self.name}", study.moments.standardisation
        exchange = Exchange("fit_network", phase, self.rounds, recipe_config(study), fixed)
        course = run_rounds(study.hospitals, exchange, start_of(study))
        facts = {"rounds": self.rounds}
        bill = {"moments": Share(), phase: Share()}
        return Outcome({"": network_of(study, course.last, facts)}, bill, 0.0, facts)


METHODS: tuple[type[Method], ...] = (NetworkMethod,)
TASKS: Mapping[str, Task] = {"fit_network": fit_network}
MODELS: tuple[type[Model], ...] = (Network,)
