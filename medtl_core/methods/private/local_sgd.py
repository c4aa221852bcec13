"""The usual recipe, as a baseline: every hospital trains with noise by itself, and the server averages the heads.

Noise of full size goes into every hospital's own training, so the average of K heads has sqrt K times the noise of one
private sum; it is the weakest of the federated ways measured (docs/results-privacy.md), and the reason for the others.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request, Value
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.private import PrivateMethod, PrivateTraining, phase_of, plan_of
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.methods.private.gradient import CLIP, clipped_gradient
from medtl_core.methods.private.pca_head import directions_of
from medtl_core.methods.private.public_pca import own_patients, public_map
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import Noising
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Array, Update

#: Rounds, local steps of a round, step of descent, and public directions (few: the noise grows with them).
ROUNDS, STEPS, RATE, SIZE = 5, 2, 4.0, 32


def private_training(site: SiteData, arrays: Arrays, config: Config, noising: Noising) -> dict[str, Array]:
    """A few full-batch steps of private gradient descent from the head in the message; returns the head [C, k].

    Guarantee:
        Unit: patient; add or remove one. Every step is a Gaussian release of sensitivity `CLIP`; the head is made of
        these and of public values. The divisor is the public number of cases, not the hospital's own.
    """
    own, head = own_patients(site, arrays), arrays["head"].astype(np.float64)
    for _ in range(int(config["steps"])):
        slope = noising(Bounded(Update({"gradient": clipped_gradient(head, own)}), {"gradient": CLIP}))["gradient"]
        head = head - RATE * (slope / float(config["cases"]) + 1e-2 * head)
    return {"head": head}


@final
@dataclass(frozen=True)
class Recipe(PrivateMethod):
    """FedAvg of local private training.

    Guarantee:
        See PrivateMethod: `rounds` x `STEPS` Gaussian releases of full size at every hospital.

    Attributes:
        rounds: of averaging; 0 = `ROUNDS`.
    """

    syntax: ClassVar[str] = r"private-sgd(-(?P<rounds>[1-9][0-9]{0,2}))?"
    example: ClassVar[str] = "private-sgd"
    summary: ClassVar[str] = "private baseline, the usual recipe: each hospital trains with noise, the server averages"
    test: ClassVar[str] = "server"
    secure: ClassVar[bool] = False

    rounds: int = 0

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        rounds = self.rounds or ROUNDS
        noise = {"gradient": math.sqrt(rounds * STEPS) / mu_for(terms.epsilon, terms.delta)}
        return Plan(self.name, terms, (Step("private_training", noise, {"gradient": CLIP}, rounds, inner=STEPS),))

    def outcome(self, study: Study) -> Outcome:
        """See Method.

        Raises:
            ConfigError: secure-sum is on; this recipe is the one that does without.
        """
        if study.settings.secure_sum:
            raise ConfigError(f"{self.name} has no secure sum: set secure-sum=false, or use private-gradient")
        map_, plan = public_map(study, SIZE), plan_of(self, study)
        head = np.zeros((len(study.problem.classes), map_.basis.shape[1]))
        phase = phase_of(self, plan, 0)
        for number in range(1, plan.steps[0].count + 1):
            config: dict[str, Value] = {"method": self.name, "step": 0, "round": number, "plan": plan.digest}
            config |= {"steps": STEPS, "cases": plan.terms.cases}
            arrays, expect = {**map_.arrays, "head": head}, {"head": ArraySpec(head.shape)}
            sent = Request("private_training", arrays, config, expect, phase, ledger=self.name)
            replies = [reply.arrays for reply in study.hospitals.ask(sent)]
            head = total(replies)["head"] / len(replies)
        facts: dict[str, Any] = {"epsilon": plan.terms.epsilon, "delta": plan.terms.delta}
        model = directions_of(study, map_, head, np.zeros(len(head)), facts)
        return Outcome({"": model}, {phase: Share()}, 0.0, facts)


METHODS: tuple[type[Method], ...] = (Recipe,)
PRIVATE_TRAINING: Mapping[str, PrivateTraining] = {"private_training": private_training}
