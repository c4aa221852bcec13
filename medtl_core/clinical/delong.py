"""How sure an AUROC is, and whether two of the same cases differ (DeLong, DeLong and Clarke-Pearson, Biometrics 1988).

Where a patient has several cases, what is summed are patients, not cases (Obuchowski, Biometrics 53, 1997); with one
case a patient this is DeLong's estimate. Every method's AUROC is written as a sum over patients, so that means over
classes and differences of methods follow by adding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medtl_core.clinical.ranking import NORMAL, Ranking, class_odds, judged
from medtl_core.evaluation.formulas import Float
from medtl_core.evaluation.scores import each_finding
from medtl_core.values import Array, Scores

Interval = tuple[float, float]


@dataclass(frozen=True)
class Areas:
    """AUROC of each judged class [K], and what each patient adds to its error, float64 [patients, K].

    NaN where a class is shown by no case or by all, and in the second where it is shown, or not shown, by one patient.
    """

    area: Float
    part: Float

    @property
    def variance(self) -> Float:
        """Of each AUROC [K]."""
        return np.asarray((self.part**2).sum(axis=0))

    @property
    def macro(self) -> tuple[float, Float]:
        """The mean over the classes that are defined, and what each patient adds to its error [patients]."""
        known = ~np.isnan(self.area)
        if not known.any():
            return math.nan, np.full(len(self.part), math.nan)
        return float(self.area[known].mean()), np.asarray(self.part[:, known].mean(axis=1))


def areas(scores: Scores) -> Areas:
    """Returns the AUROC of each judged class, of a multi-label task of each finding, in the agreed order."""
    patients, group = np.unique(scores.group, return_inverse=True)
    if scores.labels is not None:
        parts = [(part.logits[:, 1], part.label == 1, group[known]) for known, part in each_finding(scores)]
    else:
        odds = class_odds(scores.logits)
        names = tuple(map(str, range(odds.shape[1])))
        parts = [(odds[:, cls], scores.label == cls, group) for cls in judged(names)]
    each = [_area(*part, len(patients)) for part in parts]
    return Areas(np.array([area for area, _ in each]), np.stack([part for _, part in each], axis=1))


def _area(score: Float, inside: Array, group: Array, patients: int) -> tuple[float, Float]:
    """The AUROC of one class and each patient's part of its error."""
    sides = (np.sort(score[inside]), np.sort(score[~inside]))
    if not all(map(len, sides)):
        return math.nan, np.full(patients, math.nan)
    above = _below(score[inside], sides[1])  # placements: the share of others below a case of the class ...
    under = 1.0 - _below(score[~inside], sides[0])  # ... and of cases of the class above another
    area, part = float(above.mean()), np.zeros(patients)
    for placed, mask in ((above, inside), (under, ~inside)):
        shown = len(np.unique(group[mask]))
        if shown < 2:
            return area, np.full(patients, math.nan)
        sums = np.bincount(group[mask], weights=placed - area, minlength=patients)
        part += math.sqrt(shown / (shown - 1)) * sums / len(placed)
    return area, part


def _below(values: Float, others: Float) -> Float:
    """The share of sorted others below each value, ties half."""
    return np.asarray(np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / (
        2.0 * len(others)
    )


def ranked_variance(ranking: Ranking) -> float:
    """Returns DeLong's variance of a ranking's AUROC, cases taken as independent; NaN with less than two a side.

    It needs no case: placements are the same for all cases of a step, so hospitals' sums are enough.
    """
    positive, negative = ranking.positive, ranking.negative
    cases, others = positive.sum(), negative.sum()
    if min(cases, others) < 2:
        return math.nan
    above = (np.cumsum(negative) - negative / 2) / others
    under = (np.cumsum(positive[::-1])[::-1] - positive / 2) / cases
    spread = [
        (weight * (placed - ranking.area) ** 2).sum() / (count - 1) / count
        for weight, placed, count in ((positive, above, cases), (negative, under, others))
    ]
    return float(sum(spread))


def interval(area: float, variance: float) -> Interval | None:
    """Returns the 95 % interval of an AUROC, on its log-odds, so that it stays within 0 and 1.

    None where the variance is not known, or zero as of a perfect ranking, which says nothing of the next case.

    Example:
        >>> [round(end, 3) for end in interval(0.9, 0.03**2) or ()]
        [0.824, 0.945]
    """
    if not variance > 1e-18 or not 0.0 < area < 1.0:
        return None
    centre, half = math.log(area / (1 - area)), NORMAL * math.sqrt(variance) / (area * (1 - area))
    low, high = (1.0 / (1.0 + math.exp(-min(max(end, -700.0), 700.0))) for end in (centre - half, centre + half))
    return low, high


@dataclass(frozen=True)
class Difference:
    """How much larger one mean AUROC is than another of the same cases: 95 % interval and two-sided p-value."""

    gain: float
    low: float
    high: float
    p: float


def difference(gain: float, variance: float) -> Difference | None:
    """Returns DeLong's test of a difference; None where its variance is not known or zero with a difference."""
    if math.isnan(variance) or math.isnan(gain) or (variance <= 1e-18 and abs(gain) > 1e-12):
        return None
    if variance <= 1e-18:
        return Difference(0.0, 0.0, 0.0, 1.0)
    half, z = NORMAL * math.sqrt(variance), abs(gain) / math.sqrt(variance)
    return Difference(gain, max(gain - half, -1.0), min(gain + half, 1.0), math.erfc(z / math.sqrt(2)))


def covariance(parts: Mapping[str, Float]) -> Float:
    """Returns the covariance [M, M] of mean AUROCs of several methods from each patient's part of their errors."""
    table = np.stack(list(parts.values()))
    return np.asarray(table @ table.T)
