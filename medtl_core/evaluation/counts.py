"""Counts of scored cases, and the figures that follow from them: of cases at hand, drawn again, or summed.

Every figure is written once here, from counts: plain figures count each case once, the bootstrap in `intervals` as
often as it was drawn, and `federated` has the counts of all hospitals, which are the sums of theirs. Sums run over
whole counts or over terms rounded to 2^-28, so they are exact: no figure depends on the order of the cases or on how
they are split.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_softmax
from medtl_core.evaluation.formulas import (
    Curve,
    Figure,
    Float,
    area_under_roc,
    average_precision,
    binned_precision,
    calibration_gap,
    figure,
    from_answers,
    mean_curve,
    mean_defined,
    ratio,
    reliability_points,
    roc_points,
    rounded,
)
from medtl_core.evaluation.judgement import ALL_SITES, Confusion, Curves, Judgement, Reliability, SiteJudgement
from medtl_core.values import Scores

#: Bins of equal width for calibration, by confidence of the answer.
BINS = 15


@dataclass(frozen=True)
class Counts:
    """What every figure of some cases is computed from, the cases counted in B ways at once.

    Attributes:
        ranks: cases of a class and others [k, B] by rising score: of class 1 for two classes, else of each.
        answers: cases of each class that were answered with it, cases of it, and cases answered with it, [C, B] each.
        sums: cases, Brier score and log-loss, [3, B].
        calibration: cases, summed confidence and correct answers by confidence of the answer [3, bins], each case once.
        table: cases by true class (row) and answer [C, C], each case once.
        binned: whether one step of `ranks` may hold different scores.
    """

    ranks: Sequence[tuple[Float, Float]]
    answers: tuple[Float, Float, Float]
    sums: Float
    calibration: Float
    table: Float
    binned: bool = False


#: Figures of counts, [B], NaN where the cases do not define one.
#:
#: `balanced_accuracy` is the mean recall over the classes present. `auroc` (ties count half) and `auprc` (average
#: precision) are those of class 1 for two classes, else the mean over the classes that have cases on both sides, each
#: against the rest (macro one-vs-rest). `sensitivity` and `specificity` at the likeliest class likewise. `ece` is the
#: mean gap between confidence and accuracy over bins of equal width (Guo et al., ICML 2017, eq. 3). `brier` is the mean
#: squared error of the probabilities, summed over classes, but for two that of class 1, as in scikit-learn. `log_loss`
#: is the mean negative log-likelihood in nats.
FIGURES: Mapping[str, Callable[[Counts], Float]] = {
    "balanced_accuracy": lambda counts: from_answers(*counts.answers)["balanced_accuracy"],
    "auroc": lambda counts: mean_defined(np.stack([area_under_roc(*sides) for sides in counts.ranks])),
    "auprc": lambda counts: mean_defined(
        np.stack([(binned_precision if counts.binned else average_precision)(*sides) for sides in counts.ranks])
    ),
    "sensitivity": lambda counts: from_answers(*counts.answers)["sensitivity"],
    "specificity": lambda counts: from_answers(*counts.answers)["specificity"],
    "ece": lambda counts: np.array([calibration_gap(counts.calibration)]),
    "brier": lambda counts: ratio(counts.sums[1], counts.sums[0]),
    "log_loss": lambda counts: ratio(counts.sums[2], counts.sums[0]),
}


def figures(counts: Counts, names: Sequence[str] = tuple(FIGURES)) -> dict[str, Figure]:
    """Returns figures of cases that are counted once; None where undefined, never 0.5."""
    return {name: figure(FIGURES[name](counts)[0]) for name in names}


def judgement(everyone: Counts, sites: Mapping[str, Counts]) -> Judgement:
    """Returns the judgement of all cases and of each site's; the worst site is one that shows at least two classes."""
    alone = {name: figures(sites[name], ("balanced_accuracy", "auroc")) for name in sorted(sites)}
    shown = {name: sites[name].answers[1][:, 0] for name in alone}
    accuracies = [row["balanced_accuracy"] or 0.0 for name, row in alone.items() if (shown[name] > 0).sum() > 1]
    curves = {ALL_SITES: _curve(everyone), **{name: _curve(sites[name]) for name in alone}}
    return Judgement(
        {**figures(everyone), "worst_site": min(accuracies, default=None)},
        {
            name: SiteJudgement(**row, n=int(shown[name].sum()), confusion=_rows(sites[name]))
            for name, row in alone.items()
        },
        Curves(
            {name: curve for name, curve in curves.items() if curve},
            Reliability(*reliability_points(everyone.calibration)),
        ),
        confusion=_rows(everyone),
    )


def _rows(counts: Counts) -> Confusion:
    return tuple(tuple(map(int, row)) for row in counts.table)


def _curve(counts: Counts) -> Curve | None:
    """The ROC curve of class 1 for two classes, else the vertical mean over classes (Fawcett 2006, section 8)."""
    return mean_curve([roc_points(positive[:, 0], negative[:, 0]) for positive, negative in counts.ranks])


# ---- counting scored cases ------------------------------------------------------------------------------------------


def counted(scores: Scores, weight: Float | None = None, *, ranking: bool = True) -> Counts:
    """Returns the counts of cases at hand.

    Args:
        scores: n cases.
        weight: how often each case counts, whole numbers, float64 [n, B]; None = once.
        ranking: whether `ranks` are needed, which take the longest.

    Raises:
        DataError: the scores cannot be judged.
    """
    checked(scores)
    weight = np.ones((len(scores.label), 1)) if weight is None else weight
    classes = scores.logits.shape[1]
    present, answered = (side == np.arange(classes)[:, None] for side in (scores.label, scores.logits.argmax(axis=1)))
    hits, cases, answers = (mask.astype(np.float64) @ weight for mask in (present & answered, present, answered))
    ranks = [ranked(score, scores.label == cls, weight) for cls, score in _rankings(scores.logits)] if ranking else []
    sums = np.stack([loss @ weight for loss in case_losses(scores)])
    return Counts(ranks, (hits, cases, answers), sums, calibration_bins(scores), confusion(scores))


def checked(scores: Scores) -> Scores:
    """Returns the scores unchanged.

    Raises:
        DataError: they cannot be judged; the message says why, without any case's values.
    """
    logits, cases = scores.logits, len(scores.label)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise DataError(f"scores have shape {logits.shape}; judging needs [cases, classes] with at least two classes")
    if len(logits) != cases or len(scores.site) != cases or len(scores.group) != cases:
        raise DataError(f"{len(logits)} rows of logits for {cases} labels; every case needs logits, label, site, group")
    if cases and not (scores.label.min() >= 0 and scores.label.max() < logits.shape[1]):
        raise DataError(f"labels run outside the {logits.shape[1]} classes of the logits; check the agreed classes")
    if not np.isfinite(logits).all():
        raise DataError("logits are not finite; the head or its features are broken (a missing class is values.ABSENT)")
    return scores


def confusion(scores: Scores) -> Float:
    """Returns cases by true class (row) and answer (column), float64 [C, C]; ties go to the first class."""
    classes = scores.logits.shape[1]
    cell = scores.label * classes + scores.logits.argmax(axis=1)
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes).astype(np.float64)


def calibration_bins(scores: Scores) -> Float:
    """Returns cases, summed confidence and correct answers [3, BINS] by confidence of the answer."""
    confidence = np.exp(log_softmax(scores.logits).max(axis=1))
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    right = scores.logits.argmax(axis=1) == scores.label
    terms = (np.ones(len(place)), rounded(confidence), right)
    return np.stack([np.bincount(place, weights=term, minlength=BINS) for term in terms])


def case_losses(scores: Scores) -> Float:
    """Returns 1, the Brier score and the log-loss of each case [3, n], rounded so that their sums are exact."""
    logs = log_softmax(scores.logits)
    rows, classes = np.arange(len(logs)), logs.shape[1]
    error = np.exp(logs)
    error[rows, scores.label] -= 1.0
    square = (error**2).sum(axis=1) / (2.0 if classes == 2 else 1.0)
    return np.stack([np.ones(len(logs)), rounded(square), rounded(-logs[rows, scores.label])])


def _rankings(logits: Float) -> list[tuple[int, Float]]:
    """Classes that are ranked, each with the scores [n]: the difference of two logits, else the log-probabilities."""
    return [(1, logits[:, 1] - logits[:, 0])] if logits.shape[1] == 2 else [*enumerate(log_softmax(logits).T)]


def ranked(score: Float, mine: NDArray[np.bool_], weight: Float) -> tuple[Float, Float]:
    """Returns weights of cases of a class and of the others by rising distinct score, [k, B] each.

    Args:
        score: of the class [n].
        mine: whether a case is of the class [n].
        weight: [n, B].
    """
    order = np.argsort(score, kind="stable")
    score, weight = score[order], weight[order]
    positive = weight * mine[order][:, None]
    negative = weight - positive
    first = np.flatnonzero(np.diff(score, prepend=-np.inf) > 0)
    if len(first) < len(score):  # ties form one step
        positive, negative = (np.add.reduceat(side, first, axis=0) for side in (positive, negative))
    return positive, negative
