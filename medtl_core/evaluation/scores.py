"""Figures of merit of scored cases. A figure that the cases do not define is None, never 0.5.

Every figure is written once, in `weighted` and `formulas`: plain figures count each case once, the bootstrap in
`intervals` as often as it was drawn, and `federated` sums the same counts over hospitals. Sums run over whole counts or
over terms rounded to 2^-28, so they are exact: no figure depends on the order of the cases or on how they are split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.formulas import (
    Curve,
    Figure,
    Float,
    calibration_gap,
    figure,
    mean_curve,
    reliability_points,
    roc_points,
)
from medtl_core.evaluation.weighted import BINS, WEIGHTED, calibration_bins, checked, ranked, weighted
from medtl_core.values import Array, Scores


@dataclass(frozen=True)
class Judgement:
    """All figures of one set of scored cases.

    Attributes:
        cases: number of cases.
        balanced_accuracy, auroc, auprc, sensitivity, specificity, ece, brier, log_loss: see the functions so named.
        worst_site: lowest balanced accuracy over the sites that show at least two classes.
        worst_site_name: that site.
        by_site: site -> balanced accuracy, auroc and n.
        confusion: [C][C] cases, true class by row, answer by column.
        roc: "all" and each site -> false and true positive rates; sites without a curve are missing.
        reliability: confidence, accuracy and count of each non-empty bin.
    """

    cases: int
    balanced_accuracy: Figure
    auroc: Figure
    auprc: Figure
    sensitivity: Figure
    specificity: Figure
    ece: Figure
    brier: Figure
    log_loss: Figure
    worst_site: Figure
    worst_site_name: str | None
    by_site: Mapping[str, Mapping[str, Figure]]
    confusion: Sequence[Sequence[int]]
    roc: Mapping[str, Curve]
    reliability: tuple[list[float], list[float], list[int]]

    @property
    def figures(self) -> dict[str, Figure]:
        """The plain figures by name."""
        names = [field.name for field in fields(self)]
        return {name: getattr(self, name) for name in names[1 : names.index("worst_site") + 1]}

    def as_dict(self) -> dict[str, Any]:
        """Returns the judgement in the form `result.json` keeps."""
        return {
            "cases": self.cases,
            "figures": self.figures,
            "worst_site_name": self.worst_site_name,
            "by_site": {site: dict(row) for site, row in self.by_site.items()},
            "confusion": [list(row) for row in self.confusion],
            "curves": {
                "roc": {site: [list(axis) for axis in curve] for site, curve in self.roc.items()},
                "reliability": [list(axis) for axis in self.reliability],
            },
        }


def judge(scores: Scores, *, bins: int = BINS) -> Judgement:
    """Returns every figure of the scored cases.

    Raises:
        DataError: the scores are not finite, or labels and logits do not fit each other.
    """
    checked(scores)
    worst = worst_site(scores)
    sites = {site: select(scores, scores.site == site) for site in _names(scores)}
    curves = {site: macro_roc(part) for site, part in {"all": scores, **sites}.items()}
    return Judgement(
        cases=len(scores.label),
        **plain(scores, tuple(WEIGHTED)),
        ece=expected_calibration_error(scores, bins),
        worst_site=worst[1] if worst else None,
        worst_site_name=worst[0] if worst else None,
        by_site=by_site(scores),
        confusion=confusion(scores).tolist(),
        roc={site: curve for site, curve in curves.items() if curve},
        reliability=reliability(scores, bins),
    )


def select(scores: Scores, index: Array) -> Scores:
    """Returns the scored cases at `index` (int or bool [m])."""
    return Scores(scores.logits[index], scores.label[index], scores.site[index], scores.group[index])


# ---- plain figures --------------------------------------------------------------------------------------------------


def balanced_accuracy(scores: Scores) -> Figure:
    """Returns the mean recall over the classes present; None without cases."""
    return _plain("balanced_accuracy", scores)


def auroc(scores: Scores) -> Figure:
    """Returns the area under the ROC curve, ties counted half.

    Two classes: class 1 against class 0 by difference of logits. More: the mean over classes, each against the rest by
    log-probability, of those that have cases on both sides (macro one-vs-rest, as scikit-learn's `roc_auc_score`).
    """
    return _plain("auroc", scores)


def auprc(scores: Scores) -> Figure:
    """Returns average precision: of class 1 for two classes, else the mean over classes defined as for `auroc`."""
    return _plain("auprc", scores)


def sensitivity_specificity(scores: Scores) -> tuple[Figure, Figure]:
    """Returns both at the likeliest class: of class 1 for two classes, else the mean of each class against the rest."""
    return _plain("sensitivity", scores), _plain("specificity", scores)


def brier(scores: Scores) -> Figure:
    """Returns the mean squared error of the probabilities, halved for two classes, as scikit-learn has it.

    It is the sum over classes for three and more, in [0, 2]; for two, the squared error of class 1, in [0, 1].
    """
    return _plain("brier", scores)


def log_loss(scores: Scores) -> Figure:
    """Returns the mean negative log-likelihood in nats."""
    return _plain("log_loss", scores)


def expected_calibration_error(scores: Scores, bins: int = BINS) -> Figure:
    """Returns the mean gap between confidence and accuracy over bins of equal width (Guo et al., ICML 2017, eq. 3)."""
    return calibration_gap(calibration_bins(scores, bins))


def worst_site(scores: Scores) -> tuple[str, float] | None:
    """Returns the site with the lowest balanced accuracy, among the sites that show at least two classes."""
    found = []
    for site in _names(scores):
        part = select(scores, scores.site == site)
        if len(np.unique(part.label)) > 1:
            found.append((float(balanced_accuracy(part) or 0.0), site))
    return (min(found)[1], min(found)[0]) if found else None


def by_site(scores: Scores) -> dict[str, dict[str, Figure]]:
    """Returns balanced accuracy, auroc and number of cases `n` of every site, in name order."""
    parts = {site: select(scores, scores.site == site) for site in _names(scores)}
    return {
        site: {"balanced_accuracy": balanced_accuracy(part), "auroc": auroc(part), "n": len(part.label)}
        for site, part in parts.items()
    }


def confusion(scores: Scores) -> NDArray[np.int64]:
    """Returns cases by true class (row) and answer (column), int64 [C, C]; ties go to the first class."""
    classes = checked(scores).logits.shape[1]
    cell = scores.label * classes + scores.logits.argmax(axis=1)
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes).astype(np.int64)


# ---- curves ---------------------------------------------------------------------------------------------------------


def roc_curve(scores: Scores, cls: int) -> tuple[Float, Float] | None:
    """Returns false and true positive rates of class `cls` against the rest, from (0, 0) to (1, 1), or None."""
    return roc_points(*_sides(scores, cls))


def pr_curve(scores: Scores, cls: int) -> tuple[Float, Float] | None:
    """Returns recall and precision of class `cls` against the rest, one point per distinct score, or None."""
    positive, negative = (np.cumsum(side[::-1]) for side in _sides(scores, cls))
    if not len(positive) or not positive[-1] or not negative[-1]:
        return None
    return positive / positive[-1], positive / (positive + negative)


def macro_roc(scores: Scores) -> Curve | None:
    """Returns the ROC curve of class 1 for two classes, else the mean curve over classes at 101 false positive rates.

    Averaging is vertical (Fawcett 2006, "An introduction to ROC analysis", section 8).
    """
    classes = checked(scores).logits.shape[1]
    return mean_curve([roc_curve(scores, cls) for cls in ((1,) if classes == 2 else range(classes))])


def reliability(scores: Scores, bins: int = BINS) -> tuple[list[float], list[float], list[int]]:
    """Returns mean confidence, accuracy and number of cases of each non-empty bin."""
    return reliability_points(calibration_bins(scores, bins))


def _sides(scores: Scores, cls: int) -> tuple[Float, Float]:
    positive, negative = ranked(checked(scores), cls, np.ones((len(scores.label), 1)))
    return positive[:, 0], negative[:, 0]


def plain(scores: Scores, names: Sequence[str]) -> dict[str, Figure]:
    """Returns several figures of `weighted.WEIGHTED` at once, every case counted once; None where undefined."""
    found = weighted(scores, np.ones((len(scores.label), 1)), names)
    return {name: figure(value[0]) for name, value in found.items()}


def _plain(name: str, scores: Scores) -> Figure:
    return plain(scores, [name])[name]


def _names(scores: Scores) -> list[str]:
    return sorted({str(site) for site in scores.site})
