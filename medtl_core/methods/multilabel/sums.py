"""What a multi-label task's hospitals sum, in one exchange: of all cases, and of those of which a finding is known.

The features' sum and Gram matrix are those of all cases, whatever is known of them; of each finding there are beside
the number of cases that have it and that have it not, fold by fold, and the sums of their features. A hospital with
fewer cases than features tells the latter in the basis of its roots, as it does its other sums (`heads.statistics`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.features.dataset import Material
from medtl_core.federation.feature_map import Sums
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import ROUNDING, Float, Statistics, by_fold, is_few, pack, unpack, untrue
from medtl_core.values import Array, Released, Update

PHASE = "label_statistics"
#: Bytes up to which the server keeps the rows of hospitals' roots; beyond, gradients travel whole.
_KEPT = 1 << 30


@dataclass(frozen=True)
class LabelSums:
    """Sums over all hospitals, for S sets of cases: set 0 holds all, set s > 0 those outside fold s - 1.

    Attributes:
        shared: of all cases of each set, whatever is known of them, as one class.
        counts: float64 [S, L, 2], cases without and with each finding.
        sums: float64 [S, L, 2, d], of their features.
    """

    shared: Sums
    counts: Float
    sums: Float

    @property
    def sets(self) -> list[Statistics]:
        """The statistics of all cases of each set."""
        return [self.shared.whole, *self.shared.without]

    def told_apart(self, place: int) -> list[Statistics]:
        """Returns the two-class statistics of one finding in each set; the Gram matrix is that of all cases."""
        parts = zip(self.sets, self.counts, self.sums, strict=True)
        return [Statistics(counts[place], sums[place], part.gram) for part, counts, sums in parts]


def labels_of(material: Material | None) -> NDArray[np.int8]:
    """Returns the findings of some cases, int8 [n, L]; see `values.Examples`.

    Raises:
        DataError: they have none.
    """
    if material is None or "labels" not in material.examples.columns:
        raise DataError("the cases hold one class each; this run reads the findings of a multi-label task")
    return np.asarray(material.examples["labels"], np.int8)


def sides_of(labels: NDArray[np.int8]) -> Float:
    """Returns which cases are known to lack and to have each finding, float64 [n, L, 2], from labels [n, L]."""
    return np.stack([labels == 0, labels == 1], axis=2).astype(np.float64)


def label_statistics(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """What `pack` makes of all cases as one class; and of each finding `known` [F, L, 2], cases without and with it.

    Their features' sums are `known-sums` [F, L, 2, d]; of few cases `known-labels` [n, L, 2] in the basis of the roots.
    """
    folds, values, sides = int(config["folds"]), site.values, sides_of(labels_of(site.material))
    fold = site.fold(folds)
    everyone = pack(values, np.zeros(len(values), np.int64), 1, fold, folds)
    own = {"known": np.stack([sides[fold == index].sum(axis=0) for index in range(folds)])}
    if is_few(*values.shape):
        told = [np.tensordot(basis.T, sides[fold == at], axes=1) for at, basis in enumerate(site.bases(folds))]
        own["known-labels"] = np.concatenate(told)
    else:
        wide = values.astype(np.float64)
        of_folds = [np.tensordot(sides[fold == at], wide[fold == at], axes=(0, 0)) for at in range(folds)]
        own["known-sums"] = np.stack(of_folds)
    return Released(Update({**everyone.arrays, **own}))


def sums_of(study: Study) -> LabelSums:
    """Returns the sums of all hospitals, asked for once a study."""
    return study.once(PHASE, lambda: _asked(study))


def _asked(study: Study) -> LabelSums:
    folds, width, findings = study.settings.folds, study.problem.width, len(study.problem.classes)

    def shapes(cases: int) -> dict[str, ArraySpec]:
        counts = ArraySpec((folds, 1), least=0.0, step=1.0)
        known = {"counts": counts, "known": ArraySpec((folds, findings, 2), least=0.0, most=cases, step=1.0)}
        if is_few(cases, width):
            basis = {"labels": ArraySpec((cases, 1)), "rows": ArraySpec((cases, width + 1))}
            return {**known, **basis, "known-labels": ArraySpec((cases, findings, 2))}
        whole = {"sums": ArraySpec((folds, 1, width)), "gram": ArraySpec((folds, width * (width + 1) // 2))}
        return {**known, **whole, "known-sums": ArraySpec((folds, findings, 2, width))}

    parts = [Statistics(np.zeros(1), np.zeros((1, width)), np.zeros((width, width)))] * folds
    counts, sums, rows = np.zeros((folds, findings, 2)), np.zeros((folds, findings, 2, width)), {}
    keep = 8 * sum(study.hospitals.weights.values()) * (width + 1) <= _KEPT
    request = Request(PHASE, {}, {"folds": folds}, by_cases=shapes, check=_untrue)
    for reply in study.hospitals.ask(request):
        parts = [part + own for part, own in zip(parts, unpack(reply.arrays), strict=True)]
        counts, sums = counts + reply.arrays["known"], sums + _known_sums(reply.arrays)[..., :width]
        if keep and "rows" in reply.arrays:
            rows[reply.site] = by_fold(reply.arrays["rows"], reply.arrays["counts"])
    wholes = (counts.sum(axis=0), sums.sum(axis=0))
    of_sets = [np.concatenate([whole[None], whole - part]) for whole, part in zip(wholes, (counts, sums), strict=True)]
    return LabelSums(Sums.of(parts, rows), *of_sets)


def _known_sums(arrays: Mapping[str, Array]) -> Float:
    """The sums [F, L, 2, d] of a hospital's cases by finding; of roots the constant's, too."""
    if "known-sums" in arrays:
        return np.asarray(arrays["known-sums"], np.float64)
    parts = zip(*(by_fold(arrays[name], arrays["counts"]) for name in ("known-labels", "rows")), strict=True)
    return np.stack([np.tensordot(told, rows, axes=(0, 0)) for told, rows in parts])


def _untrue(arrays: Mapping[str, Array], cases: int) -> str:
    """Why a hospital's message cannot be true, or ""."""
    known, sums = arrays["known"], _known_sums(arrays)
    if (known.sum(axis=2) > arrays["counts"]).any():
        return "it counts more cases of a finding than it has"
    if sums[known == 0].any():
        return "it sums features of a finding of which it counts no case"
    if "rows" in arrays and (np.abs(sums[..., -1] - known) > ROUNDING * cases).any():  # the constant column
        return "its roots do not hold the cases of a finding that it counts"
    return untrue(arrays, cases)


TASKS = {PHASE: label_statistics}
