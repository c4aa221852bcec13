"""Concordance of risks with what was seen over time (Harrell et al., Statistics in Medicine 15, 1996).

A pair of cases can be compared if the event of one was seen before the other's event or last contact, or at the moment
of the other's last contact; it is concordant if the first one had the higher risk, and equal risks count half.
"""

from collections.abc import Mapping

import numpy as np

from medtl_core.evaluation.formulas import Float, figure, ratio
from medtl_core.evaluation.judgement import Judgement, SiteJudgement
from medtl_core.values import Scores

#: Cases compared with all others at a time.
_BLOCK = 512


def share(scores: Scores, weight: Float | None = None) -> Float:
    """Returns the concordant share of the pairs that can be compared, [B]; NaN where there is none. See `pairs`."""
    return ratio(*pairs(scores, weight))


def pairs(scores: Scores, weight: Float | None = None) -> Float:
    """Returns how many pairs are concordant, and how many can be compared, [2, B].

    Args:
        scores: n cases of two classes with times; the risk is the log-odds of class 1, the event.
        weight: how often each case counts, float64 [n, B]; None = once.
    """
    risk, event = scores.logits[:, 1] - scores.logits[:, 0], scores.label == 1
    times = np.zeros(len(risk)) if scores.time is None else scores.time
    weight = np.ones((len(risk), 1)) if weight is None else weight
    counts = np.zeros((2, weight.shape[1]))
    seen = np.flatnonzero(event)
    for first in range(0, len(seen), _BLOCK):
        rows = seen[first : first + _BLOCK, None]
        pair = (times[rows] < times) | ((times[rows] == times) & ~event)
        higher = pair * (0.5 + 0.5 * np.sign(risk[rows] - risk))
        counts += [(weight[rows[:, 0]] * (part @ weight)).sum(axis=0) for part in (higher, pair)]
    return counts


def judge_pairs(everyone: Float, sites: Mapping[str, Float], cases: Mapping[str, int]) -> Judgement:
    """Returns the concordance of all cases and within each site, from pairs [2].

    Figures are `concordance`, `mean_of_sites`, the mean over the sites that have a pair to compare, and worst_site, the
    lowest of these. Whether a censored case was answered rightly nobody knows, so there are no others.
    """
    alone = {name: figure(ratio(*sites[name])) for name in sorted(sites)}
    known = [value for value in alone.values() if value is not None]
    figures = {
        "concordance": figure(ratio(*everyone)),
        "mean_of_sites": float(np.mean(known)) if known else None,
        "worst_site": min(known, default=None),
    }
    return Judgement(figures, {name: SiteJudgement(None, None, cases[name], value) for name, value in alone.items()})
