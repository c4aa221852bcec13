"""Ensembles of heads solved from sums, weighed without a labelled case at the server.

The heads of a fold, trained without it, are judged by the hospitals on that fold; so every training case has honest
probabilities from every member, and the weights of their mean are fitted to these (super learner: van der Laan, Polley
and Hubbard 2007; stacking: Wolpert 1992). The probabilities stay: in each round hospitals return sums of losses,
gradients and curvatures for the weights they are sent, class by class, which is all that Newton's method needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.evaluation.calibration import log_softmax
from medtl_core.federation.feature_map import Solved
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method, Need
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import WORST, choose
from medtl_core.heads.statistics import Float
from medtl_core.methods.cross_fitting import drop_rule
from medtl_core.methods.gradient import RIVAL
from medtl_core.methods.models.mixture import Mixture
from medtl_core.methods.super_learner import Point, best_point, class_sums, least_loss
from medtl_core.values import Array, Released, Update

#: Nats within which the weights are the best, and rounds after which they are taken as they are.
ENOUGH, ROUNDS = 1e-5, 12


def stacked_losses(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums over the hospital's cases, each judged by the heads [F, M, C, d + 1] of its own fold, for weights [G, M].

    The sums are `super_learner.class_sums`.
    """
    likelihood = _likelihood(site, arrays["heads"], int(config["folds"]))
    return Released(Update(class_sums(likelihood, site.label, site.classes, arrays["weights"].astype(np.float64))))


def _likelihood(site: SiteData, heads: Float, folds: int) -> Float:
    """Probability [M, n] of the true class by the members that never saw the case; a case costs at most `WORST`."""
    fold = site.fold(folds)
    logs = np.empty((heads.shape[1], len(site.label)))
    for index in range(folds):
        rows = np.flatnonzero(fold == index)
        values, label = site.values[rows].astype(np.float64), site.label[rows]
        for member, head in enumerate(heads[index].astype(np.float64)):
            logs[member, rows] = log_softmax(values @ head[:, :-1].T + head[:, -1])[np.arange(len(rows)), label]
    return np.asarray(np.exp(np.maximum(logs, -WORST)))


def _closed(study: Study) -> dict[str, Candidates]:
    """Every closed-form family on all taps, and the discriminant on every shorter run of taps, by name."""
    shorter = [taps for taps, columns in study.runs().items() if len(columns) < study.problem.width]
    members = {name: Candidates(name) for name in FAMILIES}
    return members | {f"discriminant@{taps}": Candidates("discriminant", taps) for taps in shorter}


def _trained(study: Study) -> Solved:
    """The adjusted FedAvg head, and those of each fold, at the temperature that cross-validation finds."""
    stack = RIVAL.heads(study)
    choice = choose(study.features.judged(stack[1:, None], "validate-ensemble"), study.statistics.counts)
    stack = stack * choice.temperature
    return Solved(stack[0], stack[1:], choice, 0.0, 0.0)


def fitted_weights(study: Study, fold_heads: Float, phase: str) -> tuple[Point, int]:
    """Returns the weights of least class-balanced out-of-fold log-loss of heads [F, M, C, d + 1], and the rounds."""
    members, classes = fold_heads.shape[1:3]

    def best_of(tried: Float) -> Point:
        arrays: dict[str, Array] = {"heads": fold_heads.astype(np.float32), "weights": tried}
        expect = {
            "loss": ArraySpec((len(tried), classes)),
            "gradient": ArraySpec((len(tried), classes, members)),
            "curvature": ArraySpec((len(tried), classes, members, members)),
        }
        request = Request("stacked_losses", arrays, {"folds": study.settings.folds}, expect, phase)
        sums = total(reply.arrays for reply in study.hospitals.ask(request))
        return best_point(tried, sums, study.statistics.counts)

    return least_loss(best_of, members, enough=ENOUGH, rounds=ROUNDS)


@final
@dataclass(frozen=True)
class Stacked(Method):
    """A mean of the probabilities of heads solved from the same sums, without the members that are clearly worse.

    Attributes:
        weighing: "equal", or "stacked": of least out-of-fold log-loss.
        trained: whether adjusted FedAvg (`RIVAL`, as `auto` weighs it) is among the members.
    """

    syntax: ClassVar[str] = "ensemble-(?P<weighing>equal|stacked)(?P<trained>-fedavg)?"
    example: ClassVar[str] = "ensemble-stacked"
    summary: ClassVar[str] = "mean probability of closed-form heads and taps; stacked: weights from out-of-fold losses"

    weighing: str
    trained: bool

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return (*_closed(study).values(), *(RIVAL.needs(study) if self.trained else ()))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        closed = _closed(study)
        members = {name: study.solved(need.family, need.columns_key) for name, need in closed.items()}
        bill = study.closed_bill(list(closed.values()))
        if self.trained:
            members[RIVAL.name] = study.once("ensemble-fedavg", lambda: _trained(study))
            bill |= {**RIVAL.bill(study), "validate-ensemble": Share()}
        dropped = drop_rule({name: member.choice.balanced_accuracy for name, member in members.items()})
        stay = {name: member for name, member in members.items() if name not in dropped}
        losses = {name: member.choice.loss for name, member in stay.items()}
        facts: dict[str, Any] = {"members": list(stay), "dropped": list(dropped), "cv_losses": losses}
        weights = np.full(len(stay), 1.0 / len(stay))
        if self.weighing == "stacked":
            stack = np.stack([member.without for member in stay.values()], axis=1)
            point, rounds = fitted_weights(study, stack, self.name)
            weights, bill = point.weights, {**bill, self.name: Share()}
            facts |= {"cv_loss": point.loss, "gap": point.gap, "rounds": rounds}
            facts["cv_gain"] = min(losses.values()) - point.loss
        mixture = Mixture.of(study, {name: member.affine for name, member in stay.items()}, weights, facts)
        spent = sum(member.server_cpu for member in members.values())
        return Outcome({"": mixture}, bill, spent, mixture.facts)


METHODS: tuple[type[Method], ...] = (Stacked,)
TASKS: Mapping[str, Task] = {stacked_losses.__name__: stacked_losses}
