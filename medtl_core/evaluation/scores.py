"""Judging scored cases at hand.

Every figure is written once, in `formulas`: plain figures count each case once, the bootstrap in `intervals` as often
as it was drawn, and `federated` sums the same counts over hospitals. Sums run over whole counts or over terms rounded
to 2^-28, so they are exact: no figure depends on the order of the cases or on how they are split.
"""

from collections.abc import Sequence

import numpy as np

from medtl_core.evaluation.counts import counted, judgement
from medtl_core.evaluation.formulas import Figure, figure
from medtl_core.evaluation.judgement import Judgement
from medtl_core.evaluation.weighted import weighted
from medtl_core.values import Array, Scores


def judge(scores: Scores) -> Judgement:
    """Returns every figure of the scored cases, without intervals.

    Raises:
        DataError: the scores are not finite, or labels and logits do not fit each other.
    """
    names = sorted({str(site) for site in scores.site})
    return judgement(counted(scores), {name: counted(select(scores, scores.site == name)) for name in names})


def plain(scores: Scores, names: Sequence[str]) -> dict[str, Figure]:
    """Returns figures of `weighted.WEIGHTED`, every case counted once; `counts.figures` says what they are."""
    values = weighted(scores, np.ones((len(scores.label), 1)), names)
    return {name: figure(value[0]) for name, value in values.items()}


def balanced_accuracy(scores: Scores) -> Figure:
    """Returns the mean recall over the classes present; None without cases."""
    return plain(scores, ["balanced_accuracy"])["balanced_accuracy"]


def auroc(scores: Scores) -> Figure:
    """Returns the area under the ROC curve, ties counted half, macro one-vs-rest for three and more classes."""
    return plain(scores, ["auroc"])["auroc"]


def select(scores: Scores, index: Array) -> Scores:
    """Returns the scored cases at `index` (int or bool [m])."""
    return Scores(scores.logits[index], scores.label[index], scores.site[index], scores.group[index])
