"""Counts of scored cases, and the judgement that follows from them: of cases at hand, or of sums over hospitals.

Counts of disjoint cases add up to those of all of them, so figures from summed counts are the pooled figures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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
)
from medtl_core.evaluation.judgement import ALL_SITES, Curves, Judgement, Reliability, SiteJudgement


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
