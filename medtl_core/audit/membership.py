"""Was this patient among the training cases? The likelihood-ratio attack with shadow heads (Carlini et al., S&P 2022).

Many heads are trained, each on a random half of the patients. For each of them in turn the others tell how confident a
head is about a patient it has seen and about one it has not; two Gaussians, and their ratio is the attacker's score.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.audit.two_run import Float
from medtl_core.errors import PrivacyError
from medtl_core.values import Array

Bools = NDArray[np.bool_]

#: Fewer shadow heads give no spread to speak of.
FEWEST = 16
#: Confidence beyond this says "certain"; a class that a head never saw would otherwise drown everything.
_CERTAIN = 100.0


@dataclass(frozen=True)
class Membership:
    """How well the attack tells members.

    Attributes:
        auc: over all pairs of a head and a patient.
        low, high: 95 % interval of `auc`, from the spread over heads and over patients, the wider of the two.
        caught: share of members found where 1 % of the others are accused.
        caught_sharply: the same at 0.1 %.
        heads, patients: how many.
    """

    auc: float
    low: float
    high: float
    caught: float
    caught_sharply: float
    heads: int
    patients: int


def halves(heads: int, patients: int, *, rng: np.random.Generator) -> Bools:
    """Returns who trains which head, bool [heads, patients]; every patient is in exactly half of the heads.

    Raises:
        PrivacyError: fewer heads than `FEWEST`, an odd number, or fewer than four patients.
    """
    if heads < FEWEST or heads % 2 or patients < 4:
        raise PrivacyError(f"{heads} shadow heads on {patients} patients: an even number from {FEWEST}, and 4 patients")
    return np.asarray(rng.random((heads, patients)).argsort(axis=0) < heads // 2)


def confidence(logits: Float, label: NDArray[np.int64]) -> Float:
    """Returns log(p / (1 - p)) of the true class's probability, float64 [n]; near Gaussian where p is not.

    Example:
        >>> confidence(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1])).tolist()
        [2.0, 0.0]
    """
    from scipy.special import logsumexp

    rows = np.arange(len(label))
    others = np.array(logits, np.float64)
    others[rows, label] = -np.inf
    return np.asarray(np.clip(logits[rows, label] - logsumexp(others, axis=1), -_CERTAIN, _CERTAIN))


def by_owner(values: Float, owner: NDArray[np.int64]) -> Float:
    """Returns the mean over each patient's cases of values [n], float64 [patients]."""
    return np.asarray(np.bincount(owner, values) / np.bincount(owner))


def attack(fit: Callable[[Bools], Float], member: Bools) -> Membership:
    """Trains the shadow heads and attacks each of them.

    Args:
        fit: from who trains [patients] to the head's confidence about every patient [patients].
        member: bool [heads, patients], from `halves`.
    """
    return judged(likelihood_ratio(np.stack([fit(row) for row in member]), member), member)


def likelihood_ratio(confidences: Float, member: Bools) -> Float:
    """Returns log-likelihood ratios [heads, patients] of "in" against "out".

    Means are each patient's own, taken over the other heads; so is the spread, half-way to that of all patients, which
    a few dozen heads give more surely.

    Args:
        confidences: float64 [heads, patients].
        member: bool of the same shape.
    """
    logs = []
    for side in (member, ~member):
        weight = side.astype(np.float64)
        count = weight.sum(axis=0) - weight  # without the head under attack
        mean = ((weight * confidences).sum(axis=0) - weight * confidences) / count
        square = ((weight * confidences**2).sum(axis=0) - weight * confidences**2) / count
        own = np.maximum(square - mean**2, 0.0) * count / np.maximum(count - 1, 1)
        spread = np.maximum((own + own.mean(axis=1, keepdims=True)) / 2, 1e-12)
        logs.append(-0.5 * np.log(spread) - (confidences - mean) ** 2 / (2 * spread))
    return np.asarray(logs[0] - logs[1])


def judged(scores: Float, member: Bools) -> Membership:
    """Returns how well scores [heads, patients] tell members, whose flags have the same shape."""
    auc = area(scores.ravel(), member.ravel())
    by_head = [area(scores[row], member[row]) for row in range(len(scores)) if 0 < member[row].sum() < member.shape[1]]
    by_patient = [area(scores[:, column], member[:, column]) for column in range(scores.shape[1])]
    error = max(float(np.std(group, ddof=1)) / math.sqrt(len(group)) for group in (by_head, by_patient))
    caught = [caught_at(scores.ravel(), member.ravel(), rate) for rate in (0.01, 0.001)]
    low, high = max(auc - 1.96 * error, 0.0), min(auc + 1.96 * error, 1.0)
    return Membership(auc, low, high, caught[0], caught[1], *member.shape)


def area(scores: Float, member: Bools) -> float:
    """Returns the area under the ROC curve, by ranks; equal scores count half.

    Example:
        >>> area(np.array([1.0, 2.0, 3.0, 3.0]), np.array([False, True, False, True]))
        0.625
    """
    from scipy.stats import rankdata

    inside = int(member.sum())
    ranks = float(rankdata(scores)[member].sum())
    return (ranks - inside * (inside + 1) / 2) / (inside * (len(scores) - inside))


def caught_at(scores: Float, member: Bools, rate: float) -> float:
    """Returns the share of members above the threshold that accuses at most `rate` of the others.

    Example:
        >>> caught_at(np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, True, False, True]), 0.5)
        1.0
    """
    others = np.sort(scores[~member])[::-1]
    allowed = int(rate * len(others))
    threshold = others[allowed] if allowed < len(others) else -np.inf
    return float((scores[member] > threshold).mean())


def most_auc(mu: float) -> float:
    """Returns the largest AUC any attack can have on a mu-GDP release: Phi(mu / sqrt 2).

    Example:
        >>> round(most_auc(1.0), 4)
        0.7602
    """
    from scipy.special import ndtr

    return float(ndtr(mu / math.sqrt(2.0)))


def patients_of(names: Array) -> NDArray[np.int64]:
    """Returns the number of the patient of every case [n]."""
    return np.asarray(np.unique(names, return_inverse=True)[1], np.int64)
