"""DeLong's variances from sums: a case's placement among all hospitals' cases follows from summed bins (see `delong`).

What a case adds to the error of an AUROC depends on its own bin and on how many cases of the other side all hospitals
have below it. Told that, a hospital sums products of what its patients add, and no more is needed for the variance of
each class, of their mean and of the difference of two methods, patients as clusters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.clinical.ranking import Ranking
from medtl_core.evaluation.federated import lower_edges
from medtl_core.evaluation.formulas import Float
from medtl_core.values import Array


def placements(ranking: Ranking) -> Float:
    """Returns what a case of each bin adds to the error of the AUROC, of the class and of others [2, bins].

    Zero where a side has no case.
    """
    positive, negative = ranking.positive, ranking.negative
    cases, others = positive.sum(), negative.sum()
    if not min(cases, others):
        return np.zeros((2, len(positive)))
    above = (np.cumsum(negative) - negative / 2) / others
    under = (np.cumsum(positive[::-1])[::-1] - positive / 2) / cases
    return np.stack([(above - ranking.area) / cases, (under - ranking.area) / others])


def products(placed: Float, odds: Float, sides: NDArray[np.bool_], patient: Array) -> dict[str, Float]:
    """Returns a hospital's sums over its patients.

    Args:
        placed: of H heads and K judged classes [H, K, 2, bins]; see `placements`.
        odds: of its cases [H, n, K].
        sides: whether a case is of the class, and whether of the others [n, K, 2]; neither where that is not known.
        patient: of each case [n].

    Returns:
        `products` [2 H K, 2 H K] of what each patient adds, and `shown` [K, 2], patients with a case of each side.
    """
    group = np.unique(patient, return_inverse=True)[1]
    bins, patients = np.searchsorted(lower_edges()[1:], odds, side="right"), int(group.max(initial=-1)) + 1
    columns = []
    for head, place in zip(placed, bins, strict=True):
        for cls in range(len(head)):
            for side in (0, 1):
                weights = head[cls, side][place[:, cls]] * sides[:, cls, side]
                columns.append(np.bincount(group, weights=weights, minlength=patients))
    table = np.stack(columns)
    shown = [[len(np.unique(group[sides[:, cls, side]])) for side in (0, 1)] for cls in range(sides.shape[1])]
    return {"products": np.asarray(table @ table.T, np.float64), "shown": np.asarray(shown, np.float64)}


@dataclass(frozen=True)
class Spread:
    """How sure AUROCs are that were read from sums.

    Attributes:
        names: of the methods.
        variances: of each class's [H, K], NaN where one patient alone is shown on a side.
        covariance: of the means over the classes [H, H].
    """

    names: tuple[str, ...]
    variances: Float
    covariance: Float

    @classmethod
    def of(cls, sums: Mapping[str, Float], names: Sequence[str], defined: NDArray[np.bool_]) -> Self:
        """Returns it from the hospitals' summed `products`; of classes [K] that are not `defined` all is NaN."""
        heads, classes, shown = len(names), len(defined), sums["shown"]
        factor = np.where(shown > 1, np.sqrt(shown / np.maximum(shown - 1, 1.0)), np.nan)
        factor[~defined] = np.nan
        weight = np.tile(factor.ravel(), heads)
        table = (sums["products"] * np.outer(weight, weight)).reshape((heads, classes, 2) * 2)
        of_class = np.einsum("hkihkj->hk", table)
        known = table[:, defined][:, :, :, :, defined]
        mean = known.sum(axis=(1, 2, 4, 5)) / max(int(defined.sum()), 1) ** 2
        return cls(tuple(names), of_class, mean if defined.any() else np.full((heads, heads), np.nan))

    def of_method(self, name: str) -> tuple[Float, float] | None:
        """Returns the variances of a method's classes [K] and of their mean; None of a method that is not told."""
        if name not in self.names:
            return None
        row = self.names.index(name)
        return self.variances[row], float(self.covariance[row, row])
