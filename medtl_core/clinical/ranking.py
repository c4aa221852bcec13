"""One class against all others by rising score: what every figure at a threshold is read from.

Scores are log-odds of the class. A ranking of scored cases is exact; one of hospitals' sums has a step for each bin of
`evaluation.federated`, and figures at an edge of a bin are exact, too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medtl_core.evaluation.federated import log_odds, lower_edges
from medtl_core.evaluation.formulas import Float, area_under_roc, average_precision, binned_precision, ratio
from medtl_core.evaluation.scores import each_finding
from medtl_core.values import Array, Scores, Update

#: Standard normal quantile of a 95 % interval.
NORMAL = 1.959963984540054


@dataclass(frozen=True)
class Cell:
    """Cases of a class and others at one threshold: found, missed, falsely answered with the class, and spared."""

    found: float
    missed: float
    false: float
    spared: float

    @property
    def sensitivity(self) -> float | None:
        """Share of the class's cases that are found."""
        return _share(self.found, self.found + self.missed)

    @property
    def specificity(self) -> float | None:
        """Share of the other cases that are spared."""
        return _share(self.spared, self.spared + self.false)

    def predictive(self, prevalence: float) -> tuple[float | None, float | None]:
        """Returns PPV and NPV where the class has a prevalence, by Bayes' rule from sensitivity and specificity.

        Example:
            >>> Cell(9, 1, 10, 90).predictive(0.5)
            (0.9, 0.9)
        """
        found, spared = self.sensitivity, self.specificity
        if found is None or spared is None:
            return None, None
        answered = found * prevalence + (1 - spared) * (1 - prevalence)
        return _share(found * prevalence, answered), _share(spared * (1 - prevalence), 1 - answered)


@dataclass(frozen=True)
class Ranking:
    """Cases of a class and others, float64 [k] each, by steps of rising score.

    Attributes:
        floor: least log-odds of each step.
        positive, negative: cases of the class, and others.
        binned: whether a step may hold different scores.
    """

    floor: Float
    positive: Float
    negative: Float
    binned: bool = False

    @classmethod
    def of(cls, odds: Array, inside: Array) -> "Ranking":
        """Returns the ranking of cases with log-odds [n] that are of the class where `inside`, bool [n]."""
        floor, place = np.unique(np.asarray(odds, np.float64), return_inverse=True)
        positive = np.bincount(place, weights=inside, minlength=len(floor)).astype(np.float64)
        return cls(floor, positive, np.bincount(place, minlength=len(floor)) - positive)

    @property
    def support(self) -> tuple[int, int]:
        """Cases of the class, and others."""
        return int(self.positive.sum()), int(self.negative.sum())

    @property
    def area(self) -> float:
        """AUROC, ties counted half; NaN without both sides."""
        return float(area_under_roc(self.positive[:, None], self.negative[:, None])[0])

    @property
    def precision(self) -> float:
        """Average precision; NaN without both sides."""
        figure = binned_precision if self.binned else average_precision
        return float(figure(self.positive[:, None], self.negative[:, None])[0])

    def at(self, floor: float) -> Cell:
        """Returns what comes out where the class is answered from a log-odds on."""
        answered = self.floor >= floor
        found, false = self.positive[answered].sum(), self.negative[answered].sum()
        return Cell(float(found), float(self.positive.sum() - found), float(false), float(self.negative.sum() - false))

    def rates(self) -> tuple[Float, Float]:
        """Returns sensitivity and specificity at every step's floor, and last where nothing is answered, [k + 1]."""
        found = np.append(np.cumsum(self.positive[::-1])[::-1], 0.0)
        false = np.append(np.cumsum(self.negative[::-1])[::-1], 0.0)
        return ratio(found, self.positive.sum()), 1.0 - ratio(false, self.negative.sum())

    def floor_for(self, sensitivity: float) -> float:
        """Returns the highest floor that finds at least this share of the class; -inf without a case of it."""
        enough = np.flatnonzero(self.rates()[0][:-1] >= sensitivity - 1e-12)
        return float(self.floor[enough[-1]]) if len(enough) else -math.inf

    def most_sensitive(self, specificity: float) -> Cell | None:
        """Returns the highest sensitivity among thresholds of at least this specificity; None without both sides."""
        if not all(self.support):
            return None
        place = int(np.flatnonzero(self.rates()[1] >= specificity - 1e-12)[0])
        return self.at(float(np.append(self.floor, np.inf)[place]))

    def most_specific(self, sensitivity: float) -> Cell | None:
        """Returns the highest specificity among thresholds of at least this sensitivity; None without both sides."""
        return self.at(self.floor_for(sensitivity)) if all(self.support) else None


def rankings(scores: Scores, classes: tuple[str, ...]) -> dict[str, Ranking]:
    """Returns a ranking for each class, of two for the second, of a multi-label task for each finding."""
    if scores.labels is not None:
        parts = zip(classes, each_finding(scores), strict=True)
        return {name: Ranking.of(part.logits[:, 1], part.label == 1) for name, (_, part) in parts}
    odds = class_odds(scores.logits)
    return {classes[cls]: Ranking.of(odds[:, cls], scores.label == cls) for cls in judged(classes)}


def class_odds(logits: Array) -> Float:
    """Returns log-odds of each class [n, C]; of two classes the plain difference, so that equal margins stay equal."""
    if logits.shape[1] != 2:
        return log_odds(logits)
    margin = np.asarray(logits[:, 1] - logits[:, 0], np.float64)
    return np.stack([-margin, margin], axis=1)


def summed(updates: Mapping[str, Update], classes: tuple[str, ...], *, findings: bool = False) -> dict[str, Ranking]:
    """Returns the rankings of all cases together from each site's sums (see `evaluation.federated.summarise`)."""
    positive, negative = (np.sum([sums.arrays[side] for sums in updates.values()], axis=0) for side in _SIDES)
    if findings:
        positive, negative, rows = positive[:, 1], negative[:, 1], range(len(classes))
    else:
        rows = judged(classes)
    return {classes[row]: Ranking(lower_edges(), positive[row], negative[row], binned=True) for row in rows}


def judged(classes: tuple[str, ...]) -> range:
    """Returns which classes are judged against the others: of two the second alone, for both rank alike."""
    return range(1 if len(classes) == 2 else 0, len(classes))


def wilson(right: float, cases: float) -> tuple[float, float] | None:
    """Returns Wilson's 95 % interval of a share (JASA 22, 1927, eq. 4); None of no case.

    Example:
        >>> [round(end, 3) for end in wilson(8, 10) or ()]
        [0.49, 0.943]
    """
    if not cases:
        return None
    share, square = right / cases, NORMAL**2
    middle = (share + square / (2 * cases)) / (1 + square / cases)
    half = NORMAL / (1 + square / cases) * math.sqrt(share * (1 - share) / cases + square / (4 * cases**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mean_recall(table: Array) -> tuple[float, float, float] | None:
    """Returns balanced accuracy of cases by class and answer [C, C] with its 95 % interval; None without a case.

    Wilson's intervals of the recalls are joined as those of a mean of independent shares (Zou and Donner, Statistics in
    Medicine 27, 2008, eq. 6), so the interval stays within 0 and 1.

    Example:
        >>> [round(value, 3) for value in mean_recall(np.array([[9, 1], [5, 5]])) or ()]
        [0.7, 0.499, 0.838]
    """
    counts = np.asarray(table, np.float64)
    shown = [(row[place], row.sum()) for place, row in enumerate(counts) if row.sum()]
    if not shown:
        return None
    ends = np.array([wilson(hits, cases) for hits, cases in shown])
    shares = np.array([hits / cases for hits, cases in shown])
    half = np.sqrt(((ends - shares[:, None]) ** 2).sum(axis=0)) / len(shown)
    mean = float(shares.mean())
    return mean, max(mean - float(half[0]), 0.0), min(mean + float(half[1]), 1.0)


_SIDES = ("positive", "negative")


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole > 0 else None
