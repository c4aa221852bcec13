"""What a threshold is worth (Vickers and Elkin, Medical Decision Making 26, 2006), and what abstaining buys."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medtl_core.clinical.ranking import Ranking
from medtl_core.evaluation.calibration import log_softmax
from medtl_core.evaluation.formulas import Float
from medtl_core.values import Array, Scores

#: Threshold probabilities at which net benefit is told.
THRESHOLDS = (0.01, 0.02, *(round(0.05 * step, 2) for step in range(1, 19)))


def net_benefit(ranking: Ranking, thresholds: Sequence[float] = THRESHOLDS) -> list[float]:
    """Returns found / n - false / n x t / (1 - t) where the class is answered from probability t on.

    The ranking's log-odds must be those of probabilities that suit how common the class is among these cases.
    """
    total = sum(ranking.support)
    values = []
    for threshold in thresholds:
        cell = ranking.at(math.log(threshold / (1 - threshold)))
        values.append((cell.found - cell.false * threshold / (1 - threshold)) / total)
    return values


def everyone_treated(prevalence: float, thresholds: Sequence[float] = THRESHOLDS) -> list[float]:
    """Returns the net benefit of answering every case with the class.

    Example:
        >>> everyone_treated(0.5, [0.5])
        [0.0]
    """
    return [prevalence - (1 - prevalence) * threshold / (1 - threshold) for threshold in thresholds]


def at_prevalence(scores: Scores) -> Scores:
    """Returns scores of heads under which classes count alike, moved by Bayes' rule to how common they are here.

    Saerens et al., Neural Computation 14, 2002, eq. 2.4; of findings each by itself.
    """
    if scores.labels is not None:
        known = scores.labels >= 0
        share = np.where(known, scores.labels, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        share = np.clip(share, 1e-12, 1 - 1e-12)
        return replace(scores, logits=scores.logits + np.log(share / (1 - share)))
    share = np.bincount(scores.label, minlength=scores.logits.shape[1]) / max(len(scores.label), 1)
    return replace(scores, logits=scores.logits + np.log(np.maximum(share, 1e-12)))


def shifted(ranking: Ranking) -> Ranking:
    """Returns the ranking of one of two classes as `at_prevalence` would give it; of sums that is as far as bins go."""
    cases, others = ranking.support
    return replace(ranking, floor=ranking.floor + math.log(cases / others)) if cases and others else ranking


def kept_right(scores: Scores) -> list[tuple[float, float]]:
    """Returns coverage and share answered rightly where only the most confident cases are answered, from all to few.

    The risk-coverage curve (El-Yaniv and Wiener, JMLR 11, 2010) at twenty coverages; cases that are as confident as
    the last one kept are kept with it.
    """
    confidence = log_softmax(scores.logits).max(axis=1)
    right = scores.logits.argmax(axis=1) == scores.label
    order = np.argsort(-confidence, kind="stable")
    last = np.flatnonzero(np.diff(confidence[order], append=-np.inf) < 0)  # the last case of each run of ties
    return _thinned(np.asarray(last + 1, np.float64), np.cumsum(right[order])[last].astype(np.float64))


def kept_right_sums(calibration: Array) -> list[tuple[float, float]]:
    """Returns the same from summed calibration bins [3, bins]: as many coverages as bins hold a case."""
    cases, _, right = np.asarray(calibration, np.float64)[:, ::-1][:, np.asarray(calibration)[0, ::-1] > 0]
    return _thinned(np.cumsum(cases), np.cumsum(right))


def _thinned(cases: Float, right: Float) -> list[tuple[float, float]]:
    if not len(cases):
        return []
    places = np.unique(np.searchsorted(cases, np.linspace(0.05, 1.0, 20) * cases[-1] - 1e-9))
    return [(float(cases[place] / cases[-1]), float(right[place] / cases[place])) for place in places[::-1]]
