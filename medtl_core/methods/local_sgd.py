"""Local training of named arrays at a hospital: plain gradient descent, a step for every batch or episode.

`local_sgd` makes the hospital's task of a method from what its steps minimise. torch is read when a task runs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DivergedError
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.linear import Training, batches
from medtl_core.rng import stream
from medtl_core.values import Array, Released, Update

if TYPE_CHECKING:
    from torch import Tensor

#: Current arrays -> what a step minimises, a scalar in nats.
Cost = Callable[[Mapping[str, "Tensor"]], "Tensor"]
#: One pass over the cases, or one episode: the cost of each step and the cases behind it.
Pass = Iterable[tuple[Cost, int]]
#: Site, arrays and flat values of a message, and the round's generator -> the passes of the round.
Passes = Callable[[SiteData, Arrays, Config, np.random.Generator], Iterable[Pass]]
#: Current arrays, inputs [n, d] and labels [n] of a batch -> its mean loss.
Loss = Callable[[Mapping[str, "Tensor"], "Tensor", "Tensor"], "Tensor"]


@dataclass(frozen=True)
class Fitted:
    """Arrays after local training, float32 by name, and the mean loss over the first and the last pass."""

    arrays: dict[str, Array]
    loss_before: float = 0.0
    loss_after: float = 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The losses as they ride along with a reply."""
        return {"loss-before": self.loss_before, "loss-after": self.loss_after}


def descend(arrays: Arrays, passes: Iterable[Pass], training: Training, names: Iterable[str] = ()) -> Fitted:
    """Returns the arrays after w <- w - rate (gradient + decay w + proximal (w - start)) for every step, in float32.

    Only the arrays called `names` move; none = all of them.

    Raises:
        DivergedError: the training diverged; the hospital sits out this round.
    """
    import torch

    current = {name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()}
    moving = [current[name].requires_grad_() for name in names or current]
    start = [array.detach().clone() for array in moving]
    losses: list[float] = []
    for each in passes:
        seen, cases = 0.0, 0
        for cost, count in each:
            loss = cost(current)
            slopes = torch.autograd.grad(loss, moving)
            seen, cases = seen + float(loss.detach()) * count, cases + count
            with torch.no_grad():
                for array, slope, first in zip(moving, slopes, start, strict=True):
                    pull = training.weight_decay * array + training.proximal * (array - first)
                    array -= training.learning_rate * (slope + pull)
        losses.append(seen / max(cases, 1))
    if not all(bool(torch.isfinite(array).all()) for array in moving):
        raise DivergedError("local training diverged (an array is not finite); lower the learning rate")
    trained = {name: array.detach().numpy() for name, array in current.items()}
    return Fitted(trained, losses[0], losses[-1]) if losses else Fitted(trained)


def epochs(
    inputs: NDArray[np.float32], label: NDArray[np.int64], loss: Loss, training: Training, *, rng: np.random.Generator
) -> Iterator[Pass]:
    """Yields the passes over cases [n, d] with labels [n] in batches, each in a random order."""
    import torch

    features, target = torch.from_numpy(inputs), torch.from_numpy(label)

    def cost(rows: "Tensor") -> Cost:
        return lambda arrays: loss(arrays, features[rows], target[rows])

    for _ in range(training.epochs):
        yield ((cost(torch.from_numpy(rows)), len(rows)) for rows in batches(len(label), training.batch_size, rng=rng))


def local_sgd(
    word: str, names: Iterable[str], passes: Passes, training: Callable[[Config], Training] = Training.of,
    *, metrics: bool = True,
) -> Task:  # fmt: skip
    """Returns the hospital's task of a method: a round of local training.

    Args:
        word: names the stream that orders the cases; it is part of every result.
        names: of the arrays that are read from the message, trained and sent back.
        passes: what is minimised.
        training: reads rate, decay and proximal term from the message.
        metrics: whether the losses ride along.
    """

    def fit(site: SiteData, arrays: Arrays, config: Config) -> Released:
        rng = stream(site.seed, word, site.name, int(config["round"]))
        own = {name: arrays[name] for name in names}
        fitted = descend(own, passes(site, arrays, config, rng), training(config))
        return Released(Update(fitted.arrays), metrics=fitted.metrics if metrics else {})

    return fit
