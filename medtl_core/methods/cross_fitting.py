"""Weights of an ensemble from the server's labelled cases: none chooses the weights under which it is judged."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medtl_core.evaluation.calibration import WORST, log_softmax
from medtl_core.evaluation.formulas import Figure, Float
from medtl_core.evaluation.intervals import strata
from medtl_core.evaluation.scores import balanced_accuracy, select
from medtl_core.methods.models.mixture import mean_of_probabilities
from medtl_core.methods.super_learner import best_point, class_sums, least_loss
from medtl_core.rng import bucket
from medtl_core.values import Array, Scores

#: Fewer labelled cases than this leave the weights equal: with few, fitted ones are mostly noise (docs/methods.md).
FEWEST = 200

#: Points of balanced accuracy below the best member from which on a member is dropped.
MARGIN = 0.03

_ENOUGH = 1e-6


def combine(members: Sequence[Scores], weights: Array | None = None) -> Scores:
    """Returns the mean probability of members' scores of the same cases, as log-probabilities; None = equal weights."""
    weight = np.full(len(members), 1.0 / len(members)) if weights is None else np.asarray(weights, np.float64)
    return replace(members[0], logits=mean_of_probabilities([member.logits for member in members], weight))


def validation_weighted(members: Sequence[Scores]) -> Float:
    """Returns the weights [M] of the mean probability with the lowest class-balanced log-loss on these cases.

    They are super-learner weights if the members never saw the cases, within 1e-6 nats of the least loss; equal below
    200 cases. A case costs a member at most 20 nats.
    """
    label, classes = members[0].label, members[0].logits.shape[1]
    if len(label) < FEWEST:
        return np.full(len(members), 1.0 / len(members))
    logs = np.stack([log_softmax(member.logits)[np.arange(len(label)), label] for member in members])
    likelihood = np.exp(np.maximum(logs, -WORST))
    counts = np.bincount(label, minlength=classes).astype(np.float64)
    return least_loss(
        lambda tried: best_point(tried, class_sums(likelihood, label, classes, tried), counts),
        len(members), enough=_ENOUGH, rounds=50,
    )[0].weights  # fmt: skip


def drop_rule(accuracies: Mapping[str, Figure]) -> tuple[str, ...]:
    """Returns the members whose balanced accuracy lies more than `MARGIN` below the best; undefined ones stay.

    An ensemble with a clearly worse member is worse than its best member (docs/methods.md).
    """
    defined = {name: value for name, value in accuracies.items() if value is not None}
    best = max(defined.values(), default=0.0)
    return tuple(name for name, value in defined.items() if best - value > MARGIN + 1e-12)


def cross_fitted(members: Mapping[str, Scores], *, seed: int = 0) -> tuple[Scores, dict[str, Any]]:
    """Returns the ensemble's scores of all cases, none of which chose its own weights, and the facts on all cases.

    Patients are cut in two halves, alike in classes. Members are dropped and weights fitted on one half and applied to
    the other, both ways; so the figures of the result are as honest as those of a single member. The facts, from all
    cases together, are the `weights` of every member and the names of those `dropped`.
    """
    first = next(iter(members.values()))
    half, logits = _halves(first, seed), np.empty_like(first.logits, dtype=np.float64)
    for side in (0, 1):
        fitted, _ = _fit(members, half != side)
        judged = [select(member, half == side) for member in members.values()]
        logits[half == side] = combine(judged, fitted).logits
    weights, dropped = _fit(members, np.ones(len(half), dtype=np.bool_))
    facts = {"weights": dict(zip(members, weights.tolist(), strict=True)), "dropped": list(dropped)}
    return replace(first, logits=logits), facts


def _fit(members: Mapping[str, Scores], rows: Array) -> tuple[Float, tuple[str, ...]]:
    """Weights [M] from some rows, 0 for dropped members, and the names of those."""
    scores = {name: select(member, rows) for name, member in members.items()}
    dropped = drop_rule({name: balanced_accuracy(member) for name, member in scores.items()})
    weights = np.array([float(name not in dropped) for name in members])
    weights[weights > 0] = validation_weighted([scores[name] for name in members if name not in dropped])
    return weights, dropped


def _halves(scores: Scores, seed: int) -> Array:
    """Side 0 or 1 of each case [n]: by patient, alternating within the rarest class a patient shows."""
    patient, stratum = strata(scores)
    names = np.unique(scores.group)
    order = sorted(range(len(names)), key=lambda i: (stratum[i], bucket(seed, f"half/{names[i]}", 2**32)))
    side = np.empty(len(names), dtype=np.int64)
    side[order] = np.arange(len(order)) % 2
    return side[patient]
