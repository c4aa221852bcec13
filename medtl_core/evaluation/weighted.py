"""Figures of cases that count a whole number of times each: once for a plain figure, as drawn for a resample."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_softmax
from medtl_core.evaluation.formulas import (
    Float,
    area_under_roc,
    average_precision,
    from_answers,
    mean_defined,
    ratio,
    rounded,
)
from medtl_core.values import Scores

#: Bins of equal width for calibration, by confidence of the answer.
BINS = 15


def checked(scores: Scores) -> Scores:
    """Returns the scores unchanged.

    Raises:
        DataError: they cannot be judged; the message says why, without any case's values.
    """
    logits, cases = scores.logits, len(scores.label)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"scores have shape {logits.shape}; judging needs [cases, classes] with at least two classes")
    if len(logits) != cases or len(scores.site) != cases or len(scores.group) != cases:
        raise DataError(f"{len(logits)} rows of logits for {cases} labels; every case needs logits, label, site, group")
    if cases and not (scores.label.min() >= 0 and scores.label.max() < logits.shape[1]):
        raise DataError(f"labels run outside the {logits.shape[1]} classes of the logits; check the agreed classes")
    if not np.isfinite(logits).all():
        raise DataError("logits are not finite; the head or its features are broken (a missing class is values.ABSENT)")
    return scores


def weighted(scores: Scores, weight: Float, names: Sequence[str]) -> dict[str, Float]:
    """Returns figures of the cases counted `weight` times, float64 [B] each, NaN where undefined.

    Args:
        scores: n cases.
        weight: whole numbers, float64 [n, B].
        names: among `WEIGHTED`.
    """
    checked(scores)
    found: dict[str, Float] = {}
    for name in names:
        if name not in found:  # one count of answers gives three figures
            found |= WEIGHTED[name](scores, weight)
    return {name: found[name] for name in names}


def calibration_bins(scores: Scores, bins: int = BINS) -> Float:
    """Returns cases, summed confidence and correct answers [3, bins] by confidence of the answer."""
    confidence = np.exp(log_softmax(checked(scores).logits).max(axis=1))
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    right = scores.logits.argmax(axis=1) == scores.label
    terms = (np.ones(len(place)), rounded(confidence), right)
    return np.stack([np.bincount(place, weights=term, minlength=bins) for term in terms])


def case_losses(scores: Scores) -> dict[str, Float]:
    """Returns each case's `brier` and `log_loss` [n], rounded so that their sums are exact."""
    logs = log_softmax(scores.logits)
    rows, classes = np.arange(len(logs)), logs.shape[1]
    error = np.exp(logs)
    error[rows, scores.label] -= 1.0
    square = (error**2).sum(axis=1) / (2.0 if classes == 2 else 1.0)
    return {"brier": rounded(square), "log_loss": rounded(-logs[rows, scores.label])}


def ranked(scores: Scores, cls: int, weight: Float) -> tuple[Float, Float]:
    """Returns weights of cases of `cls` and of the others by rising distinct score of `cls`, [k, B] each.

    The score is the difference of logits for two classes, else the log-probability of `cls`.
    """
    logits = scores.logits
    score = logits[:, cls] - logits[:, 1 - cls] if logits.shape[1] == 2 else log_softmax(logits)[:, cls]
    order = np.argsort(score, kind="stable")
    score, weight = score[order], weight[order]
    positive = weight * (scores.label[order] == cls)[:, None]
    negative = weight - positive
    first = np.flatnonzero(np.diff(score, prepend=-np.inf) > 0)
    if len(first) < len(score):  # ties form one step
        positive, negative = (np.add.reduceat(side, first, axis=0) for side in (positive, negative))
    return positive, negative


def _areas(scores: Scores, weight: Float, area: Callable[[Float, Float], Float]) -> Float:
    classes = scores.logits.shape[1]
    chosen = (1,) if classes == 2 else range(classes)
    return mean_defined(np.stack([area(*ranked(scores, cls, weight)) for cls in chosen]))


def _by_answer(scores: Scores, weight: Float) -> dict[str, Float]:
    classes = np.arange(scores.logits.shape[1])[:, None]
    answer = scores.logits.argmax(axis=1)
    present, answered = (column == classes for column in (scores.label, answer))
    return from_answers(*(mask.astype(np.float64) @ weight for mask in (present & answered, present, answered)))


def _by_loss(scores: Scores, weight: Float) -> dict[str, Float]:
    total = weight.sum(axis=0)
    return {name: ratio(loss @ weight, total) for name, loss in case_losses(scores).items()}


#: Figures that can be weighted, by name.
WEIGHTED: Mapping[str, Callable[[Scores, Float], dict[str, Float]]] = {
    "balanced_accuracy": _by_answer,
    "sensitivity": _by_answer,
    "specificity": _by_answer,
    "auroc": lambda scores, weight: {"auroc": _areas(scores, weight, area_under_roc)},
    "auprc": lambda scores, weight: {"auprc": _areas(scores, weight, average_precision)},
    "brier": _by_loss,
    "log_loss": _by_loss,
}
