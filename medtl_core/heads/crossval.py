"""Exact federated cross-validation of heads: strength, temperature and the choice between heads.

The server holds per-fold sums, so the training statistics of a fold are the total minus the fold. It sends the fold
heads; each hospital returns, for its own held-out cases, class-wise sums of log-loss and of correct answers. Nothing
else leaves, and the result equals cross-validation on the pooled cases (docs/methods.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.statistics import Float
from medtl_core.rng import bucket
from medtl_core.values import Array, Update

#: Factors on the logits. Wide, because heads of different families live on different scales.
TEMPERATURES: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)

#: A single case may cost at most this many nats, so that one mislabelled case does not choose the head.
WORST = 20.0


@dataclass(frozen=True)
class Choice:
    """What cross-validation says of one candidate.

    Attributes:
        index: position of the best strength.
        temperature: factor on its logits.
        loss: class-balanced log-loss in nats at that strength and temperature.
        balanced_accuracy: of the same strength over all held-out cases.
    """

    index: int
    temperature: float
    loss: float
    balanced_accuracy: float


def fold_of(patients: Array, label: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Returns the fold of each case at one hospital, int64 [n]: by patient, and even within each class.

    Example:
        >>> fold = fold_of(np.array(["a", "b", "a", "c"]), np.array([0, 0, 0, 1]), 2, 0)
        >>> bool(fold[0] == fold[2]), bool(fold[0] != fold[1])
        (True, True)
    """
    return _fold_of(tuple(patients.tolist()), tuple(label.tolist()), folds, seed)


@lru_cache(maxsize=256)  # every phase asks again
def _fold_of(patients: tuple[Any, ...], label: tuple[int, ...], folds: int, seed: int) -> NDArray[np.int64]:
    names, first = np.unique(patients, return_index=True)
    order = sorted(range(len(names)), key=lambda i: (label[first[i]], bucket(seed, f"fold/{names[i]}", 2**32)))
    start = bucket(seed, f"start/{names[order[0]]}", folds) if order else 0  # else fold 0 would hold every remainder
    fold = {names[index]: (start + rank) % folds for rank, index in enumerate(order)}
    of_cases = np.array([fold[patient] for patient in patients], dtype=np.int64)
    of_cases.flags.writeable = False  # shared by all who ask
    return of_cases


def held_out(heads: Float, values: Array, label: NDArray[np.int64], fold: NDArray[np.int64]) -> Update:
    """Returns a hospital's answer: sums over its cases, each judged by the head of its own fold.

    Args:
        heads: [F, S, C, d + 1], heads trained without fold f.
        values: features [n, d].
        label: int [n].
        fold: int [n] in [0, F).

    Returns:
        `losses` float64 [S, T, C] (summed log-loss by class) and `hits` float64 [S, C] (correct answers by class).
    """
    rows = [np.flatnonzero(fold == index) for index in range(len(heads))]
    each = zip(heads.astype(np.float64), rows, strict=True)
    parts = [_judge(stack, np.asarray(values[mine], np.float64), label[mine]) for stack, mine in each]
    losses, hits = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    return Update({"losses": losses, "hits": hits})


def choose(sums: Mapping[str, Array], counts: Float) -> Choice:
    """Returns the best strength and temperature from summed answers and the class counts [C] of all cases."""
    weight = np.where(counts > 0, 1.0 / np.maximum(counts, 1.0), 0.0) / max(int((counts > 0).sum()), 1)
    losses, accuracy = sums["losses"] @ weight, sums["hits"] @ weight
    index, temperature = np.unravel_index(int(np.argmin(losses)), losses.shape)
    return Choice(int(index), TEMPERATURES[temperature], float(losses.min()), float(accuracy[index]))


def _judge(heads: Float, values: Float, label: NDArray[np.int64]) -> tuple[Float, Float]:
    strengths, classes, width = heads.shape
    logits = (values @ heads[..., :-1].reshape(-1, width - 1).T).reshape(-1, strengths, classes) + heads[..., -1]
    onehot = np.eye(classes)[label]
    hits = np.tensordot(onehot, logits.argmax(axis=2) == label[:, None], (0, 0)).T
    logits -= logits.max(axis=2, keepdims=True)
    own, losses = np.einsum("nsc,nc->ns", logits, onehot), np.empty((strengths, len(TEMPERATURES), classes))
    for index, factor in enumerate(TEMPERATURES):
        loss = np.log(np.exp(factor * logits).sum(axis=2)) - factor * own
        losses[:, index] = np.minimum(loss, WORST).T @ onehot
    return losses, hits
