"""Sums of the scores of training cases, each by the head that never saw its fold: where thresholds are set."""

import numpy as np

from medtl_core.evaluation.federated import summarise
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.values import Released, Scores, Update


def fold_scores(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Evaluation sums of the hospital's training cases by heads [M, F, C, d + 1], F folds each; see `summarise`."""
    folds = arrays["heads"].shape[1]
    fold, values = site.fold(folds), np.asarray(site.values, np.float64)
    group, name = np.arange(len(fold)), np.full(len(fold), site.name)
    sums = []
    for heads in arrays["heads"].astype(np.float64):
        logits = np.einsum("nd,ncd->nc", values, heads[fold, :, :-1], optimize=True) + heads[fold, :, -1]
        sums.append(summarise(Scores(logits, site.label, name, group)).arrays)
    return Released(Update({key: np.stack([each[key] for each in sums]) for key in sums[0]}))


TASKS = {fold_scores.__name__: fold_scores}
