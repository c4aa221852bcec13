"""The nuisance scatter S_D: how far each hospital's class means lie from the class means of all."""

from dataclasses import replace

import numpy as np

from medtl_core.federation.feature_map import Sums
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float, Statistics, collect, square, upper
from medtl_core.values import Released, Update


def spread_of_means(statistics: Statistics) -> Float:
    """Returns the sum over classes seen of n_c m_c m_c^T, float64 [d, d], with m_c the class mean."""
    counts = statistics.counts
    seen = counts > 0.5  # counts are whole; a difference of sums may leave 1e-16
    return np.asarray((statistics.sums[seen].T / counts[seen]) @ statistics.sums[seen])


def spread(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """This hospital's spread of class means from all its cases, then without each fold: upper triangles [F + 1, ...].

    The folds are needed one by one because, unlike Gram matrices, these do not subtract.
    """
    folds = int(config["folds"])
    fold = site.fold(folds)
    subsets = [fold != index for index in range(-1, folds)]  # no case is in fold -1
    own = [collect(site.values[rows], site.label[rows], site.classes) for rows in subsets]
    return Released(Update({"spread": np.stack([upper(spread_of_means(part)) for part in own])}))


def scatter(study: Study) -> list[Float]:
    """Returns S_D [d, d] of all cases, then without each fold (phase "nuisance_spread")."""
    folds, width = study.settings.folds, study.problem.width
    expect = {"spread": ArraySpec((folds + 1, width * (width + 1) // 2))}
    request = Request("nuisance_spread", config={"folds": folds}, expect=expect)
    rows = study.hospitals.total(request)["spread"]
    pooled = (study.sums.whole, *study.sums.without)
    return [square(row, width) - spread_of_means(part) for row, part in zip(rows, pooled, strict=True)]


def penalised(sums: Sums, scatters: list[Float], penalty: float) -> Sums:
    """Returns the statistics with the penalty times S_D added to each Gram matrix."""
    whole, *without = (
        replace(statistics, gram=statistics.gram + penalty * extra)
        for statistics, extra in zip((sums.whole, *sums.without), scatters, strict=True)
    )
    return Sums(whole, without)


TASKS = {"nuisance_spread": spread}
