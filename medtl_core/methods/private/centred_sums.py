"""What two-round prototypes sum, and what follows from the noisy sums: second moments as vectors, metric and angles.

Unit-length features share a large constant: one-round methods spend most of their noise budget on it. The first round
releases the mean; in the second, rows are centred by it and brought to length one again, so that every patient tells a
direction from the mean as loudly as the budget allows.
"""

import math
from collections.abc import Mapping

import numpy as np

from medtl_core.federation.private import MAP, PrivateTask
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.public_pca import own_patients
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import unit
from medtl_core.privacy.plan import Plan
from medtl_core.values import Update

#: Share of the noise's expected energy that is taken off a class sum's, and the least that is left of it; see `angles`.
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
        the Frobenius norm of v v', which packing keeps. Public: the centre, a private release of the first round.
    """
    patients = own_patients(site, arrays)
    centred = unit(patients.rows - arrays["centre"].astype(np.float64))
    sums = {"sums": patients.onehot(site.classes).T @ centred}
    if config["gram"]:
        sums["gram"] = packed(centred.T @ centred)
    return Bounded(Update(sums), dict.fromkeys(sums, 1.0))


def packed(gram: Float) -> Float:
    """Returns the upper triangle of a symmetric matrix as a vector of the same Euclidean norm.

    Off-diagonals are multiplied by sqrt 2, so that the sensitivity of a sum of outer products v v' stays |v|^2.
    """
    return np.asarray((gram * _weights(len(gram)))[np.triu_indices(len(gram))])


def unpacked(vector: Float, size: int) -> Float:
    """Returns the symmetric matrix [size, size] that `packed` took apart."""
    gram = np.zeros((size, size))
    gram[np.triu_indices(size)] = vector
    upper = gram / _weights(size)
    return np.asarray(upper + np.triu(upper, 1).T)


def _weights(size: int) -> Float:
    return np.where(np.eye(size) > 0, 1.0, math.sqrt(2.0))


def positive(gram: Float) -> Float:
    """Returns the nearest symmetric matrix without negative eigenvalues: post-processing, free of cost."""
    values, vectors = np.linalg.eigh(gram)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def patients_of(noisy: float, plan: Plan) -> float:
    """Returns the number of patients: the noisy one, or the public one where noise alone may have made it less.

    A centre divided by too few patients lies too far out. A count more than three deviations below the public number
    says that hospitals are missing, and stands.
    """
    public = float(plan.terms.patients)
    return max(noisy, public if noisy > public - 3 * plan.deviations(0)["count"] else 2.0)


def metric_of(gram: Float, patients: float, noise: float) -> Float:
    """Returns A = (S + r I)^-1 with the noisy second moment S [k, k] of so many patients.

    Its noise, of deviation s in an entry, is part of the ridge r: the eigenvalues of a symmetric matrix of Gaussian
    noise lie within s sqrt(2 k), to first order; a tenth of S's mean eigenvalue is added.
    """
    moment, size = positive(gram) / patients, len(gram)
    ridge = noise * math.sqrt(2 * size) / patients + 0.1 * float(np.trace(moment)) / size
    return np.asarray(np.linalg.inv(moment + ridge * np.eye(size)))


def angles(sums: Float, metric: Float, noise: float) -> Float:
    """Returns w_c = A b_c / sqrt(b_c' A b_c - h s^2 tr A), [C, k], of noisy class sums b and a metric A [k, k].

    Classes are compared by angle: no class count is needed. Angles to a noisy class sum shrink with the noise, of
    deviation s in an entry, most where a class has few patients; `TAKEN_OFF` of it is taken off its squared length, so
    that rare classes are found too (docs/results-privacy.md, "The mechanisms").
    """
    raised = sums @ metric
    energy = (raised * sums).sum(axis=1, keepdims=True)
    signal = np.maximum(energy - TAKEN_OFF * noise**2 * float(np.trace(metric)), LEFT * energy)
    return np.asarray(raised / np.sqrt(np.maximum(signal, 1e-12)))


PRIVATE_TASKS: Mapping[str, PrivateTask] = {
    "private_mean": PrivateTask(private_mean, {"sum": "k", "count": "1"}),
    "private_sums": PrivateTask(
        private_sums, {"sums": "ck", "gram": "g"}, {**MAP, "centre": "k"},
        words=lambda method, step: {"gram": "gram" in step.noise},
    ),
}  # fmt: skip
