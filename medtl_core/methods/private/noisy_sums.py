"""Nearest mean from one noised release: class counts and class sums of rows of length one, each with Gaussian noise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.method import Method
from medtl_core.federation.private import PrivateTask
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.pca_head import PrivateHead
from medtl_core.methods.private.planned_sums import noised_sum, plan_of, sharing
from medtl_core.methods.private.public_pca import own_patients
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Update


def private_statistics(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class counts [C] and class sums [C, k] of the patients' rows.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 each: a patient counts once and has a row of length at most 1.
    """
    patients = own_patients(site, arrays)
    onehot = patients.onehot(site.classes)
    sums = {"counts": onehot.sum(axis=0), "sums": onehot.T @ patients.rows}
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


@final
@dataclass(frozen=True)
class NoisySums(PrivateHead):
    """Nearest class mean; `-D` with D public directions.

    Guarantee:
        See PrivateMethod. One release: class counts and class sums.
    """

    syntax: ClassVar[str] = r"private-mean(-(?P<size>[1-9][0-9]{0,3}))?"
    example: ClassVar[str] = "private-mean"
    summary: ClassVar[str] = "private: nearest mean from noised class sums, one round"

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod; class sums carry the head, and get the most (docs/results-privacy.md, "Constants")."""
        return Plan(self.name, terms, (sharing(terms, "private_statistics", {"counts": 0.1, "sums": 0.9}),))

    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """See PrivateHead; the noise's own length is taken off each mean's."""
        classes, size, plan = len(study.problem.classes), public.basis.shape[1], plan_of(self, study)
        shapes = {"counts": (classes,), "sums": (classes, size)}
        sums = noised_sum(study, self, 0, public.arrays, shapes, config={"gram": False})  # a word of the wire
        # a class is at least a fifth of its fair share: a noisy count near zero would blow its mean up
        counts = np.maximum(sums["counts"], 0.2 * plan.terms.patients / classes)
        means = sums["sums"] / counts[:, None]
        length = (means**2).sum(axis=1) - size * (plan.deviations(0)["sums"] / counts) ** 2
        return means, -0.5 * np.maximum(length, 0.0), {"directions": size}


METHODS: tuple[type[Method], ...] = (NoisySums,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {
    "private_statistics": PrivateTask(
        private_statistics, {"counts": "c", "sums": "ck"}, words=lambda method, step: {"gram": False}
    )
}
