"""Private gradient sums of a linear softmax head on rows of length one, clipped in closed form.

A patient's gradient is (p - y) u', of norm |p - y| |u|: its length is known without a per-sample backward pass, so
clipping costs nothing. Full batches: no sampling, exact accounting.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.private import MAP, PrivateTask
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import softmax
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.planned_sums import sharing
from medtl_core.methods.private.public_pca import own_patients
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.patients import Patients
from medtl_core.privacy.plan import Plan, Terms
from medtl_core.values import Update

#: Length to which a patient's gradient is clipped, share of mu^2 for the class counts, and the step of descent: rows
#: of length one bound the curvature of the mean loss by 1/2, so larger steps than 4 swing where rows are much alike.
CLIP, COUNTS, RATE = 1.0, 0.1, 4.0


def clipped_gradient(head: Float, own: Patients, clip: float = CLIP) -> Float:
    """Returns the sum over patients of their gradients of the log-loss at a head [C, k], clipped to `clip`, [C, k].

    Guarantee:
        Sensitivity `clip` for one patient added or removed: each term's Frobenius norm is at most `clip`.
    """
    residual = softmax(own.rows @ head.T)
    residual[np.arange(len(own.label)), own.label] -= 1.0
    length = np.linalg.norm(residual, axis=1) * np.linalg.norm(own.rows, axis=1)
    scale: NDArray[np.float64] = np.minimum(1.0, clip / np.maximum(length, 1e-12))
    return np.asarray((residual * scale[:, None]).T @ own.rows)


def private_counts(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Class counts [C] of the patients.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity 1: a patient counts once.
    """
    return Bounded(Update({"counts": own_patients(site, arrays).onehot(site.classes).sum(axis=0)}), {"counts": 1.0})


def private_gradient(site: SiteData, arrays: Arrays, config: Config) -> Bounded:
    """Summed clipped gradient [C, k] at the head in the message.

    Guarantee:
        Unit: patient; add or remove one. Sensitivity `CLIP`. Public: the head, made of earlier private releases.
    """
    slope = clipped_gradient(arrays["head"].astype(np.float64), own_patients(site, arrays))
    return Bounded(Update({"gradient": slope}), {"gradient": CLIP})


def counted_descent(name: str, terms: Terms, task: str, rounds: int) -> Plan:
    """Returns a method's plan of one release of class counts, then `rounds` of a task's gradient sums of `CLIP`.

    Guarantee:
        All releases together cost the budget of the terms, `COUNTS` of the squared one for the counts.
    """
    counts = sharing(terms, "private_counts", {"counts": COUNTS})
    descent = sharing(terms, task, {"gradient": 1 - COUNTS}, sensitivity=CLIP, count=rounds)
    return Plan(name, terms, (counts, descent))


PRIVATE_TASKS: Mapping[str, PrivateTask] = {
    "private_counts": PrivateTask(private_counts, {"counts": "c"}),
    "private_gradient": PrivateTask(private_gradient, {"gradient": "ck"}, {**MAP, "head": "ck"}),
}
