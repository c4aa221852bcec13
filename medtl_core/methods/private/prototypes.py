"""Two-round centred prototypes under differential privacy; their mathematics is in `centred_sums`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.method import Method
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.centred_sums import angles, metric_of, patients_of, unpacked
from medtl_core.methods.private.pca_head import PrivateHead
from medtl_core.methods.private.planned_sums import noised_sum, plan_of, sharing
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms

#: Shares of the squared budget: mean, number of patients, Gram matrix if there is one; class sums take the rest. The
#: mean's share is large because its noise is in every centred row (docs/results-privacy.md, "How `private-auto` was
#: set": all three are read from sets on which nothing is judged).
MEAN, COUNT, GRAM = 0.20, 0.03, 0.10


@final
@dataclass(frozen=True)
class Prototypes(PrivateHead):
    """Two-round centred prototypes; `-cosine` without the Gram matrix, `-D` with D public directions.

    Guarantee:
        See PrivateMethod. Two releases: mean and number of patients; class sums and, unless `-cosine`, the Gram matrix
        of centred rows.
    """

    syntax: ClassVar[str] = r"private-prototypes(-(?P<size>[1-9][0-9]{0,3}))?(?P<cosine>-cosine)?"
    example: ClassVar[str] = "private-prototypes"
    summary: ClassVar[str] = "private: class means of centred unit features in their noisy metric, two rounds"

    cosine: bool = False

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        gram = {} if self.cosine else {"gram": GRAM}
        first = sharing(terms, "private_mean", {"sum": MEAN, "count": COUNT})
        second = sharing(terms, "private_sums", {"sums": 1 - MEAN - COUNT - gram.get("gram", 0.0), **gram})
        return Plan(self.name, terms, (first, second))

    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """See PrivateHead."""
        classes, size, plan = len(study.problem.classes), public.basis.shape[1], plan_of(self, study)
        first = noised_sum(study, self, 0, public.arrays, {"sum": (size,), "count": (1,)})
        patients = patients_of(float(first["count"][0]), plan)
        centre = first["sum"] / patients
        gram: dict[str, tuple[int, ...]] = {} if self.cosine else {"gram": (size * (size + 1) // 2,)}
        sent, shapes = {**public.arrays, "centre": centre}, {"sums": (classes, size), **gram}
        second, noise = noised_sum(study, self, 1, sent, shapes, config={"gram": bool(gram)}), plan.deviations(1)
        metric = metric_of(unpacked(second["gram"], size), patients, noise["gram"]) if gram else np.eye(size)
        weight = angles(second["sums"], metric, noise["sums"])
        return weight, -(weight @ centre), {"directions": size, "patients": patients}


METHODS: tuple[type[Method], ...] = (Prototypes,)
