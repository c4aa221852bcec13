"""Private gradient descent on a linear head over rows of length one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.evaluation.calibration import log_prior
from medtl_core.federation.method import Method
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.clipped_gradient import RATE, counted_descent
from medtl_core.methods.private.pca_head import PrivateHead
from medtl_core.methods.private.planned_sums import noised_sum, plan_of
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms


@final
@dataclass(frozen=True)
class NoisyGradient(PrivateHead):
    """Federated private gradient descent with post-hoc logit adjustment by noisy counts.

    Guarantee:
        See PrivateMethod. One release of class counts, then `rounds` (0 = 10) releases of a clipped gradient sum.
    """

    syntax: ClassVar[str] = r"private-gradient(-(?P<rounds>[1-9][0-9]{0,2}))?"
    example: ClassVar[str] = "private-gradient-3"
    summary: ClassVar[str] = "private: gradient descent on a linear head, clipped in closed form, noise in every round"

    rounds: int = 0

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return counted_descent(self.name, terms, "private_gradient", self.rounds or 10)

    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """See PrivateHead."""
        classes, size, plan = len(study.problem.classes), public.basis.shape[1], plan_of(self, study)
        counts = noised_sum(study, self, 0, public.arrays, {"counts": (classes,)})["counts"]
        # the public number is a lower bound; a step per patient needs the noisy sum, which is paid for already
        cases = max(float(plan.terms.patients), float(counts.sum()))
        counts = np.maximum(counts, 0.2 * cases / classes)
        head = np.zeros((classes, size))
        for number in range(1, plan.steps[1].count + 1):
            sent = {**public.arrays, "head": head}
            slope = noised_sum(study, self, 1, sent, {"gradient": head.shape}, number=number)["gradient"]
            head = head - RATE * slope / cases
        return head, -log_prior(counts), {"directions": size}


METHODS: tuple[type[Method], ...] = (NoisyGradient,)
