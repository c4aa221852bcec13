"""Judging scored cases at hand."""

from collections.abc import Iterator, Sequence

import numpy as np

from medtl_core.evaluation.concordance import judge_pairs, pairs, share
from medtl_core.evaluation.counts import FIGURES, checked, counted, figures, judgement
from medtl_core.evaluation.formulas import Figure, Float, mean_defined
from medtl_core.evaluation.judgement import Judgement
from medtl_core.values import UNKNOWN, Array, Scores

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
    if scores.labels is not None:
        return _mean_weighted(scores, weight, names)
    weighed = counted(scores, weight, ranking=not _RANKED.isdisjoint(names))
    return {name: FIGURES[name](weighed) for name in names}


def balanced_accuracy(scores: Scores) -> Figure:
    """Returns the mean recall over the classes present; None without cases."""
    return plain(scores, ["balanced_accuracy"])["balanced_accuracy"]


def select(scores: Scores, index: Array) -> Scores:
    """Returns the scored cases at `index` (int or bool [m])."""
    columns = (None if column is None else column[index] for column in vars(scores).values())
    return Scores(*columns)  # type: ignore[arg-type]


def each_finding(scores: Scores) -> Iterator[tuple[Array, Scores]]:
    """Yields for each finding of a multi-label task the cases of which it is known (int [m]), scored in two classes.

    They are answered rightly where the log-odds of a finding that is there are above zero.
    """
    assert scores.labels is not None
    for odds, label in zip(scores.logits.T, scores.labels.T, strict=True):
        known = np.flatnonzero(label != UNKNOWN)
        logits = np.stack([np.zeros(len(known)), odds[known]], axis=1)
        yield known, Scores(logits, label[known].astype(np.int64), scores.site[known], scores.group[known])


def _mean_weighted(scores: Scores, weight: Float, names: Sequence[str]) -> dict[str, Float]:
    """Figures [B] as their means over the findings that some of the cases drawn show and some do not."""
    rows: dict[str, list[Float]] = {name: [] for name in names}
    for known, part in each_finding(scores):
        both = [weight[known[part.label == side]].sum(axis=0) > 0 for side in (0, 1)]
        for name, values in weighted(part, weight[known], names).items():
            rows[name].append(np.where(both[0] & both[1], values, np.nan))
    return {name: mean_defined(np.stack(values)) for name, values in rows.items()}
