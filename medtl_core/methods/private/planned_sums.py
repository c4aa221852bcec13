"""The noised sums of a private method's plan: how its steps share the budget, and how hospitals are asked for them."""

import math
from collections.abc import Mapping
from functools import partial

import numpy as np

from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.outcome import Share
from medtl_core.federation.private import LARGEST_ASKED, PrivateMethod, terms_of
from medtl_core.federation.secure_sum import STAGES, secure_sum
from medtl_core.federation.study import Study
from medtl_core.fingerprint import agreement
from medtl_core.heads.statistics import diagonal
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.gate import GRID
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Array

#: More patients than a hospital has; deviations that Gaussian noise never reaches (2^-1158); sums of nothing negative.
_PATIENTS, _DEVIATIONS, _COUNTED = 2.0**20, 40.0, ("count", "counts")


def plan_of(method: PrivateMethod, study: Study) -> Plan:
    """Returns the method's plan in this study."""
    problem = study.problem
    return method.plan(terms_of(study.settings, problem.width, len(problem.classes)))


def sharing(terms: Terms, task: str, shares: Mapping[str, float], *, sensitivity: float = 1.0, count: int = 1) -> Step:
    """Returns the step whose sums, over all its releases together, take some shares of the budget.

    Args:
        terms: whose epsilon and delta are the budget.
        task: gives the sums.
        shares: of mu^2, by name of the sum; those of a plan's steps add up to 1.
        sensitivity: of each sum.
        count: of rounds.

    Guarantee:
        Steps whose shares add up to 1 are mu-GDP together, with the largest mu that is (epsilon, delta)-DP: mu^2 of a
        Gaussian release is one over its squared noise multiplier, and adds (`privacy.accounting`).
    """
    mu, releases = mu_for(terms.epsilon, terms.delta), math.sqrt(count)
    noise = {name: releases / (mu * math.sqrt(share)) for name, share in shares.items()}
    return Step(task, noise, dict.fromkeys(shares, sensitivity), count)


def noised_sum(
    study: Study, method: PrivateMethod, step: int, arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]],
    *, number: int = 1, config: Mapping[str, Value] | None = None,
) -> dict[str, Array]:  # fmt: skip
    """Returns the noised sums over all hospitals, float64, of one round of one step of the method's plan.

    What noise has carried beyond the numbers that hospitals read is sent as the largest of them.

    `step` is an index into its steps, `number` the round's, from 1 to the step's `count`; public arrays and values are
    sent along, `shapes` are those of the sums by name.

    Raises:
        RunError: a round missed its quorum, or too few hospitals were left for the promise to hold.
    """
    plan = plan_of(method, study)
    sent = {**(config or {}), "method": method.name, "step": step, "round": number, "plan": plan.digest}
    expect = {name: _released(plan.steps[step], name, shape) for name, shape in shapes.items()}
    read = {name: np.clip(array, -LARGEST_ASKED, LARGEST_ASKED) for name, array in arrays.items()}
    phase, check = _phase(method, plan, step), partial(_negative_gram, plan.steps[step])
    request = Request(plan.steps[step].task, read, sent, expect, phase, ledger=method.name, check=check)
    if study.settings.secure_sum:
        problem = study.problem
        agreed = agreement(study.settings, problem.classes, problem.fingerprint)
        return secure_sum(study.hospitals, request, plan, agreed)
    return total(reply.arrays for reply in study.hospitals.ask(request))


def _released(step: Step, name: str, shape: tuple[int, ...]) -> ArraySpec:
    """What a hospital's noised sum can be: whole units of the grid, of so many patients and so much noise at most."""
    unit, noise = step.sensitivity[name], _largest_noise(step, name)
    most = _PATIENTS * unit + noise
    return ArraySpec(shape, least=-noise if name in _COUNTED else -most, most=most, step=unit * GRID)


def _negative_gram(step: Step, sums: Mapping[str, Array], cases: int) -> str:
    """Refuses a packed Gram matrix whose diagonal, a sum of squares, is less than noise makes of nothing."""
    if "gram" not in sums:
        return ""
    squares = diagonal(sums["gram"], math.isqrt(2 * len(sums["gram"])))
    return "its Gram matrix is negative" if (squares < -_largest_noise(step, "gram")).any() else ""


def _largest_noise(step: Step, name: str) -> float:
    return _DEVIATIONS * step.noise[name] * step.sensitivity[name]


def bill_of(method: PrivateMethod, study: Study) -> dict[str, Share]:
    """Returns every phase the method's plan needs, with or without secure sum."""
    plan = plan_of(method, study)
    stages = [f":{stage.removeprefix('secure_')}" for stage in STAGES] if study.settings.secure_sum else [""]
    return {_phase(method, plan, step) + stage: Share() for step in range(len(plan.steps)) for stage in stages}


def _phase(method: PrivateMethod, plan: Plan, step: int) -> str:
    """The label under which a step is booked."""
    return f"{method.name}:{plan.steps[step].task}"
