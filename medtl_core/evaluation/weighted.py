"""Figures of cases that count a whole number of times each, as drawn for a resample."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from medtl_core.evaluation.counts import case_losses, checked, ranked
from medtl_core.evaluation.formulas import Float, area_under_roc, average_precision, from_answers, mean_defined, ratio
from medtl_core.values import Scores


def weighted(scores: Scores, weight: Float, names: Sequence[str]) -> dict[str, Float]:
    """Returns figures of the cases counted `weight` times, float64 [B] each, NaN where undefined.

    Args:
        scores: n cases.
        weight: whole numbers, float64 [n, B].
        names: among `WEIGHTED`.
    """
    checked(scores)
    values: dict[str, Float] = {}
    for name in names:
        if name not in values:  # one count of answers gives three figures
            values |= WEIGHTED[name](scores, weight)
    return {name: values[name] for name in names}


def _areas(scores: Scores, weight: Float, area: Callable[[Float, Float], Float]) -> Float:
    classes = scores.logits.shape[1]
    judged = (1,) if classes == 2 else range(classes)
    return mean_defined(np.stack([area(*ranked(scores, cls, weight)) for cls in judged]))


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
