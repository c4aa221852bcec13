"""Two-round centred prototypes under differential privacy (METHODS section 2.3).

Unit-length features share a large constant: one-round methods spend most of their noise budget on it. The first round
releases the mean; in the second, rows are centred by it and brought to length one again, so that every patient tells a
direction from the mean as loudly as the budget allows (METHODS clips to .4 instead, which wastes what short rows could
say). Classes are compared by angle: no class count is needed. Angles to a noisy class sum shrink with the noise, most
where a class has few patients; half of the noise is taken off its squared length, so that rare classes are found too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod, PrivateTask, bill_of, noised_sum, plan_of
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.pca_head import directions_of
from medtl_core.methods.private.public_pca import own_patients, public_map
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import unit
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.values import Update

#: Shares of the squared budget: mean, number of patients, Gram matrix if there is one; class sums take the rest. The
#: mean's share is large because its noise is in every centred row.
MEAN, COUNT, GRAM = 0.20, 0.03, 0.10
#: Share of the noise's expected energy that is taken off a class sum's, and the least that is left of it.
TAKEN_OFF, LEFT = 0.5, 0.1
#: Public directions kept.
SIZE = 100


def private_mean(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Sum of the patients' rows [k] and their number [1].

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 each: a row has length at most 1. Public: map and classes.
    """
    rows = own_patients(site, arrays).rows
    return Bounded(Update({"sum": rows.sum(axis=0), "count": np.array([float(len(rows))])}), {"sum": 1.0, "count": 1.0})


def private_sums(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class sums [C, k] of centred rows of length one, and with `config["gram"]` their packed Gram matrix.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1 of the class sums (one row in one class) and of the Gram matrix:
        the Frobenius norm of v v', which packing keeps, off-diagonals times sqrt 2. Public: the centre, which is a
        private release of the first round.
    """
    own = own_patients(site, arrays)
    centred = unit(own.rows - arrays["centre"].astype(np.float64))
    sums = {"sums": own.onehot(site.classes).T @ centred}
    if not config["gram"]:
        return Bounded(Update(sums), {"sums": 1.0})
    return Bounded(Update({**sums, "gram": packed(centred.T @ centred)}), {"sums": 1.0, "gram": 1.0})


def packed(gram: Float) -> Float:
    """Returns the upper triangle of a symmetric matrix as a vector of the same Euclidean norm.

    Example:
        >>> round(float(np.linalg.norm(packed(np.array([[1.0, 2.0], [2.0, 3.0]])))), 6) == round(18**0.5, 6)
        True
    """
    weight = np.where(np.eye(len(gram)) > 0, 1.0, math.sqrt(2.0))
    return np.asarray((gram * weight)[np.triu_indices(len(gram))])


def unpacked(vector: Float, size: int) -> Float:
    """Returns the symmetric matrix [size, size] that `packed` took apart."""
    gram = np.zeros((size, size))
    gram[np.triu_indices(size)] = vector
    weight = np.where(np.eye(size) > 0, 1.0, math.sqrt(2.0))
    upper = gram / weight
    return np.asarray(upper + np.triu(upper, 1).T)


def positive(gram: Float) -> Float:
    """Returns the nearest symmetric matrix without negative eigenvalues: post-processing, free of cost."""
    values, vectors = np.linalg.eigh(gram)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


@final
@dataclass(frozen=True)
class Prototypes(PrivateMethod):
    """Two-round centred prototypes; `-cosine` without the Gram matrix, `-D` with D public directions.

    Guarantee:
        See PrivateMethod. Two releases: mean and number of patients; class sums and, unless `-cosine`, Gram matrix.

    Attributes:
        size: public directions; 0 = `SIZE`.
        cosine: whether the Gram matrix is left out.
    """

    syntax: ClassVar[str] = r"private-prototypes(-(?P<size>[1-9][0-9]{0,3}))?(?P<cosine>-cosine)?"
    example: ClassVar[str] = "private-prototypes"
    summary: ClassVar[str] = (
        "private: class means of centred unit features in the federation's noisy metric, two rounds"
    )
    test: ClassVar[str] = "server"

    size: int = 0
    cosine: bool = False

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        mu = mu_for(terms.epsilon, terms.delta)
        gram = 0.0 if self.cosine else GRAM
        first = {"sum": 1 / (mu * math.sqrt(MEAN)), "count": 1 / (mu * math.sqrt(COUNT))}
        second = {"sums": 1 / (mu * math.sqrt(1 - MEAN - COUNT - gram))}
        if gram:
            second["gram"] = 1 / (mu * math.sqrt(gram))
        tasks = (("private_mean", first), ("private_sums", second))
        return Plan(self.name, terms, tuple(Step(task, noise, dict.fromkeys(noise, 1.0)) for task, noise in tasks))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        map_, classes = public_map(study, self.size or SIZE), len(study.problem.classes)
        plan, size = plan_of(self, study), map_.basis.shape[1]
        first = noised_sum(study, self, 0, map_.arrays, {"sum": (size,), "count": (1,)})
        patients = patients_of(float(first["count"][0]), plan)
        centre = first["sum"] / patients
        shapes: dict[str, tuple[int, ...]] = {"sums": (classes, size)}
        if not self.cosine:
            shapes["gram"] = (size * (size + 1) // 2,)
        sent = {**map_.arrays, "centre": centre}
        second = noised_sum(study, self, 1, sent, shapes, config={"gram": not self.cosine})
        noise = plan.deviations(1)
        inverse = np.eye(size)
        if not self.cosine:
            inverse = _inverse(unpacked(second["gram"], size), patients, noise["gram"])
        weight = _turned(second["sums"], inverse, noise["sums"])
        facts = {"epsilon": plan.terms.epsilon, "delta": plan.terms.delta, "directions": size, "patients": patients}
        model = directions_of(study, map_, weight, -(weight @ centre), facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)


def patients_of(noisy: float, plan: Plan) -> float:
    """Returns the number of patients: the noisy one, or the public one where noise alone may have made it less.

    A centre divided by too few patients lies too far out. A count more than three deviations below the public number
    says that hospitals are missing, and stands.
    """
    public = float(plan.terms.patients)
    return max(noisy, public if noisy > public - 3 * plan.deviations(0)["count"] else 2.0)


def _inverse(gram: Float, patients: float, noise: float) -> Float:
    """A = (S + r I)^-1 with the noisy second moment S [k, k]; the noise of a Gram entry is part of the ridge r."""
    size = len(gram)
    moment = positive(gram) / patients
    ridge = noise * math.sqrt(2 * size) / patients + 0.1 * float(np.trace(moment)) / size
    return np.asarray(np.linalg.inv(moment + ridge * np.eye(size)))


def _turned(sums: Float, inverse: Float, noise: float) -> Float:
    """w_c = A b_c / sqrt(b_c' A b_c - h s^2 tr A), with s the noise of an entry of b_c and h = `TAKEN_OFF`."""
    raised = sums @ inverse
    energy = (raised * sums).sum(axis=1, keepdims=True)
    told = np.maximum(energy - TAKEN_OFF * noise**2 * float(np.trace(inverse)), LEFT * energy)
    return np.asarray(raised / np.sqrt(np.maximum(told, 1e-12)))


METHODS: tuple[type[Method], ...] = (Prototypes,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_mean": private_mean, "private_sums": private_sums}
