"""Paired tests over seeds, and what is left of them when there are many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtl_core.errors import DataError
from medtl_core.evaluation.intervals import mean_error, over_seeds


@dataclass(frozen=True)
class Paired:
    """A paired difference: mean, interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p: float


def paired(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Returns the mean of a - b over the same seeds, its t-interval and the paired t-test's two-sided p-value.

    Differences that are all alike leave no doubt: p is 0, or 1 if they are all zero.

    Raises:
        DataError: the lengths differ, fewer than two pairs, or a value is not finite.
    """
    if len(a) != len(b):
        raise DataError(f"paired values must come from the same seeds; there are {len(a)} and {len(b)}")
    from scipy.special import stdtr

    differences = [ours - theirs for ours, theirs in zip(a, b, strict=True)]
    mean, error = mean_error(differences)
    p = 2.0 * float(stdtr(len(differences) - 1, -abs(mean) / error)) if error else float(mean == 0.0)
    return Paired(*over_seeds(differences), p)


def over_hospitals(values: Sequence[float], resamples: int = 2000, *, rng: np.random.Generator) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the mean of hospitals under resampling of hospitals.

    The cluster bootstrap (Davison and Hinkley 1997, section 3.8) with each hospital's figure as it is: what the mean
    would be with other hospitals of the kind. With fewer than ten hospitals such intervals are too narrow.

    Raises:
        DataError: fewer than two values.
    """
    numbers = np.asarray(values, np.float64)
    mean_error(values)
    drawn = numbers[rng.integers(len(numbers), size=(resamples, len(numbers)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values adjusted for their number (Holm 1979, step-down Bonferroni), in the order given.

    Raises:
        DataError: a value is outside [0, 1].
    """
    p = np.asarray(p_values, np.float64)
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError(f"p-values must lie in [0, 1], these do not: {list(p_values)}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]
