"""One-round heads from noised statistics: nearest mean and discriminant under differential privacy.

The same sums as the statistics heads, over rows of length one, each with Gaussian noise (Analyze Gauss, Dwork et
al., STOC 2014; Mehta et al., 2022, for private heads on frozen features).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.method import Method
from medtl_core.federation.private import PrivateTask, noised_sum, plan_of, sharing
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.gram import packed, positive, ridge_of, unpacked
from medtl_core.methods.private.pca_head import PrivateHead
from medtl_core.methods.private.public_pca import own_patients
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import PublicMap
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Update

#: Shares of the squared budget; class sums carry the head, and get the most (docs/results-privacy.md, "Constants").
SHARES: Mapping[str, Mapping[str, float]] = {
    "mean": {"counts": 0.1, "sums": 0.9},
    "discriminant": {"counts": 0.1, "sums": 0.6, "gram": 0.3},
}


def private_statistics(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class counts [C], class sums [C, k] and with `config["gram"]` the packed Gram matrix of the patients' rows.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 each: a patient counts once, has a row of length at most 1, and
        an outer product of Frobenius norm at most 1. Public: map and classes.
    """
    patients = own_patients(site, arrays)
    onehot = patients.onehot(site.classes)
    sums = {"counts": onehot.sum(axis=0), "sums": onehot.T @ patients.rows}
    if config["gram"]:
        sums["gram"] = packed(patients.rows.T @ patients.rows)
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


@final
@dataclass(frozen=True)
class NoisySums(PrivateHead):
    """Nearest mean or discriminant from one noised release; `-D` with D public directions.

    Guarantee:
        See PrivateMethod. One release: class counts, class sums, and for the discriminant the Gram matrix.

    Attributes:
        family: which head.
    """

    syntax: ClassVar[str] = r"private-(?P<family>mean|discriminant)(-(?P<size>[1-9][0-9]{0,3}))?"
    example: ClassVar[str] = "private-mean"
    summary: ClassVar[str] = "private: nearest mean (or discriminant) from noised statistics, one round"

    family: str = "mean"

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return Plan(self.name, terms, (sharing(terms, "private_statistics", SHARES[self.family]),))

    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """See PrivateHead."""
        classes, size, plan = len(study.problem.classes), public.basis.shape[1], plan_of(self, study)
        gram = "gram" in SHARES[self.family]
        shapes: dict[str, tuple[int, ...]] = {"counts": (classes,), "sums": (classes, size)}
        if gram:
            shapes["gram"] = (size * (size + 1) // 2,)
        sums = noised_sum(study, self, 0, public.arrays, shapes, config={"gram": gram})
        # a class is at least a fifth of its fair share: a noisy count near zero would blow its mean up
        sums["counts"] = np.maximum(sums["counts"], 0.2 * plan.terms.patients / classes)
        weight, bias = (_discriminant if gram else _mean)(sums, plan.deviations(0))
        return weight, bias, {"directions": size}


def _mean(sums: Mapping[str, Float], noise: Mapping[str, float]) -> tuple[Float, Float]:
    """Nearest class mean; the noise's own length is taken off each mean's."""
    counts, size = sums["counts"], sums["sums"].shape[1]
    means = sums["sums"] / counts[:, None]
    length = (means**2).sum(axis=1) - size * (noise["sums"] / counts) ** 2
    return means, -0.5 * np.maximum(length, 0.0)


def _discriminant(sums: Mapping[str, Float], noise: Mapping[str, float]) -> tuple[Float, Float]:
    """Shrunk discriminant with a uniform prior; the Gram matrix's noise level is part of the shrinkage."""
    counts, size = sums["counts"], sums["sums"].shape[1]
    means = sums["sums"] / counts[:, None]
    cases = float(counts.sum())
    within = positive(unpacked(sums["gram"], size) - (means.T * counts) @ means) / cases
    ridge = ridge_of(within, noise["gram"], cases, 0.5)
    weight = np.linalg.solve(0.5 * within + ridge * np.eye(size), means.T).T
    return np.asarray(weight, np.float64), -0.5 * (weight * means).sum(axis=1)


METHODS: tuple[type[Method], ...] = (NoisySums,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_statistics": private_statistics}
