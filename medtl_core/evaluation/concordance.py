"""Concordance of risks with what was seen over time (Harrell et al., Statistics in Medicine 15, 1996).

A pair of cases can be compared if the event of one was seen before the other's event or last contact, or at the moment
of the other's last contact; it is concordant if the first one had the higher risk, and equal risks count half.
"""

from collections.abc import Mapping

import numpy as np

from medtl_core.evaluation.counts import checked
from medtl_core.evaluation.formulas import Float, figure, ratio
from medtl_core.evaluation.judgement import Judgement, SiteJudgement
from medtl_core.values import Scores

#: Cases compared with all others at a time.
_BLOCK = 512


def share(scores: Scores, weight: Float | None = None) -> Float:
    """Returns the concordant share of the pairs that can be compared, [B]; NaN where there is none.

    Args:
        scores: n cases of two classes with times; the risk is the log-odds of class 1, the event.
        weight: how often each case counts, float64 [n, B]; None = once.
    """
    risk, event = scores.logits[:, 1] - scores.logits[:, 0], scores.label == 1
    times = np.zeros(len(risk)) if scores.time is None else scores.time
    weight = np.ones((len(risk), 1)) if weight is None else weight
    concordant, comparable = np.zeros((2, weight.shape[1]))
    seen = np.flatnonzero(event)
    for first in range(0, len(seen), _BLOCK):
        rows = seen[first : first + _BLOCK, None]
        pair = (times[rows] < times) | ((times[rows] == times) & ~event)
        higher = pair * (0.5 + 0.5 * np.sign(risk[rows] - risk))
        concordant += (weight[rows[:, 0]] * (higher @ weight)).sum(axis=0)
        comparable += (weight[rows[:, 0]] * (pair @ weight)).sum(axis=0)
    return ratio(concordant, comparable)


def judge_times(scores: Scores, sites: Mapping[str, Scores]) -> Judgement:
    """Returns the concordance of all cases and within each site.

    Figures are `concordance`, `mean_of_sites`, the mean over the sites that have a pair to compare, and worst_site, the
    lowest of these. Whether a censored case was answered rightly nobody knows, so there are no others.
    """
    alone = {name: figure(share(checked(part))[0]) for name, part in sites.items()}
    known = [value for value in alone.values() if value is not None]
    figures = {
        "concordance": figure(share(checked(scores))[0]),
        "mean_of_sites": float(np.mean(known)) if known else None,
        "worst_site": min(known, default=None),
    }
    rows = {name: SiteJudgement(None, None, len(sites[name].label), value) for name, value in alone.items()}
    return Judgement(figures, rows)
