"""What hospitals answer late fusion: who has which modality, and how heads and weights do on cases they never saw."""

import numpy as np

from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import TEMPERATURES, WORST, held_out
from medtl_core.methods.models.fused import member_logits, present, weighted
from medtl_core.values import Released, Update


def fusion_presence(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts [F, M, C] of the training cases of each fold that have each modality."""
    there, fold, folds = present(site.values, arrays["bounds"]), site.fold(int(config["folds"])), int(config["folds"])
    onehot = np.eye(site.classes)[site.label]
    counts = np.stack([there[fold == index].T.astype(np.float64) @ onehot[fold == index] for index in range(folds)])
    return Released(Update({"counts": counts}))


def fusion_validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """`heads.crossval.held_out` of heads [F, S, C, d + 1], each on the cases that have its modality `member` [S]."""
    there, heads, fold = present(site.values, arrays["bounds"]), arrays["heads"], site.fold(len(arrays["heads"]))
    strengths, classes = heads.shape[1:3]
    losses, hits = np.zeros((strengths, len(TEMPERATURES), classes)), np.zeros((strengths, classes))
    for index in range(there.shape[1]):
        rows, mine = there[:, index], np.asarray(arrays["member"] == index)
        sums = held_out(heads[:, mine], site.values[rows], site.label[rows], fold[rows]).arrays
        losses[mine], hits[mine] = sums["losses"], sums["hits"]
    return Released(Update({"losses": losses, "hits": hits}))


def fusion_compare(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How far weights [K, M] of heads [F, M, C, d + 1] lie apart on cases that none of the heads saw.

    Answers `losses` [K, C], summed by class, and `squares` [M, K]: over patients, the squares of what the weighted loss
    (by `weight` [C]) of each modality alone on all cases of the patient exceeds that of other weights by.
    """
    heads, tried = arrays["heads"].astype(np.float64), arrays["weights"].astype(np.float64)
    fold, label, there = site.fold(len(heads)), site.label, present(site.values, arrays["bounds"])
    costs = np.zeros((len(tried), len(label)))
    for index, stack in enumerate(heads):
        rows = np.flatnonzero(fold == index)
        logits = member_logits(site.values[rows], stack)
        for number, weights in enumerate(tried):
            mixed = weighted(logits, there[rows], weights)
            mixed -= mixed.max(axis=1, keepdims=True)
            costs[number, rows] = np.log(np.exp(mixed).sum(axis=1)) - mixed[np.arange(len(rows)), label[rows]]
    costs = np.minimum(costs, WORST)
    patient = np.unique(site.patients, return_inverse=True)[1]
    squares = np.zeros((tried.shape[1], len(tried)))
    for row, unit in enumerate(np.eye(tried.shape[1])):
        alone = int(np.flatnonzero((tried == unit).all(axis=1))[0])
        for number in range(len(tried)):
            apart = (costs[alone] - costs[number]) * arrays["weight"][label]
            squares[row, number] = (np.bincount(patient, weights=apart) ** 2).sum()
    return Released(Update({"losses": costs @ np.eye(site.classes)[label], "squares": squares}))


TASKS = {task.__name__: task for task in (fusion_presence, fusion_validate, fusion_compare)}
