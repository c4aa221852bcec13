"""How sure a figure is: patient bootstrap within one test set, t-intervals over seeds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.evaluation.counts import checked
from medtl_core.evaluation.formulas import Float
from medtl_core.evaluation.scores import weighted
from medtl_core.values import Scores

#: Confidence of every interval.
LEVEL = 0.95

#: Cases x resamples held at a time (8 bytes each, a few copies).
_BLOCK = 1_000_000


def bootstrap(
    scores: Scores, names: Sequence[str], resamples: int = 200, *, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Returns percentile intervals of figures under resampling of patients (Efron and Tibshirani 1993, chapter 13).

    Whole patients are drawn with replacement, within strata by the rarest class a patient shows, so that rare classes
    stay in nearly every resample; a class with a single patient then adds no spread. The order of the cases does not
    matter.

    Args:
        scores: with `group`, the patient of each case.
        names: of `counts.FIGURES` that resampling does not bias: calibration error and the worst site it does.
        resamples: how many, at least 1.
        rng: of the draws.

    Returns:
        (low, high) of every figure that is defined on the scores; others are left out.

    Raises:
        DataError: the scores cannot be judged.
    """
    if not len(checked(scores).label):
        return {}
    patient, stratum = strata(scores)
    counts = _draw(stratum, resamples, rng)[patient]
    step = max(_BLOCK // len(patient), 1)
    blocks = [weighted(scores, counts[:, at : at + step], names) for at in range(0, resamples, step)]
    intervals = {}
    for name in dict.fromkeys(names):
        values = np.concatenate([block[name] for block in blocks])
        values = values[~np.isnan(values)]
        if len(values):
            low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            intervals[name] = (float(low), float(high))
    return intervals


def strata(scores: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the patient of each case [n], numbered from 0, and the rarest class each patient shows [patients]."""
    names, patient = np.unique(scores.group, return_inverse=True)
    counts = np.bincount(scores.label, minlength=scores.logits.shape[1])
    rank = np.argsort(np.argsort(counts, kind="stable"), kind="stable")  # 0 = rarest class
    lowest = np.full(len(names), len(rank), dtype=np.int64)
    np.minimum.at(lowest, patient, rank[scores.label])
    return patient.astype(np.int64), np.argsort(counts, kind="stable")[lowest].astype(np.int64)


def within(ends: tuple[float, float], low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
    """Returns an interval cut to what its figure can be; a t-interval of few values knows nothing of that.

    Example:
        >>> within((-1.2, 0.9))
        (0.0, 0.9)
    """
    return max(ends[0], low), min(ends[1], high)


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns mean, low and high of Student's t-interval over repetitions.

    Raises:
        DataError: fewer than two values, or one that is not finite.

    Example:
        >>> [round(end, 3) for end in over_seeds([0.5, 0.6, 0.7])]
        [0.6, 0.352, 0.848]
    """
    mean, error = mean_error(values)
    half = _student(len(values) - 1) * error
    return mean, mean - half, mean + half


def _student(freedom: int) -> float:
    """How many standard errors `LEVEL` of Student's distribution lies within (Abramowitz and Stegun 1964, 26.7.3-4).

    Solved for the angle by Newton's steps, which rise to it; scipy's, to the last digits, takes a tenth of a second to
    import.
    """
    odd, step = freedom % 2, np.arange(1, freedom // 2)
    parts = np.cumprod([float(freedom > 1), *((2 * step - 1 + odd) / (2 * step + odd))])
    angle, wanted, powers = 0.0, LEVEL * np.pi / 2 if odd else LEVEL, 2 * np.arange(len(parts))
    for _ in range(60):
        cos = np.cos(angle)
        held = odd * angle + np.sin(angle) * cos**odd * (parts * cos**powers).sum()
        angle += (wanted - held) / ((odd + parts.sum()) * cos ** (freedom - 1))
    return float(np.sqrt(freedom) * np.tan(angle))


def _draw(stratum: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> Float:
    """How often each patient is drawn, float64 [patients, B]; every stratum keeps its size."""
    drawn = np.zeros((len(stratum), resamples))
    for name in np.flatnonzero(np.bincount(stratum)):  # numpy's `unique` reads its masked arrays first
        members = np.flatnonzero(stratum == name)
        size = len(members)
        pick = rng.integers(size, size=(resamples, size)) + size * np.arange(resamples)[:, None]
        drawn[members] = np.bincount(pick.ravel(), minlength=resamples * size).reshape(resamples, size).T
    return drawn


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Returns the mean and its standard error; DataError as `over_seeds`."""
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2 or not np.isfinite(numbers).all():
        raise DataError(f"an interval over seeds needs at least two finite values, got {list(values)}")
    return float(numbers.mean()), float(numbers.std(ddof=1) / np.sqrt(len(numbers)))
