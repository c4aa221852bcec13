"""Candidates in order of their scores: how far two orders agree, and what choosing by one of them costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """One backbone's taps under one seed.

    Attributes:
        backbone: the source's name.
        taps: joined by "+".
        seed: of the run.
        width: number of features.
        scores: by name; the higher, the better.
        measured: figures of its discriminant on the server's test cases; empty where not asked for.
    """

    backbone: str
    taps: str
    seed: int
    width: int
    scores: Mapping[str, float]
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """E.g. "lite0@4+7"."""
        return f"{self.backbone}@{self.taps}"


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns Spearman's rank correlation, ties at their mean rank; NaN where one side is constant.

    Raises:
        DataError: the lengths differ, there are fewer than two candidates, or a value is not finite.

    Example:
        >>> spearman([1, 2, 3, 4], [10, 20, 40, 30])
        0.8
    """
    return _correlation("spearmanr", first, second)


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Returns Kendall's tau-b: pairs in the same order less pairs in the other, corrected for ties; see `spearman`.

    Example:
        >>> kendall([1, 2, 3], [1, 3, 2])
        0.333333333333
    """
    return _correlation("kendalltau", first, second)


def regret(score: Sequence[float], measured: Sequence[float]) -> float:
    """Returns the best measured value less that of the candidate with the highest score (the first of equals).

    Example:
        >>> regret([0.1, 0.9, 0.5], [70.0, 75.0, 78.0])
        3.0
    """
    by, values = _pair(score, measured)
    return float(values.max() - values[int(by.argmax())])


def ranked(candidates: Sequence[Candidate], by: str) -> list[dict[str, Any]]:
    """Returns one row a candidate, its scores and figures averaged over seeds, the best by one score first."""
    rows: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        rows.setdefault(candidate.name, []).append(candidate)
    means = [
        {
            **{key: getattr(row[0], key) for key in ("backbone", "taps", "width")},
            "scores": _mean([candidate.scores for candidate in row]),
            "measured": _mean([candidate.measured for candidate in row]),
        }
        for row in rows.values()
    ]
    return sorted(means, key=lambda row: -row["scores"][by])


def agreement(candidates: Sequence[Candidate], figure: str = "balanced_accuracy") -> list[dict[str, Any]]:
    """Returns how each score's order agrees with a measured figure, worked out seed by seed and averaged.

    "regret" is the best measured figure less that of the candidate the score puts first; a correlation that no seed
    defines is None.

    Args:
        candidates: with `measured`.
        figure: the measured one.
    """
    rows = []
    for score in dict.fromkeys(name for candidate in candidates for name in candidate.scores):
        pairs: dict[int, list[tuple[float, float]]] = {}
        for candidate in candidates:
            if score in candidate.scores and figure in candidate.measured:
                pairs.setdefault(candidate.seed, []).append((candidate.scores[score], candidate.measured[figure]))
        seeds = [tuple(zip(*pair, strict=True)) for pair in pairs.values() if len(pair) > 1]
        if seeds:
            means = {
                measure.__name__: _defined_mean([measure(*sides) for sides in seeds])
                for measure in (spearman, kendall, regret)
            }
            rows.append({"score": score, "candidates": max(len(by) for by, _ in seeds), **means})
    return rows


def _pair(first: Sequence[float], second: Sequence[float]) -> tuple[Float, Float]:
    left, right = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1:
        raise DataError(f"two orders of the same candidates must be of equal length, not {len(left)} and {len(right)}")
    if len(left) < 2:
        raise DataError("an order needs at least two candidates; name more backbones or taps")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise DataError("a candidate's score or result is not finite; leave it out of the order")
    return left, right


def _correlation(statistic: str, first: Sequence[float], second: Sequence[float]) -> float:
    """A correlation of two sides by scipy's name; where one is constant it has none, and scipy would warn."""
    from scipy import stats

    left, right = _pair(first, second)
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return round(float(getattr(stats, statistic)(left, right).statistic), 12)


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: fmean(row[key] for row in rows) for key in rows[0] if all(key in row for row in rows)}


def _defined_mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return fmean(known) if known else None
