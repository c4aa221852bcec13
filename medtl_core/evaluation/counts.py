"""Counts of scored cases, and the judgement that follows from them: of cases at hand, or of sums over hospitals.

Counts of disjoint cases add up to those of all of them, so figures from summed counts are the pooled figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
    reliability_points,
    roc_points,
    rounded,
)
from medtl_core.evaluation.judgement import ALL_SITES, Curves, Judgement, Reliability, SiteJudgement
from medtl_core.values import Scores

#: Bins of equal width for calibration, by confidence of the answer.
BINS = 15


@dataclass(frozen=True)
class Counts:
    """What every figure of some cases is computed from.

    Attributes:
        ranks: for each class, float64 [k] cases of it and [k] others, by rising score of the class.
        confusion: float64 [C, C], cases by true class and answer.
        calibration: float64 [3, bins]: cases, summed confidence and correct answers by confidence of the answer.
        sums: float64 [3]: cases, Brier score, log-loss.
        binned: whether one step of `ranks` may hold different scores.
    """

    ranks: Sequence[tuple[Float, Float]]
    confusion: Float
    calibration: Float
    sums: Float
    binned: bool = False

    @property
    def judged_ranks(self) -> Sequence[tuple[Float, Float]]:
        """Class 1 against class 0 for two classes; for more, each against the rest."""
        return self.ranks[1:] if len(self.ranks) == 2 else self.ranks


def figures(counts: Counts) -> dict[str, Figure]:
    """Returns the plain figures of counted cases; None where they do not define one, never 0.5.

    `balanced_accuracy` is the mean recall over the classes present. `auroc` (ties count half) and `auprc` (average
    precision) are those of class 1 for two classes, else the mean over the classes that have cases on both sides, each
    against the rest (macro one-vs-rest). `sensitivity` and `specificity` at the likeliest class likewise. `ece` is the
    mean gap between confidence and accuracy over bins of equal width (Guo et al., ICML 2017, eq. 3). `brier` is the
    mean squared error of the probabilities, summed over classes, but for two that of class 1, as in scikit-learn.
    `log_loss` is the mean negative log-likelihood in nats.
    """
    confusion, ranks = counts.confusion, counts.judged_ranks
    precision = binned_precision if counts.binned else average_precision
    answers = from_answers(np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0))
    cases, square, loss = counts.sums.tolist()
    return {
        "balanced_accuracy": figure(answers["balanced_accuracy"]),
        "auroc": figure(mean_defined(np.stack([area_under_roc(*sides) for sides in ranks]))),
        "auprc": figure(mean_defined(np.stack([precision(*sides) for sides in ranks]))),
        "sensitivity": figure(answers["sensitivity"]),
        "specificity": figure(answers["specificity"]),
        "ece": calibration_gap(counts.calibration),
        "brier": square / cases if cases else None,
        "log_loss": loss / cases if cases else None,
    }


def judgement(everyone: Counts, sites: Mapping[str, Counts]) -> Judgement:
    """Returns the judgement of all cases and of each site's; the worst site is one that shows at least two classes."""
    alone = {name: figures(sites[name]) for name in sorted(sites)}
    shown = {name: sites[name].confusion.sum(axis=1) for name in alone}
    accuracies = [row["balanced_accuracy"] or 0.0 for name, row in alone.items() if (shown[name] > 0).sum() > 1]
    curves = {ALL_SITES: _roc(everyone), **{name: _roc(sites[name]) for name in alone}}
    return Judgement(
        {**figures(everyone), "worst_site": min(accuracies, default=None)},
        {
            name: SiteJudgement(row["balanced_accuracy"], row["auroc"], int(shown[name].sum()))
            for name, row in alone.items()
        },
        Curves(
            {name: curve for name, curve in curves.items() if curve},
            Reliability(*reliability_points(everyone.calibration)),
        ),
    )


def _roc(counts: Counts) -> Curve | None:
    """The curve of class 1 for two classes, else the vertical mean over classes (Fawcett 2006, section 8)."""
    return mean_curve([roc_points(*sides) for sides in counts.judged_ranks])


# ---- counting scored cases -------------------------------------------------------------------------------------------


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


def counted(scores: Scores) -> Counts:
    """Returns the counts of cases, each counted once and ranked by its exact scores."""
    once = np.ones((len(checked(scores).label), 1))
    ranks = [ranked(scores, cls, once) for cls in range(scores.logits.shape[1])]
    sides = [(positive[:, 0], negative[:, 0]) for positive, negative in ranks]
    return Counts(sides, confusion(scores), calibration_bins(scores), loss_sums(scores))


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


def case_losses(scores: Scores) -> dict[str, Float]:
    """Returns each case's `brier` and `log_loss` [n], rounded so that their sums are exact."""
    logs = log_softmax(scores.logits)
    rows, classes = np.arange(len(logs)), logs.shape[1]
    error = np.exp(logs)
    error[rows, scores.label] -= 1.0
    square = (error**2).sum(axis=1) / (2.0 if classes == 2 else 1.0)
    return {"brier": rounded(square), "log_loss": rounded(-logs[rows, scores.label])}


def loss_sums(scores: Scores) -> Float:
    """Returns the number of cases, and their summed Brier score and log-loss, [3]."""
    losses = case_losses(scores)
    return np.array([len(scores.label), losses["brier"].sum(), losses["log_loss"].sum()])


def ranked(scores: Scores, cls: int, weight: Float) -> tuple[Float, Float]:
    """Returns weights of cases of `cls` and of the others by rising distinct score of `cls`, [k, B] each.

    The score is the difference of logits for two classes, else the log-probability of `cls`.

    Args:
        scores: n cases.
        cls: the class.
        weight: how often each case counts, whole numbers, float64 [n, B].
    """
    logits = scores.logits
    score = logits[:, cls] - logits[:, 1 - cls] if logits.shape[1] == 2 else log_softmax(logits)[:, cls]
    order = np.argsort(score, kind="stable")
    score, weight = score[order], weight[order]
    positive = weight * (scores.label[order] == cls)[:, None]
    negative = weight - positive
    first = np.flatnonzero(np.diff(score, prepend=-np.inf) > 0)
    if len(first) < len(score):  # ties form one step
        positive, negative = (np.add.reduceat(side, first, axis=0) for side in (positive, negative))
    return positive, negative
