"""How a source learns: a backbone with a new classifier, trained on one set of images with frozen norm layers."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medtl_core.backbones.backbone import Backbone
from medtl_core.config import Settings
from medtl_core.data.source import Source
from medtl_core.data.views import Pixels, normalised
from medtl_core.errors import ConfigError, RunError, not_negative, positive
from medtl_core.features.augment import augment_many, recipe_for
from medtl_core.features.dataset import Material
from medtl_core.heads.linear import batches, class_weights
from medtl_core.rng import stream
from medtl_core.values import Examples

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

#: Told (epoch, mean loss, held-out balanced accuracy) after each epoch.
Progress = Callable[[int, float, float | None], None]
#: The word for training every layer.
ALL = "all"
#: Images judged at a time.
_JUDGED = 32


@dataclass(frozen=True)
class Lesson:
    """How a source is made.

    Attributes:
        backbone: where it starts, e.g. "lite0".
        weights: file or folder; "" = where the record says.
        epochs: passes over the training cases.
        after: a tap: only what lies deeper than it is trained; "all" trains every layer.
        size: pixels a side; 0 = the backbone's own.
        batch_size: images a step.
        learning_rate: of AdamW at its highest; it rises over the first tenth of the steps and falls as a cosine.
        weight_decay: of AdamW.
        seed: of the classifier's first values, the order and the augmentation.
    """

    backbone: str = "lite0"
    weights: str = ""
    epochs: int = 5
    after: str = ALL
    size: int = 0
    batch_size: int = 32
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    seed: int = 0

    def __post_init__(self) -> None:
        positive(epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)
        not_negative(weight_decay=self.weight_decay)
        if self.size and self.size < 32:
            raise ConfigError(f"image-size={self.size} is too small; a backbone needs at least 32 pixels")


def train(
    network: "nn.Module", backbone: Backbone, source: Source, lesson: Lesson, progress: Progress
) -> list[dict[str, float | None]]:
    """Trains a network in place and returns one row an epoch.

    Its mode stays as it is; parameters that take no gradient stay as they are.

    Args:
        network: from normalised images [n, 3, s, s] to logits [n, C].
        backbone: how images are read.
        source: the cases; those of split "test" only judge.
        lesson: how.
        progress: told after each epoch.

    Raises:
        RunError: the loss left the finite numbers.
        DataError: an image cannot be decoded.
    """
    import torch

    size = lesson.size or backbone.size
    taught, test = (source.examples.take(rows) for rows in sides(source.examples).values())
    images, held = (Material(part, Settings(), ()).pixels(size) for part in (taught, test))
    recipe = recipe_for(source.entry.modality, source.entry.views)
    weight = _class_weights(taught["label"], len(source.examples.task.classes))
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(free, lesson.learning_rate, weight_decay=lesson.weight_decay)
    steps = lesson.epochs * -(-len(taught) // lesson.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, steps))
    history: list[dict[str, float | None]] = []
    with _repeatable():
        for epoch in range(1, lesson.epochs + 1):
            rng, total = stream(lesson.seed, "pretrain", epoch), 0.0
            for rows in batches(len(taught), lesson.batch_size, rng=rng):
                shown = _normalised(augment_many(images[rows], recipe, rng=rng), backbone)
                total += len(rows) * _step(network, optimiser, (shown, taught["label"][rows], weight))
                schedule.step()
            loss = total / len(taught)
            if not np.isfinite(loss):
                raise RunError(f"training left the finite numbers in epoch {epoch}; lower --learning-rate")
            accuracy = _judged(network, backbone, held, test["label"])
            history.append({"epoch": epoch, "loss": loss, "held_out_balanced_accuracy": accuracy})
            progress(epoch, loss, accuracy)
    return history


def _step(
    network: "nn.Module", optimiser: "torch.optim.Optimizer", batch: tuple["Tensor", NDArray[np.int64], "Tensor"]
) -> float:
    """One step on (images, labels, class weights); returns the loss before it."""
    import torch
    from torch.nn.functional import cross_entropy

    images, label, weight = batch
    loss = cross_entropy(network(images), torch.from_numpy(label), weight)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    return loss.item()


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step: up over the first tenth, then down as a cosine.

    Example:
        >>> [round(_rate(step, 20), 2) for step in (0, 1, 10, 19)]
        [0.5, 1.0, 0.59, 0.01]
    """
    warm = max(steps // 10, 1)
    return min((step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * max(step - warm, 0) / max(steps - warm, 1)))


def _judged(network: "nn.Module", backbone: Backbone, images: Pixels, label: NDArray[np.int64]) -> float | None:
    """Balanced accuracy on held-out cases; None without any."""
    import torch

    if not len(label):
        return None
    with torch.inference_mode():
        shown = (images[first : first + _JUDGED] for first in range(0, len(label), _JUDGED))
        parts = [network(_normalised(part, backbone)).argmax(dim=1).numpy() for part in shown]
    right = np.concatenate(parts) == label
    return float(np.mean([right[label == c].mean() for c in np.unique(label)]))


def sides(examples: Examples) -> dict[str, NDArray[np.int64]]:
    """Returns the rows that train, a validation split's among them, and those that are held out."""
    test = examples["split"] == "test"
    return {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}


def _normalised(images: Pixels, backbone: Backbone) -> "Tensor":
    """Float32 [n, 3, s, s], as the backbone reads images."""
    import torch

    return normalised(torch.from_numpy(images), backbone.mean, backbone.std)


def _class_weights(label: NDArray[np.int64], classes: int) -> "Tensor":
    """Float32 [C]."""
    import torch

    return torch.from_numpy(class_weights(np.bincount(label, minlength=classes).astype(np.float64))).float()


@contextmanager
def _repeatable() -> Iterator[None]:
    """Only operations that give the same bytes twice; the process's own choice is put back."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
