"""One-round heads from noised statistics: nearest mean and discriminant under differential privacy.

The same sums as the statistics heads, over rows of length one, each with Gaussian noise (Analyze Gauss, Dwork et
al., STOC 2014; Mehta et al., 2022, for private heads on frozen features).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np

from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod, PrivateTask, bill_of, noised_sum, plan_of
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.pca_head import directions_of
from medtl_core.methods.private.prototypes import packed, positive, unpacked
from medtl_core.methods.private.public_pca import own_patients, public_map
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Update

#: Public directions kept.
SIZE = 100


def private_statistics(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class counts [C], class sums [C, k] and with `config["gram"]` the packed Gram matrix of the patients' rows.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 each: a patient counts once, has a row of length at most 1, and
        an outer product of Frobenius norm at most 1. Public: map and classes.
    """
    own = own_patients(site, arrays)
    onehot = own.onehot(site.classes)
    sums = {"counts": onehot.sum(axis=0), "sums": onehot.T @ own.rows}
    if config["gram"]:
        sums["gram"] = packed(own.rows.T @ own.rows)
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


def one_release(terms: Terms, shares: Mapping[str, float], task: str) -> Step:
    """Returns the step in which named sums of sensitivity 1 share the whole budget; shares are of mu^2 and add to 1."""
    mu = mu_for(terms.epsilon, terms.delta)
    noise = {name: 1.0 / (mu * math.sqrt(share)) for name, share in shares.items()}
    return Step(task, noise, dict.fromkeys(shares, 1.0))


@final
@dataclass(frozen=True)
class NoisySums(PrivateMethod):
    """Nearest mean or discriminant from one noised release; `-D` with D public directions.

    Guarantee:
        See PrivateMethod. One release: class counts, class sums, and for the discriminant the Gram matrix.

    Attributes:
        family: which head.
        size: public directions; 0 = `SIZE`.
    """

    syntax: ClassVar[str] = r"private-(?P<family>mean|discriminant)(-(?P<size>[1-9][0-9]{0,3}))?"
    example: ClassVar[str] = "private-mean"
    summary: ClassVar[str] = "private: nearest mean (or discriminant) from noised statistics, one round"
    test: ClassVar[str] = "server"

    family: str
    size: int = 0

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        shares = {"counts": 0.1, "sums": 0.9} if self.family == "mean" else {"counts": 0.1, "sums": 0.6, "gram": 0.3}
        return Plan(self.name, terms, (one_release(terms, shares, "private_statistics"),))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        map_, classes = public_map(study, self.size or SIZE), len(study.problem.classes)
        size, plan = map_.basis.shape[1], plan_of(self, study)
        shapes: dict[str, tuple[int, ...]] = {"counts": (classes,), "sums": (classes, size)}
        if self.family != "mean":
            shapes["gram"] = (size * (size + 1) // 2,)
        config = {"gram": self.family != "mean"}
        found = noised_sum(study, self, 0, map_.arrays, shapes, config=config)
        noise = plan.deviations(0)
        # a class is at least a fifth of its fair share: a noisy count near zero would blow its mean up
        fair = plan.terms.patients / classes
        found["counts"] = np.maximum(found["counts"], 0.2 * fair)
        weight, bias = {"mean": _mean, "discriminant": _discriminant}[self.family](found, noise)
        facts: dict[str, Any] = {"epsilon": plan.terms.epsilon, "delta": plan.terms.delta, "directions": size}
        return Outcome({"": directions_of(study, map_, weight, bias, facts)}, bill_of(self, study), 0.0, facts)


def _mean(found: Mapping[str, Float], noise: Mapping[str, float]) -> tuple[Float, Float]:
    """Nearest class mean; the noise's own length is taken off each mean's."""
    counts, size = found["counts"], found["sums"].shape[1]
    means = found["sums"] / counts[:, None]
    length = (means**2).sum(axis=1) - size * (noise["sums"] / counts) ** 2
    return means, -0.5 * np.maximum(length, 0.0)


def _discriminant(found: Mapping[str, Float], noise: Mapping[str, float]) -> tuple[Float, Float]:
    """Shrunk discriminant with a uniform prior; the Gram matrix's noise level is part of the shrinkage."""
    counts, size = found["counts"], found["sums"].shape[1]
    means = found["sums"] / counts[:, None]
    cases = float(counts.sum())
    within = positive(unpacked(found["gram"], size) - (means.T * counts) @ means) / cases
    ridge = noise["gram"] * math.sqrt(2 * size) / cases + 0.5 * float(np.trace(within)) / size
    weight = np.linalg.solve(0.5 * within + ridge * np.eye(size), means.T).T
    return weight, -0.5 * (weight * means).sum(axis=1)


METHODS: tuple[type[Method], ...] = (NoisySums,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_statistics": private_statistics}
