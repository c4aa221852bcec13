"""Counts of the distances of training cases, each to the cases without its fold: where the limit of outliers is set."""

import numpy as np

from medtl_core.clinical.distance import BINS, Distance
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.values import Released, Update

#: What a request holds of each fold.
PARTS = ("axes", "means", "spread", "scale")


def distances(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Training cases of the hospital by bins of their squared distance, `counts` [BINS]; see `clinical.distance`.

    Reads `axes` [F, k, d], `means` [F, C, d], `spread` [F, k + 1] and `scale` [F, d] of the cases without each fold.
    """
    fold, counts = site.fold(len(arrays["axes"])), np.zeros(BINS)
    for index, parts in enumerate(zip(*(arrays[name] for name in PARTS), strict=True)):
        counts += Distance(*parts).counted(site.values[fold == index])
    return Released(Update({"counts": counts}))


TASKS = {distances.__name__: distances}
