"""Private methods: a plan made from public facts, and sums that only leave a hospital with noise."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from medtl_core.config import Settings
from medtl_core.errors import PrivacyError
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Share
from medtl_core.federation.secure_sum import STAGES, secure_sum
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.fingerprint import agreement
from medtl_core.privacy.accounting import default_delta, mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Array

#: A hospital's private task: clipped sums with their sensitivities; the gate adds the noise.
PrivateTask = Callable[[SiteData, Arrays, Config], Bounded]


@dataclass(frozen=True)
class PrivateMethod(Method):
    """A method whose every release is planned, noised and paid for.

    Guarantee:
        (epsilon, delta)-DP of everything hospitals send for this method, for one patient added or removed, with
        epsilon and delta of the terms. Public: the settings, the terms, and what `outcome` makes of the noised sums.
    """

    test: ClassVar[str] = "server"

    @abstractmethod
    def plan(self, terms: Terms) -> Plan:
        """Returns every release the method will ask for, calibrated so that all of them together keep the promise.

        Server and hospital call it alike, with public facts only; a hospital never takes a plan from a message.
        """


def terms_of(settings: Settings, width: int, classes: int) -> Terms:
    """Returns the public facts of a run.

    Raises:
        PrivacyError: the public number of cases is not stated, or delta is not below 1 / cases.
    """
    cases = settings.public_cases or settings.shots
    if cases < 2:
        raise PrivacyError("privacy needs a public number of patients at every hospital: set public-cases (or shots)")
    delta = settings.delta or default_delta(cases)
    if delta >= 1.0 / cases:
        raise PrivacyError(f"delta={delta} promises little to {cases} patients; it must be below 1 / {cases}")
    return Terms(
        settings.epsilon, delta, settings.sites, settings.colluders, cases, width, classes, settings.secure_sum
    )


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

    `step` is an index into its steps, `number` the round's, from 1 to the step's `count`; public arrays and values are
    sent along, `shapes` are those of the sums by name.

    Raises:
        RunError: a round missed its quorum, or too few hospitals were left for the promise to hold.
    """
    plan = plan_of(method, study)
    sent = {**(config or {}), "method": method.name, "step": step, "round": number, "plan": plan.digest}
    expect = {name: ArraySpec(shape) for name, shape in shapes.items()}
    request = Request(plan.steps[step].task, arrays, sent, expect, _phase(method, plan, step), ledger=method.name)
    if study.settings.secure_sum:
        problem = study.problem
        agreed = agreement(study.settings, problem.classes, problem.fingerprint)
        return secure_sum(study.hospitals, request, plan, agreed)
    return total(reply.arrays for reply in study.hospitals.ask(request))


def bill_of(method: PrivateMethod, study: Study) -> dict[str, Share]:
    """Returns every phase the method's plan needs, with or without secure sum."""
    plan = plan_of(method, study)
    stages = [f":{stage.removeprefix('secure_')}" for stage in STAGES] if study.settings.secure_sum else [""]
    return {_phase(method, plan, step) + stage: Share() for step in range(len(plan.steps)) for stage in stages}


def _phase(method: PrivateMethod, plan: Plan, step: int) -> str:
    """The label under which a step is booked."""
    return f"{method.name}:{plan.steps[step].task}"
