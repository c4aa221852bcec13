"""Ensembles of heads solved from sums, weighed without a labelled case at the server.

The heads of a fold, trained without it, are judged by the hospitals on that fold; so every training case has honest
probabilities from every member, and the weights of their mean are fitted to these (super learner: van der Laan, Polley
and Hubbard 2007; stacking: Wolpert 1992). The probabilities stay: in each round hospitals return sums of losses,
gradients and curvatures for the weights they are sent, class by class, which is all that Newton's method needs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.evaluation.ensemble import drop_rule
from medtl_core.federation.feature_map import Solved, solve
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method, Need
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import WORST, choose
from medtl_core.heads.statistics import Float
from medtl_core.methods.gradient import RIVAL
from medtl_core.methods.mixture import Mixture
from medtl_core.methods.simplex import Point, candidates, likelihood_sums
from medtl_core.values import Array, Released, Update

#: Nats within which the weights are the best, and rounds after which they are taken as they are.
ENOUGH, ROUNDS = 1e-5, 12


def stacked_losses(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums over the hospital's cases, each judged by the heads [F, M, C, d + 1] of its own fold, for weights [G, M].

    By class: `loss` [G, C], `gradient` [G, C, M] and `curvature` [G, C, M, M] of the mean probability's log-loss.
    """
    likelihood = _likelihood(site, arrays["heads"], int(config["folds"]))
    weights, shape = arrays["weights"].astype(np.float64), (len(arrays["weights"]), site.classes)
    members = weights.shape[1]
    loss, gradient, curvature = np.zeros(shape), np.zeros((*shape, members)), np.zeros((*shape, members, members))
    for place in np.unique(site.label):
        part = likelihood[:, site.label == place]
        for row, one in enumerate(weights):
            loss[row, place], gradient[row, place], curvature[row, place] = likelihood_sums(part, one)
    return Released(Update({"loss": loss, "gradient": gradient, "curvature": curvature}))


def _likelihood(site: SiteData, heads: Float, folds: int) -> Float:
    """Probability [M, n] of the true class by the members that never saw the case; a case costs at most `WORST`."""
    fold = site.fold(folds)
    logs = np.empty((heads.shape[1], len(site.label)))
    for index in range(folds):
        rows = np.flatnonzero(fold == index)
        if len(rows):
            found = heads[index].astype(np.float64)
            logits = site.values[rows].astype(np.float64) @ found[:, :, :-1].swapaxes(1, 2) + found[:, None, :, -1]
            top = logits.max(axis=2, keepdims=True)
            own = np.take_along_axis(logits - top, site.label[None, rows, None], axis=2)[..., 0]
            logs[:, rows] = own - np.log(np.exp(logits - top).sum(axis=2))
    return np.asarray(np.exp(np.maximum(logs, -WORST)))


def members_of(study: Study, *, trained: bool = False) -> dict[str, Solved]:
    """Returns every closed-form family on all taps, the discriminant on every shorter run of taps, and adjusted FedAvg.

    Args:
        study: asks.
        trained: whether FedAvg (`RIVAL`, as `auto` weighs it) is among them.
    """
    members = study.once("ensemble-members", lambda: _closed(study))
    return {**members, RIVAL.name: study.once("ensemble-fedavg", lambda: _trained(study))} if trained else members


def _trained(study: Study) -> Solved:
    """The adjusted FedAvg head, and those of each fold, at the temperature that cross-validation finds."""
    stack = RIVAL.heads(study)
    choice = choose(study.features.judged(stack[1:, None], "validate-ensemble"), study.statistics.counts)
    stack = stack * choice.temperature
    return Solved(stack[0], stack[1:], choice, 0.0, 0.0)


def _closed(study: Study) -> dict[str, Solved]:
    members = {name: Candidates(name) for name in FAMILIES}
    shorter = [taps for taps, columns in study.runs().items() if len(columns) < study.problem.width]
    members |= {f"discriminant@{taps}": Candidates("discriminant", taps) for taps in shorter}
    candidates = {name: (study.family(candidate), study.sums) for name, candidate in members.items()}
    return solve(study.features, candidates, "validate-members")


def fitted_weights(study: Study, fold_heads: Float, phase: str) -> tuple[Point, int]:
    """Returns the weights of least class-balanced out-of-fold log-loss of heads [F, M, C, d + 1], and the rounds."""
    members = fold_heads.shape[1]
    best = _asked(study, fold_heads, np.full((1, members), 1.0 / members), phase)
    rounds = 1
    while best.gap > ENOUGH and rounds < ROUNDS:
        found = _asked(study, fold_heads, candidates(best), phase)
        rounds += 1
        if found.loss >= best.loss:  # rounding
            break
        best = found
    return best, rounds


def _asked(study: Study, fold_heads: Float, tried: Float, phase: str) -> Point:
    """The best of some weights [G, M], judged by all hospitals in one exchange."""
    members, classes = fold_heads.shape[1:3]
    counts = study.statistics.counts
    case = np.where(counts > 0, 1.0 / np.maximum(counts, 1.0), 0.0) / max(int((counts > 0).sum()), 1)
    arrays: dict[str, Array] = {"heads": fold_heads.astype(np.float32), "weights": tried}
    expect = {
        "loss": ArraySpec((len(tried), classes)),
        "gradient": ArraySpec((len(tried), classes, members)),
        "curvature": ArraySpec((len(tried), classes, members, members)),
    }
    request = Request("stacked_losses", arrays, {"folds": study.settings.folds}, expect, phase)
    sums = total(reply.arrays for reply in study.hospitals.ask(request))
    return min(_points(tried, sums, case), key=lambda point: point.loss)


def _points(tried: Float, sums: Mapping[str, Float], case: Float) -> Iterator[Point]:
    for row, weights in enumerate(tried):
        parts = {name: np.tensordot(case, array[row], axes=1) for name, array in sums.items()}
        yield Point(weights, float(parts["loss"]), parts["gradient"], parts["curvature"])


@final
@dataclass(frozen=True)
class Stacked(Method):
    """A mean of the probabilities of heads solved from the same sums, without the members that are clearly worse.

    Attributes:
        weighing: "equal", or "stacked": of least out-of-fold log-loss.
        trained: whether adjusted FedAvg is among the members.
    """

    syntax: ClassVar[str] = "ensemble-(?P<weighing>equal|stacked)(?P<trained>-fedavg)?"
    example: ClassVar[str] = "ensemble-stacked"
    summary: ClassVar[str] = "mean probability of closed-form heads and taps; stacked: weights from out-of-fold losses"

    weighing: str
    trained: bool

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method."""
        return RIVAL.needs(study) if self.trained else ()

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        members = members_of(study, trained=self.trained)
        dropped = drop_rule({name: member.choice.balanced_accuracy for name, member in members.items()})
        kept = {name: member for name, member in members.items() if name not in dropped}
        bill = dict.fromkeys(("statistics", "validate-members"), Share())
        if self.trained:
            bill |= {**RIVAL.bill(study), "validate-ensemble": Share()}
        losses = {name: member.choice.loss for name, member in kept.items()}
        facts: dict[str, Any] = {"members": list(kept), "dropped": list(dropped), "cv_losses": losses}
        weights = np.full(len(kept), 1.0 / len(kept))
        if self.weighing == "stacked":
            stack = np.stack([member.without for member in kept.values()], axis=1)
            point, rounds = fitted_weights(study, stack, self.name)
            weights, bill = point.weights, {**bill, self.name: Share()}
            facts |= {"cv_loss": point.loss, "gap": point.gap, "rounds": rounds}
            facts["cv_gain"] = min(losses.values()) - point.loss
        mixture = Mixture.of(study, {name: member.affine for name, member in kept.items()}, weights, facts)
        spent = sum(member.server_cpu for member in members.values())
        return Outcome({"": mixture}, bill, spent, mixture.facts)


METHODS: tuple[type[Method], ...] = (Stacked,)
TASKS: Mapping[str, Task] = {stacked_losses.__name__: stacked_losses}
