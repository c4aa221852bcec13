"""The linear head trained by gradient at a hospital: mini-batch softmax regression on standardised features."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DivergedError
from medtl_core.heads.statistics import Float
from medtl_core.values import ABSENT


@dataclass(frozen=True)
class Training:
    """How a hospital trains the head for one round.

    Attributes:
        epochs: passes over the hospital's cases.
        batch_size: cases a step.
        learning_rate: of plain gradient descent.
        weight_decay: L2 coefficient on weights and bias.
        proximal: FedProx coefficient pulling towards the round's starting head (Li et al., MLSys 2020); 0 = off.
    """

    epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 0.05
    weight_decay: float = 1e-3
    proximal: float = 0.0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Training":
        """Returns the recipe in a message's flat values."""
        return cls(
            int(config["epochs"]), int(config["batch-size"]), float(config["learning-rate"]),
            float(config["weight-decay"]), float(config.get("proximal", 0.0)),
        )  # fmt: skip

    def steps(self, cases: int) -> int:
        """Number of gradient steps a round takes on so many cases."""
        return self.epochs * -(-cases // self.batch_size)

    def shuffles(self, cases: int) -> bool:
        """Whether the order of so many cases matters: a set that fits one batch has none."""
        return cases > self.batch_size


def with_bias(values: NDArray[np.floating[Any]], mean: Float, scale: Float) -> Float:
    """Returns standardised features with a constant last column, float64 [n, d + 1]."""
    inputs = np.empty((len(values), values.shape[1] + 1))
    np.subtract(values, mean, out=inputs[:, :-1], dtype=np.float64)
    inputs[:, :-1] /= scale
    inputs[:, -1] = 1.0
    return inputs


@dataclass(frozen=True)
class Lesson:
    """What a hospital trains a stack of M heads on.

    Attributes:
        inputs: float64 [n, d + 1], standardised features with a constant last column.
        onehot: float64 [n, C], one in the column of each case's class.
        pairs: float64 [n, n], inner products of all pairs of inputs; steps within the span of the cases, which are
            fewer operations, need them; None = the steps are taken on the features.
        control: float64 [M, C, d + 1] added to every gradient (SCAFFOLD, Karimireddy et al., ICML 2020: c - c_k).
    """

    inputs: Float
    onehot: Float
    pairs: Float | None = None
    control: Float | None = None

    def error(self, logits: Float, rows: slice | NDArray[np.int64]) -> Float:
        """Returns each case's part of the mean gradient with respect to the logits [n, M * C] of some cases."""
        residual = softmax(logits.reshape(len(logits), -1, self.onehot.shape[1]))
        residual -= self.onehot[rows, None]
        residual /= len(logits)
        return residual.reshape(logits.shape)


def train(heads: Float, lesson: Lesson, training: Training, *, rng: np.random.Generator | None) -> Float:
    """Returns a stack of heads after one round of local training, all stepping through the same batches.

    Args:
        heads: [M, C, d + 1], where the round starts.
        lesson: the hospital's cases.
        training: the round's recipe.
        rng: of the batch order; None where `training.shuffles` says that there is none.

    Raises:
        DivergedError: the loss left the finite numbers; the hospital sits out this round.
    """
    if not len(lesson.inputs):
        return heads
    start = heads.reshape(-1, heads.shape[-1])
    trained = (_by_batches if lesson.pairs is None else _within_span)(start, lesson, training, rng)
    check_converged(trained)
    return trained.reshape(heads.shape)


def check_converged(head: Float) -> None:
    """Raises DivergedError where a head that a hospital trained left the numbers that travel, which are float32."""
    if not (np.abs(head) <= np.finfo(np.float32).max).all():
        raise DivergedError("local training diverged (the head is not finite); lower the learning rate")


def _passes(cases: int, training: Training, rng: np.random.Generator | None) -> Iterator[slice | NDArray[np.int64]]:
    """Yields which cases each step of a round reads."""
    if training.shuffles(cases) and rng is None:
        raise TypeError("the cases do not fit one batch: their order needs rng")
    for _ in range(training.epochs):
        if rng is not None and training.shuffles(cases):
            yield from batches(cases, training.batch_size, rng=rng)
        else:
            yield slice(None)


def _by_batches(start: Float, lesson: Lesson, training: Training, rng: np.random.Generator | None) -> Float:
    """Gradient steps, batch by batch, [M * C, d + 1]."""
    current, rate = start.copy(), training.learning_rate
    shrink, constant = 1.0 - rate * (training.weight_decay + training.proximal), rate * training.proximal * start
    constant = constant if lesson.control is None else constant - rate * lesson.control.reshape(start.shape)
    for rows in _passes(len(lesson.inputs), training, rng):
        features = lesson.inputs[rows]
        error = rate * lesson.error(features @ current.T, rows)
        current *= shrink
        current -= error.T @ features
        if training.proximal or lesson.control is not None:
            current += constant
    return current


def _within_span(start: Float, lesson: Lesson, training: Training, rng: np.random.Generator | None) -> Float:
    """The same steps, [M * C, d + 1], equal to rounding.

    A head stays kept * start + moves.T @ inputs + shifted * shift: what changes has n numbers a class, not d + 1.
    """
    rate, inputs, pairs = training.learning_rate, lesson.inputs, cast(Float, lesson.pairs)
    shift = None if lesson.control is None else lesson.control.reshape(start.shape)
    before, pull = inputs @ start.T, None if shift is None else inputs @ shift.T
    shrink = 1.0 - rate * (training.weight_decay + training.proximal)
    kept, shifted, moves = 1.0, 0.0, np.zeros_like(before)
    for rows in _passes(len(inputs), training, rng):
        logits = pairs[rows] @ moves
        logits += kept * before[rows]
        if pull is not None:
            logits += shifted * pull[rows]
        error = rate * lesson.error(logits, rows)
        moves *= shrink
        moves[rows] -= error
        kept, shifted = shrink * kept + rate * training.proximal, shrink * shifted - rate
    trained = moves.T @ inputs + kept * start
    if shift is not None:
        trained += shifted * shift
    return trained


def batches(cases: int, size: int, *, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yields one pass over the cases in random order, as index arrays."""
    order = rng.permutation(cases)
    for first in range(0, cases, size):
        yield order[first : first + size]


def softmax(logits: Float) -> Float:
    """Returns probabilities [..., C] of logits [..., C]."""
    # in place, without the method's detour through Python: small hospitals spend their time here
    shifted: Float = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
    np.exp(shifted, out=shifted)
    shifted /= np.add.reduce(shifted, axis=-1, keepdims=True)
    return shifted


def to_raw(head: Float, mean: Float, scale: Float, seen: NDArray[np.bool_] | None = None) -> Float:
    """Folds the standardisation into a head [..., C, d + 1] and marks classes never seen."""
    weight = head[..., :-1] / scale
    bias = head[..., -1] - weight @ mean
    raw = np.concatenate([weight, bias[..., None]], axis=-1)
    if seen is not None:
        raw[..., ~seen, :-1], raw[..., ~seen, -1] = 0.0, ABSENT
    return raw


def tempered(head: Float, temperature: float) -> Float:
    """Returns a head [..., C, d + 1] with its logits times a factor; classes never seen keep their mark."""
    scaled, absent = head * temperature, (head[..., -1] == ABSENT) & ~head[..., :-1].any(axis=-1)
    scaled[..., -1] = np.where(absent, ABSENT, scaled[..., -1])
    return scaled
