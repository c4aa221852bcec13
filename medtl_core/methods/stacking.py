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
from medtl_core.evaluation.ensemble import drop_rule
from medtl_core.evaluation.super_learner import Point, best_point, class_sums, least_loss
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.names import RIVAL
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.rounds import Exchange, run_rounds
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import WORST, Choice, choose, fold_of
from medtl_core.heads.statistics import Float
from medtl_core.methods.mixture import Mixture
from medtl_core.methods.network import recipe_config
from medtl_core.values import Array, Released, Update

#: Nats within which the weights are the best, and rounds after which they are taken as they are.
ENOUGH, ROUNDS = 1e-5, 12


def stacked_losses(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums over the hospital's cases, each judged by the heads [F, M, C, d + 1] of its own fold, for weights [G, M].

    The sums are `evaluation.super_learner.class_sums`.
    """
    likelihood = _likelihood(site, arrays["heads"], int(config["folds"]))
    return Released(Update(class_sums(likelihood, site.label, site.classes, arrays["weights"].astype(np.float64))))


def _likelihood(site: SiteData, heads: Float, folds: int) -> Float:
    """Probability [M, n] of the true class by the members that never saw the case; a case costs at most `WORST`."""
    fold = fold_of(site.patients, site.label, folds, site.seed)
    logs = np.empty((heads.shape[1], len(site.label)))
    for index in range(folds):
        rows = np.flatnonzero(fold == index)
        values, label = site.values[rows].astype(np.float64), site.label[rows]
        for member, head in enumerate(heads[index].astype(np.float64)):
            logs[member, rows] = log_softmax(values @ head[:, :-1].T + head[:, -1])[np.arange(len(rows)), label]
    return np.asarray(np.exp(np.maximum(logs, -WORST)))


@final
@dataclass(frozen=True)
class Members:
    """Heads that may join an ensemble.

    Attributes:
        heads: name -> float64 [C, d + 1], from all cases, temperature folded in.
        fold_heads: name -> float64 [F, C, d + 1], each without its fold.
        choices: what cross-validation says of each.
        server_cpu: CPU seconds spent on solving them.
    """

    heads: Mapping[str, Float]
    fold_heads: Mapping[str, Float]
    choices: Mapping[str, Choice]
    server_cpu: float

    @property
    def dropped(self) -> tuple[str, ...]:
        """Members whose cross-validated balanced accuracy lies clearly below the best; see `ensemble.drop_rule`."""
        return drop_rule({name: choice.balanced_accuracy for name, choice in self.choices.items()})

    @property
    def kept(self) -> tuple[str, ...]:
        """The other members."""
        return tuple(name for name in self.heads if name not in self.dropped)


def members_of(study: Study, *, trained: bool = False) -> Members:
    """Returns every closed-form family on all taps, the discriminant on every shorter run of taps, and adjusted FedAvg.

    Args:
        study: asks.
        trained: whether FedAvg (`RIVAL`, as `auto` weighs it) is among them.
    """
    members = study.once("ensemble-members", lambda: _members(study))
    if not trained:
        return members
    stack, choice = study.once("ensemble-fedavg", lambda: _trained(study))
    return Members(
        {**members.heads, RIVAL.name: stack[0] * choice.temperature},
        {**members.fold_heads, RIVAL.name: stack[1:] * choice.temperature},
        {**members.choices, RIVAL.name: choice},
        members.server_cpu,
    )


def _trained(study: Study) -> tuple[Float, Choice]:
    """The adjusted FedAvg heads [1 + F, C, d + 1], all cases' and each fold's, and what cross-validation says."""
    if "auto" in study.names:
        stack = study.course(RIVAL.algorithm).heads[RIVAL.rounds]
    else:
        config = {**recipe_config(study), "proximal": 0.0}
        exchange = Exchange("fit", "fit-ensemble", RIVAL.rounds, config, study.moments.standardisation)
        start = np.zeros((1 + study.settings.folds, len(study.problem.classes), study.problem.width + 1))
        stack = run_rounds(study.hospitals, exchange, {"heads": start}).last["heads"].astype(np.float64)
    finished = study.finished(stack, RIVAL.adjusted)
    found = study.validate(finished[1:, None], "validate-ensemble")
    return finished, choose(found, study.statistics.counts)


def _members(study: Study) -> Members:
    everywhere = np.arange(study.problem.width)
    wanted = {name: (name, everywhere) for name in FAMILIES}
    wanted |= {
        f"discriminant@{taps}": ("discriminant", columns)
        for taps, columns in study.runs().items()
        if len(columns) < study.problem.width
    }
    with study.clock("ensemble-members") as spent:
        whole = study.statistics
        stacks = {
            key: np.stack([study.spread(family, whole - fold, columns) for fold in study.folds])
            for key, (family, columns) in wanted.items()
        }
    answers = study.validate(np.concatenate(list(stacks.values()), axis=1), "validate-members")
    heads, fold_heads, choices, start = {}, {}, {}, 0
    for key, (family, columns) in wanted.items():
        stop = start + stacks[key].shape[1]
        part = Update({name: array[start:stop] for name, array in answers.arrays.items()})
        choice, start = choose(part, whole.counts), stop
        heads[key] = study.spread(family, whole, columns)[choice.index] * choice.temperature
        fold_heads[key] = stacks[key][:, choice.index] * choice.temperature
        choices[key] = choice
    return Members(heads, fold_heads, choices, spent[0])


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
        trained: whether adjusted FedAvg is among the members.
    """

    syntax: ClassVar[str] = "ensemble-(?P<weighing>equal|stacked)(?P<trained>-fedavg)?"
    example: ClassVar[str] = "ensemble-stacked"
    summary: ClassVar[str] = "mean probability of closed-form heads and taps; stacked: weights from out-of-fold losses"

    weighing: str
    trained: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        members = members_of(study, trained=self.trained)
        kept = members.kept
        heads = {name: members.heads[name] for name in kept}
        bill = dict.fromkeys(("statistics", "validate-members"), Share())
        if self.trained:
            fitting = "fit-fedavg" if "auto" in study.names else "fit-ensemble"
            bill |= dict.fromkeys(("moments", fitting, "validate-ensemble"), Share())
        losses = {name: members.choices[name].loss for name in kept}
        facts: dict[str, Any] = {"members": list(kept), "dropped": list(members.dropped), "cv_losses": losses}
        weights = np.full(len(kept), 1.0 / len(kept))
        if self.weighing == "stacked":
            stack = np.stack([members.fold_heads[name] for name in kept], axis=1)
            point, rounds = fitted_weights(study, stack, self.name)
            weights, bill = point.weights, {**bill, self.name: Share()}
            facts |= {"cv_loss": point.loss, "gap": point.gap, "rounds": rounds}
            facts["cv_gain"] = min(losses.values()) - point.loss
        mixture = Mixture.of(study, heads, weights, facts)
        return Outcome({"": mixture}, bill, members.server_cpu, mixture.facts, members=mixture.in_use(study))


METHODS: tuple[type[Method], ...] = (Stacked,)
TASKS: Mapping[str, Task] = {stacked_losses.__name__: stacked_losses}
