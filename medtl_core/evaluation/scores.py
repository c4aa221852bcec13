"""Judging scored cases at hand.

Every figure is written once, in `formulas`: plain figures count each case once, the bootstrap in `intervals` as often
as it was drawn, and `federated` sums the same counts over hospitals. Sums run over whole counts or over terms rounded
to 2^-28, so they are exact: no figure depends on the order of the cases or on how they are split.
"""

from collections.abc import Sequence

import numpy as np

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import log_softmax
from medtl_core.evaluation.counts import Counts, figures, judgement
from medtl_core.evaluation.formulas import Figure, Float, rounded
from medtl_core.evaluation.judgement import Judgement
from medtl_core.values import Array, Scores

#: Bins of equal width for calibration, by confidence of the answer.
BINS = 15


def judge(scores: Scores) -> Judgement:
    """Returns every figure of the scored cases, without intervals.

    Raises:
        DataError: the scores are not finite, or labels and logits do not fit each other.
    """
    names = sorted({str(site) for site in scores.site})
    return judgement(counted(scores), {name: counted(select(scores, scores.site == name)) for name in names})


def plain(scores: Scores, names: Sequence[str]) -> dict[str, Figure]:
    """Returns some of the figures that `counts.figures` describes."""
    judged = figures(counted(scores))
    return {name: judged[name] for name in names}


def balanced_accuracy(scores: Scores) -> Figure:
    """Returns the mean recall over the classes present; None without cases."""
    return plain(scores, ["balanced_accuracy"])["balanced_accuracy"]


def auroc(scores: Scores) -> Figure:
    """Returns the area under the ROC curve, ties counted half, macro one-vs-rest for three and more classes."""
    return plain(scores, ["auroc"])["auroc"]


def select(scores: Scores, index: Array) -> Scores:
    """Returns the scored cases at `index` (int or bool [m])."""
    return Scores(scores.logits[index], scores.label[index], scores.site[index], scores.group[index])


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


# ---- counting -------------------------------------------------------------------------------------------------------


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
