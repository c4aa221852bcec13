"""Judging scored cases at hand."""

from collections.abc import Sequence

from medtl_core.evaluation.concordance import judge_pairs, pairs, share
from medtl_core.evaluation.counts import FIGURES, checked, counted, figures, judgement
from medtl_core.evaluation.formulas import Figure, Float
from medtl_core.evaluation.judgement import Judgement
from medtl_core.values import Array, Scores

_RANKED = frozenset(("auroc", "auprc"))


def judge(scores: Scores) -> Judgement:
    """Returns every figure of the scored cases, without intervals; of cases followed over time, their concordance.

    Raises:
        DataError: the scores are not finite, or labels and logits do not fit each other.
    """
    names = sorted({str(site) for site in checked(scores).site})
    parts = {name: select(scores, scores.site == name) for name in names}
    if scores.time is not None:
        sites = {name: pairs(part)[:, 0] for name, part in parts.items()}
        return judge_pairs(pairs(scores)[:, 0], sites, {name: len(part.label) for name, part in parts.items()})
    return judgement(counted(scores), {name: counted(part) for name, part in parts.items()})


def plain(scores: Scores, names: Sequence[str]) -> dict[str, Figure]:
    """Returns some of `counts.FIGURES`; None where undefined."""
    return figures(counted(scores, ranking=not _RANKED.isdisjoint(names)), names)


def weighted(scores: Scores, weight: Float, names: Sequence[str]) -> dict[str, Float]:
    """Returns figures of the cases counted `weight` times, float64 [B] each, NaN where undefined.

    Args:
        scores: n cases.
        weight: whole numbers, float64 [n, B].
        names: among `counts.FIGURES`, but for `ece`, which counts each case once; or "concordance" alone.
    """
    if "concordance" in names:
        return {"concordance": share(scores, weight)}
    weighed = counted(scores, weight, ranking=not _RANKED.isdisjoint(names))
    return {name: FIGURES[name](weighed) for name in names}


def balanced_accuracy(scores: Scores) -> Figure:
    """Returns the mean recall over the classes present; None without cases."""
    return plain(scores, ["balanced_accuracy"])["balanced_accuracy"]


def auroc(scores: Scores) -> Figure:
    """Returns the area under the ROC curve, ties counted half, macro one-vs-rest for three and more classes."""
    return plain(scores, ["auroc"])["auroc"]


def select(scores: Scores, index: Array) -> Scores:
    """Returns the scored cases at `index` (int or bool [m])."""
    time = None if scores.time is None else scores.time[index]
    return Scores(scores.logits[index], scores.label[index], scores.site[index], scores.group[index], time)
