"""Two-round centred prototypes under differential privacy.

Unit-length features share a large constant: one-round methods spend most of their noise budget on it. The first round
releases the mean; in the second, rows are centred by it and brought to length one again, so that every patient tells a
direction from the mean as loudly as the budget allows. Classes are compared by angle: no class count is needed. Angles
to a noisy class sum shrink with the noise, most where a class has few patients; half of the noise is taken off its
squared length, so that rare classes are found too (docs/results-privacy.md, "The mechanisms").
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
from medtl_core.privacy.patients import PublicMap, unit
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Update

#: Shares of the squared budget: mean, number of patients, Gram matrix if there is one; class sums take the rest. The
#: mean's share is large because its noise is in every centred row. Read, as the next two, from sets on which nothing is
#: judged: docs/results-privacy.md, "How `private-auto` was set".
MEAN, COUNT, GRAM = 0.20, 0.03, 0.10
#: Share of the noise's expected energy that is taken off a class sum's, and the least that is left of it.
TAKEN_OFF, LEFT = 0.5, 0.1


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
    patients = own_patients(site, arrays)
    centred = unit(patients.rows - arrays["centre"].astype(np.float64))
    sums = {"sums": patients.onehot(site.classes).T @ centred}
    if not config["gram"]:
        return Bounded(Update(sums), {"sums": 1.0})
    return Bounded(Update({**sums, "gram": packed(centred.T @ centred)}), {"sums": 1.0, "gram": 1.0})


@final
@dataclass(frozen=True)
class Prototypes(PrivateHead):
    """Two-round centred prototypes; `-cosine` without the Gram matrix, `-D` with D public directions.

    Guarantee:
        See PrivateMethod. Two releases: mean and number of patients; class sums and, unless `-cosine`, Gram matrix.

    Attributes:
        cosine: whether the Gram matrix is left out.
    """

    syntax: ClassVar[str] = r"private-prototypes(-(?P<size>[1-9][0-9]{0,3}))?(?P<cosine>-cosine)?"
    example: ClassVar[str] = "private-prototypes"
    summary: ClassVar[str] = (
        "private: class means of centred unit features in the federation's noisy metric, two rounds"
    )

    cosine: bool = False

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        gram = 0.0 if self.cosine else GRAM
        second = {"sums": 1 - MEAN - COUNT - gram, **({} if self.cosine else {"gram": gram})}
        steps = (
            sharing(terms, "private_mean", {"sum": MEAN, "count": COUNT}),
            sharing(terms, "private_sums", second),
        )
        return Plan(self.name, terms, steps)

    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """See PrivateHead."""
        classes, size, plan = len(study.problem.classes), public.basis.shape[1], plan_of(self, study)
        first = noised_sum(study, self, 0, public.arrays, {"sum": (size,), "count": (1,)})
        patients = patients_of(float(first["count"][0]), plan)
        centre = first["sum"] / patients
        shapes: dict[str, tuple[int, ...]] = {"sums": (classes, size)}
        if not self.cosine:
            shapes["gram"] = (size * (size + 1) // 2,)
        sent = {**public.arrays, "centre": centre}
        second = noised_sum(study, self, 1, sent, shapes, config={"gram": not self.cosine})
        noise = plan.deviations(1)
        metric = np.eye(size)
        if not self.cosine:
            metric = metric_of(unpacked(second["gram"], size), patients, noise["gram"])
        weight = angles(second["sums"], metric, noise["sums"])
        return weight, -(weight @ centre), {"directions": size, "patients": patients}


def patients_of(noisy: float, plan: Plan) -> float:
    """Returns the number of patients: the noisy one, or the public one where noise alone may have made it less.

    A centre divided by too few patients lies too far out. A count more than three deviations below the public number
    says that hospitals are missing, and stands.
    """
    public = float(plan.terms.patients)
    return max(noisy, public if noisy > public - 3 * plan.deviations(0)["count"] else 2.0)


def metric_of(gram: Float, patients: float, noise: float) -> Float:
    """Returns A = (S + r I)^-1 with the noisy second moment S [k, k]; its noise is part of the ridge r."""
    moment = positive(gram) / patients
    return np.asarray(np.linalg.inv(moment + ridge_of(moment, noise, patients, 0.1) * np.eye(len(gram))))


def angles(sums: Float, metric: Float, noise: float) -> Float:
    """Returns w_c = A b_c / sqrt(b_c' A b_c - h s^2 tr A), [C, k], of class sums b [C, k].

    Args:
        sums: noisy.
        metric: A, [k, k].
        noise: s, the deviation of the noise in an entry of the sums; h is `TAKEN_OFF`.
    """
    raised = sums @ metric
    energy = (raised * sums).sum(axis=1, keepdims=True)
    signal = np.maximum(energy - TAKEN_OFF * noise**2 * float(np.trace(metric)), LEFT * energy)
    return np.asarray(raised / np.sqrt(np.maximum(signal, 1e-12)))


METHODS: tuple[type[Method], ...] = (Prototypes,)
PRIVATE_TASKS: Mapping[str, PrivateTask] = {"private_mean": private_mean, "private_sums": private_sums}
