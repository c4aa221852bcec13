"""Weights of heads from cases that none of them saw, found without a case leaving its hospital.

The heads of a fold, trained without it, are judged by the hospitals on that fold, so every training case has honest
probabilities from every member, and the weights of their mean are fitted to these (super learner: van der Laan, Polley
and Hubbard 2007; stacking: Wolpert 1992). The probabilities stay: in each round hospitals return sums of losses,
gradients and curvatures for the weights they are sent, class by class, which is all that Newton's method needs.
"""

import numpy as np

from medtl_core.evaluation.calibration import WORST, log_softmax
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.super_learner import Point, best_point, class_sums, least_loss
from medtl_core.values import Array, Released, Update

#: Nats within which the weights are the best, and rounds after which they are taken as they are.
ENOUGH, ROUNDS = 1e-5, 12


def fitted_weights(study: Study, fold_heads: Float, phase: str) -> tuple[Point, int]:
    """Returns the weights of least class-balanced out-of-fold log-loss of heads [F, M, C, d + 1], and the rounds."""
    members, classes = fold_heads.shape[1:3]

    def best_of(tried: Float) -> Point:
        arrays: dict[str, Array] = {"heads": fold_heads.astype(np.float32), "weights": tried}
        expect = {
            "loss": ArraySpec((len(tried), classes)),
            "gradient": ArraySpec((len(tried), classes, members), most=0.0),
            "curvature": ArraySpec((len(tried), classes, members, members), least=0.0),
        }
        request = Request("stacked_losses", arrays, {"folds": study.settings.folds}, expect, phase)
        sums = study.hospitals.total(request)
        return best_point(tried, sums, study.statistics.counts)

    return least_loss(best_of, members, enough=ENOUGH, rounds=ROUNDS)


def stacked_losses(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums over the hospital's cases, each judged by the heads [F, M, C, d + 1] of its own fold, for weights [G, M].

    The sums are `super_learner.class_sums`; a case costs a member at most `WORST`.
    """
    heads = arrays["heads"].astype(np.float64)
    fold, logs = site.fold(int(config["folds"])), np.empty((heads.shape[1], len(site.label)))
    for index, members in enumerate(heads):
        rows = np.flatnonzero(fold == index)
        values, label = site.values[rows].astype(np.float64), site.label[rows]
        for member, head in enumerate(members):
            logs[member, rows] = log_softmax(values @ head[:, :-1].T + head[:, -1])[np.arange(len(rows)), label]
    likelihood = np.asarray(np.exp(np.maximum(logs, -WORST)))
    return Released(Update(class_sums(likelihood, site.label, site.classes, arrays["weights"].astype(np.float64))))


TASKS = {stacked_losses.__name__: stacked_losses}
