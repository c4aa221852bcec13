"""Two-round centred prototypes under differential privacy (METHODS section 2.3).

Unit-length features share a large constant: one-round methods spend most of their noise budget on it. The first round
releases the mean; in the second, rows are centred by it and brought to length one again, so that every patient tells a
direction from the mean as loudly as the budget allows (METHODS clips to .4 instead, which wastes what short rows could
say). Classes are compared by angle: no class count is needed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.heads.statistics import Float
from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome
from medtl_core.methods.private import PrivateMethod, PrivateTask, bill_of, noised_sum, plan_of, terms_of
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData
from medtl_core.privacy.accounting import mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import unit
from medtl_core.privacy.plan import Plan, Step, Terms
from medtl_core.transfer.directions import directions_of
from medtl_core.transfer.public import own_patients, public_map
from medtl_core.values import Update

#: Shares of the squared budget: mean, number of patients, Gram matrix; class sums take the rest. Without a Gram matrix,
#: where the budget is small, a better mean pays: its noise is in every centred row.
MEAN, MEAN_COSINE, COUNT, GRAM = 0.10, 0.20, 0.03, 0.20
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
        mean, gram = (MEAN_COSINE, 0.0) if self.cosine else (MEAN, GRAM)
        first = {"sum": 1 / (mu * math.sqrt(mean)), "count": 1 / (mu * math.sqrt(COUNT))}
        second = {"sums": 1 / (mu * math.sqrt(1 - mean - COUNT - gram))}
        if gram:
            second["gram"] = 1 / (mu * math.sqrt(gram))
        tasks = (("private_mean", first), ("private_sums", second))
        return Plan(self.name, terms, tuple(Step(task, noise, dict.fromkeys(noise, 1.0)) for task, noise in tasks))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        map_, classes = public_map(study, self.size or SIZE), len(study.problem.classes)
        size = map_.basis.shape[1]
        first = noised_sum(study, self, 0, map_.arrays, {"sum": (size,), "count": (1,)})
        patients = max(float(first["count"][0]), 2.0)
        centre = first["sum"] / patients
        shapes: dict[str, tuple[int, ...]] = {"sums": (classes, size)}
        if not self.cosine:
            shapes["gram"] = (size * (size + 1) // 2,)
        sent = {**map_.arrays, "centre": centre}
        second = noised_sum(study, self, 1, sent, shapes, config={"gram": not self.cosine})
        weight = second["sums"]
        if not self.cosine:
            weight = _whitened(weight, unpacked(second["gram"], size), patients, self._noise(study))
        weight = weight / np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), 1e-12) if self.cosine else weight
        plan = plan_of(self, study)
        facts = {"epsilon": plan.terms.epsilon, "delta": plan.terms.delta, "directions": size, "patients": patients}
        model = directions_of(study, map_, weight, -(weight @ centre), facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)

    def _noise(self, study: Study) -> float:
        """Standard deviation of the noise in one entry of the summed Gram matrix."""
        terms = terms_of(study.settings, study.problem.width, len(study.problem.classes))
        return self.plan(terms).steps[1].noise["gram"] * terms.dilution


def _whitened(sums: Float, gram: Float, patients: float, noise: float) -> Float:
    """w_c = A b_c / sqrt(b_c' A b_c) with A the inverse of the noisy second moment, its noise added as a ridge."""
    size = len(gram)
    moment = positive(gram) / patients
    ridge = noise * math.sqrt(2 * size) / patients + 0.1 * float(np.trace(moment)) / size
    raised = np.linalg.solve(moment + ridge * np.eye(size), sums.T).T
    return np.asarray(raised / np.sqrt(np.maximum((raised * sums).sum(axis=1, keepdims=True), 1e-12)))


METHODS: tuple[type[Method], ...] = (Prototypes,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_mean": private_mean, "private_sums": private_sums}
