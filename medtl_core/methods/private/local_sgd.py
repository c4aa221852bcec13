"""The usual recipe, as a baseline: every hospital trains with noise by itself, and the server averages the heads.

Noise of full size goes into every hospital's own training, so the average of K heads has sqrt K times the noise of one
private sum; it is the weakest of the federated ways measured (docs/results-privacy.md), and the reason for the others.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.federation.folds import total
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateTraining, plan_of, request_of, sharing
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.gradient import CLIP, clipped_gradient
from medtl_core.methods.private.pca_head import PrivateHead
from medtl_core.methods.private.public_pca import own_patients
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.gate import Noising
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Array, Update

#: Rounds, local steps of a round, and step of descent. Few directions are kept below: the noise grows with them.
ROUNDS, STEPS, RATE = 5, 2, 4.0


def private_training(site: SiteData, arrays: Arrays, config: Config, noising: Noising) -> dict[str, Array]:
    """A few full-batch steps of private gradient descent from the head in the message; returns the head [C, k].

    Guarantee:
        Unit: patient; add or remove one. Every step is a Gaussian release of sensitivity `CLIP`; the head is made of
        these and of public values. The divisor is the public number of cases, not the hospital's own.
    """
    patients, head = own_patients(site, arrays), arrays["head"].astype(np.float64)
    for _ in range(int(config["steps"])):
        slope = noising(Bounded(Update({"gradient": clipped_gradient(head, patients)}), {"gradient": CLIP}))["gradient"]
        head = head - RATE * (slope / float(config["cases"]) + 1e-2 * head)
    return {"head": head}


@final
@dataclass(frozen=True)
class LocalSgd(PrivateHead):
    """FedAvg of local private training.

    Guarantee:
        See PrivateMethod: `rounds` x `STEPS` Gaussian releases of full size at every hospital.

    Attributes:
        rounds: of averaging; 0 = `ROUNDS`.
    """

    syntax: ClassVar[str] = r"private-sgd(-(?P<rounds>[1-9][0-9]{0,2}))?"
    example: ClassVar[str] = "private-sgd"
    summary: ClassVar[str] = "private baseline, the usual recipe: each hospital trains with noise, the server averages"
    secure: ClassVar[bool] = False

    DIRECTIONS: ClassVar[int] = 32

    rounds: int = 0

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        rounds, shares = self.rounds or ROUNDS, {"gradient": 1.0}
        return Plan(
            self.name, terms, (sharing(terms, "private_training", shares, sensitivity=CLIP, count=rounds, inner=STEPS),)
        )

    def outcome(self, study: Study) -> Outcome:
        """See Method.

        Raises:
            ConfigError: secure-sum is on; this recipe is the one that does without.
        """
        if study.settings.secure_sum:
            raise ConfigError(f"{self.name} has no secure sum: set secure-sum=false, or use private-gradient")
        return super().outcome(study)

    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """See PrivateHead."""
        plan = plan_of(self, study)
        head = np.zeros((len(study.problem.classes), public.basis.shape[1]))
        for number in range(1, plan.steps[0].count + 1):
            request = request_of(
                study, self, 0, {**public.arrays, "head": head}, {"head": head.shape}, number=number,
                config={"steps": STEPS, "cases": plan.terms.cases},
            )  # fmt: skip
            replies = [reply.arrays for reply in study.hospitals.ask(request)]
            head = total(replies)["head"] / len(replies)
        return head, np.zeros(len(head)), {}


METHODS: tuple[type[Method], ...] = (LocalSgd,)
PRIVATE_TRAINING: Mapping[str, PrivateTraining] = {"private_training": private_training}
