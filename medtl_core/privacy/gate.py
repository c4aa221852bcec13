"""The one path from a private task to something that leaves the hospital.

policy -> plan from agreed settings -> a sealed reply of the same request is sent again, at no cost -> integer noise ->
reserve in the ledger -> task -> sealed to disk -> released. What fails before the reservation refuses, and looks at no
patient. Afterwards a task that fails is answered with the noise alone, for a refusal would tell something of the
patients; only a disk that fails sends nothing, and a reservation without a release stays spent.
"""

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from medtl_core.errors import BudgetError, PrivacyError
from medtl_core.privacy.accounting import epsilon as epsilon_of
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.ledger import Key, Ledger
from medtl_core.privacy.noise import Entropy, discrete_gaussian
from medtl_core.privacy.plan import Plan, Step
from medtl_core.values import Array, PrivacyEvent, Released, Update

#: Grid of the fixed-point numbers that noise is added on, as a share of each array's sensitivity.
GRID = 2.0**-16

#: Sums of all hospitals, in units of the grid, stay below this: float64 holds them exactly, int64 with room for masks.
RANGE = 2.0**52

#: A millionth more noise covers the difference between the discrete and the continuous Gaussian.
_SLACK = 1.0 + 1e-6

_LOG = logging.getLogger("medtl")

#: What becomes of noised integers before they leave.
Finish = Callable[[Mapping[str, Array], Step], dict[str, Array]]


@dataclass(frozen=True)
class Demand:
    """What a message asks of the gate, in words of the agreed plan.

    Attributes:
        plan: recomputed at the hospital.
        step: index into its steps.
        number: of the round, from 1.
        digest: of the plan the server has in mind; another one is refused.
        shapes: of the sums, by name, as settings and message give them; no patient has a part in them.
        sharers: hospitals that share the noise of a secure sum, whoever else adds some; 0 = those of the plan.
    """

    plan: Plan
    step: int
    number: int
    digest: str
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sharers: int = 0


def check(demand: Demand) -> None:
    """Refuses what the agreed plan does not hold.

    Raises:
        PrivacyError: another plan, an unknown step, a round beyond those planned, or a step that counts on a sampling.
        BudgetError: the plan as a whole costs more than it promises.
    """
    plan = demand.plan
    if demand.digest != plan.digest:
        raise PrivacyError("the server asks under another plan than the settings give; server and site must agree")
    if not 0 <= demand.step < len(plan.steps):
        raise PrivacyError(f"step {demand.step} is not in the plan of {plan.mechanism}, which has {len(plan.steps)}")
    if not 1 <= demand.number <= plan.steps[demand.step].count:
        raise PrivacyError(f"round {demand.number} of step {demand.step} is beyond the plan of {plan.mechanism}")
    if any((step.sampling, step.inner) != (1, 1) for step in plan.steps):
        raise PrivacyError(f"the plan of {plan.mechanism} counts on a sampling of patients, which no release does")
    cost = epsilon_of(plan.events, plan.terms.delta)
    if not cost <= plan.terms.epsilon:  # also refuses NaN
        raise BudgetError(f"the plan of {plan.mechanism} costs epsilon {cost:.4g}, it promises {plan.terms.epsilon}")


def noised(bounded: Bounded, plan: Plan, step: int, entropy: Entropy) -> dict[str, Array]:
    """Returns the sums with discrete Gaussian noise, int64 multiples of `GRID` times each array's sensitivity.

    Guarantee:
        See `noise_of`.

    Raises:
        PrivacyError: see `whole_numbers` and `noise_of`.
    """
    whole = whole_numbers(bounded, plan, step)
    noise = noise_of({name: array.shape for name, array in whole.items()}, plan, step, entropy)
    return {name: array + noise[name] for name, array in whole.items()}


def noise_of(
    shapes: Mapping[str, tuple[int, ...]], plan: Plan, step: int, entropy: Entropy, sharers: int = 0
) -> dict[str, Array]:
    """Returns the discrete Gaussian noise of one step's sums, int64 multiples of `GRID` times each sensitivity.

    Under secure sum this hospital adds its share: variance sigma^2 / sharers (0 = K - t of the plan).

    Guarantee:
        For one patient added or removed, sensitivity as stated by the plan, enlarged by the rounding of d numbers to
        the grid (sqrt(d) times the grid), for which the noise is enlarged alike. Without secure sum the release has
        at least the step's noise multipliers; under secure sum the sum of that many hospitals' releases has.

    Raises:
        PrivacyError: the plan names other sums, or their noise cannot be drawn.
    """
    multipliers = plan.steps[step].noise
    if shapes.keys() != multipliers.keys():
        raise PrivacyError(f"the plan has noise for {sorted(multipliers)}, the sums are {sorted(shapes)}")
    share, noise = 1.0 / math.sqrt(sharers or plan.terms.honest) if plan.terms.secure else 1.0, {}
    for name, shape in shapes.items():
        widened = 1.0 / GRID + math.sqrt(math.prod(shape))  # sensitivity in grid units, after rounding
        noise[name] = discrete_gaussian(_SLACK * multipliers[name] * widened * share, shape, entropy)
    return noise


def whole_numbers(bounded: Bounded, plan: Plan, step: int) -> dict[str, Array]:
    """Returns the sums rounded to int64 multiples of `GRID` times each array's sensitivity.

    Raises:
        PrivacyError: a sum is not finite or beyond the fixed-point range, or the plan names other arrays.
    """
    multipliers, sensitivity = plan.steps[step].noise, plan.steps[step].sensitivity
    if dict(bounded.sensitivity) != dict(sensitivity) or multipliers.keys() != sensitivity.keys():
        raise PrivacyError(f"the plan prices {dict(sensitivity)}, the task sums {dict(bounded.sensitivity)}")
    whole = {}
    for name, array in bounded.update.arrays.items():
        if not np.isfinite(array).all():
            raise PrivacyError(f"the clipped sum {name!r} is not finite")
        scaled = np.rint(np.asarray(array, np.float64) / (bounded.sensitivity[name] * GRID))
        if np.abs(scaled).max(initial=0.0) * plan.terms.hospitals >= RANGE:
            raise PrivacyError(f"the clipped sum {name!r} is too large for fixed-point numbers")
        whole[name] = scaled.astype(np.int64)
    return whole


def unscaled(counts: Mapping[str, Array], step: Step) -> dict[str, Array]:
    """Returns integer sums as float64, in the units they were summed in; the server does it after a secure sum."""
    return {name: array.astype(np.float64) * (step.sensitivity[name] * GRID) for name, array in counts.items()}


def release(
    demand: Demand, task: Callable[[], Bounded], ledger: Ledger, key: Key, entropy: Entropy,
    finish: Finish = unscaled,
) -> Released:  # fmt: skip
    """Returns the private answer, new and paid for, or the sealed one of the same request.

    Args:
        demand: what is asked, checked against the plan first.
        task: computes the clipped sums.
        ledger: pays.
        key: names the release.
        entropy: of the noise.
        finish: turns noised integers into what leaves: `unscaled`, or under secure sum the masked vector.

    Guarantee:
        Whether there is an answer, its shapes and the ledger's records depend on message, plan, policy and ledger only:
        noise over zeros stands in for sums that cannot be made. Public: the answer and its cost.

    Raises:
        PrivacyError, BudgetError: it is refused; the ledger is intact and nothing is sent.
    """
    from safetensors.numpy import load, save

    check(demand)
    plan, step = demand.plan, demand.plan.steps[demand.step]
    sealed = ledger.sealed(key)
    if sealed is None:
        noise = noise_of(demand.shapes, plan, demand.step, entropy, demand.sharers)
        ledger.reserve(key, plan, step)
        sums = _sums(demand, task)
        if entropy.marked:
            ledger.note("noise of an insecure test stream: this release protects nobody")
        leaving = finish({name: sums[name] + array for name, array in noise.items()}, step)
        sealed = save({name: np.ascontiguousarray(array) for name, array in sorted(leaving.items())})
        ledger.release(key, sealed)
    event = PrivacyEvent(plan.mechanism, ledger.spent(plan.terms.delta), plan.terms.delta)
    return Released(Update(dict(load(sealed))), event)


def _sums(demand: Demand, task: Callable[[], Bounded]) -> dict[str, Array]:
    """The clipped sums as whole numbers, or zeros where there are none.

    The ledger has no word for it: the server is told how many records there are, and their hashes.
    """
    try:
        with np.errstate(all="ignore"):
            whole = whole_numbers(task(), demand.plan, demand.step)
        if {name: array.shape for name, array in whole.items()} != dict(demand.shapes):
            raise PrivacyError("the sums are not of the planned shapes")
    except Exception:
        step = demand.plan.steps[demand.step]
        _LOG.exception("the sums of %s could not be made; noise alone is released, and nobody is told", step.task)
        return {name: np.zeros(shape, np.int64) for name, shape in demand.shapes.items()}
    return whole
