"""Figures from counts that add: what cases, resamples and hospitals have in common.

A figure computed here from summed counts is the pooled figure, whoever did the counting.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medtl_core.values import Array

Float = NDArray[np.float64]
Figure = float | None
Curve = tuple[list[float], list[float]]

_GRAIN = 2.0**28
_GRID = np.linspace(0.0, 1.0, 101)


def rounded(terms: Array) -> Float:
    """Returns terms rounded to 2^-28, so that sums below 2^25 are exact in any order and over any split."""
    return np.asarray(np.round(np.asarray(terms, np.float64) * _GRAIN) / _GRAIN)


def ratio(part: Float, whole: Float) -> Float:
    """Returns part / whole, NaN where whole is zero."""
    defined = whole > 0
    return np.asarray(np.where(defined, part, np.nan) / np.where(defined, whole, 1.0))


def mean_defined(values: Float) -> Float:
    """Returns the mean over the first axis of the values that are not NaN; NaN where none is."""
    return ratio(np.nansum(values, axis=0), np.sum(~np.isnan(values), axis=0))


def figure(value: Float | float) -> Figure:
    """Returns a number, or None for NaN."""
    return None if np.isnan(value) else float(value)


def area_under_roc(positive: Float, negative: Float) -> Float:
    """Returns the area [...] from case counts [bins, ...] by rising score, ties half; NaN without both sides.

    Example:
        >>> float(area_under_roc(np.array([0.0, 1.0]), np.array([1.0, 1.0])))
        0.75
    """
    below = np.cumsum(negative, axis=0)
    below -= 0.5 * negative
    return ratio((positive * below).sum(axis=0), positive.sum(axis=0) * negative.sum(axis=0))


def average_precision(positive: Float, negative: Float) -> Float:
    """Returns sum of (recall step x precision) [...] from case counts [bins, ...] by rising score; NaN as above."""
    hits = np.cumsum(positive[::-1], axis=0)
    seen = hits + np.cumsum(negative[::-1], axis=0)
    precise = (positive[::-1] * hits / np.maximum(seen, 1.0)).sum(axis=0)
    return np.where(negative.sum(axis=0) > 0, ratio(precise, positive.sum(axis=0)), np.nan)


def binned_precision(positive: Float, negative: Float) -> Float:
    """Returns average precision [...] where a bin holds different scores: its sides are taken as evenly mixed.

    A positive in the middle of a bin has half of the bin's others before it. Counting the whole bin first, as
    `average_precision` rightly does for true ties, is 5 to 10 times further off.
    """
    positive, negative = positive[::-1], negative[::-1]
    before = np.cumsum(positive, axis=0) - (positive - 1.0) / 2.0
    seen = before + np.cumsum(negative, axis=0) - negative / 2.0
    precise = np.where(positive > 0, positive * before / np.where(positive > 0, seen, 1.0), 0.0).sum(axis=0)
    return np.where(negative.sum(axis=0) > 0, ratio(precise, positive.sum(axis=0)), np.nan)


def from_answers(hits: Float, present: Float, answered: Float) -> dict[str, Float]:
    """Returns balanced accuracy, sensitivity and specificity [...].

    Args:
        hits: [C, ...], cases of each class that were answered with it.
        present: [C, ...], cases of each class.
        answered: [C, ...], cases answered with each class.

    Example:
        >>> figures = from_answers(np.array([3.0, 1.0]), np.array([4.0, 2.0]), np.array([4.0, 2.0]))
        >>> {name: float(value) for name, value in figures.items()}
        {'balanced_accuracy': 0.625, 'sensitivity': 0.5, 'specificity': 0.75}
    """
    recall = ratio(hits, present)
    rest = present.sum(axis=0) - present
    spared = ratio(rest - (answered - hits), rest)
    mean = mean_defined(recall)
    found, spared = (recall[1], spared[1]) if len(hits) == 2 else (mean, mean_defined(spared))
    return {"balanced_accuracy": mean, "sensitivity": found, "specificity": spared}


def calibration_gap(table: Float) -> float:
    """Returns the expected calibration error of a table [3, bins] of cases, summed confidence and correct answers.

    It is the mean gap between confidence and accuracy over bins (Guo et al., ICML 2017, eq. 3); NaN without cases.
    """
    cases, confidence, right = table
    return float(np.abs(confidence - right).sum() / cases.sum()) if cases.sum() else float("nan")


def reliability_points(table: Float) -> tuple[list[float], list[float], list[int]]:
    """Returns mean confidence, accuracy and count of the non-empty bins of a table [3, bins]."""
    cases, confidence, right = table[:, table[0] > 0]
    return (confidence / cases).tolist(), (right / cases).tolist(), cases.astype(np.int64).tolist()


def roc_points(positive: Float, negative: Float) -> tuple[Float, Float] | None:
    """Returns false and true positive rates from counts [bins] by rising score, or None without both sides."""
    hits, alarms = np.cumsum(positive[::-1]), np.cumsum(negative[::-1])
    if not len(hits) or not hits[-1] or not alarms[-1]:
        return None
    return np.concatenate([[0.0], alarms / alarms[-1]]), np.concatenate([[0.0], hits / hits[-1]])


def mean_curve(curves: Sequence[tuple[Float, Float] | None]) -> Curve | None:
    """Returns the vertical mean of the curves that are defined; a single curve stays as it is."""
    drawn = [curve for curve in curves if curve is not None]
    if not drawn:
        return None
    if len(curves) == 1:
        return drawn[0][0].tolist(), drawn[0][1].tolist()
    return [0.0, *_GRID.tolist()], [0.0, *np.mean([np.interp(_GRID, *curve) for curve in drawn], axis=0).tolist()]
