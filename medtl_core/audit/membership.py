"""Was this patient among the training cases? The likelihood-ratio attack with shadow heads (Carlini et al., S&P 2022).

Many heads are trained, each on a random half of the patients. For each of them in turn the others tell how confident a
head is about a patient it has seen and about one it has not; two Gaussians, and their ratio is the attacker's score.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.site import AuditedSite
from medtl_core.errors import PrivacyError
from medtl_core.federation.private import PrivateMethod
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.linear import local_head
from medtl_core.heads.statistics import Float, collect
from medtl_core.privacy.accounting import mu_of
from medtl_core.rng import stream

Bools = NDArray[np.bool_]

#: Heads without privacy that can be attacked, as a yardstick.
PLAIN = (*FAMILIES, "logistic")
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
        variance = np.maximum(square - mean**2, 0.0) * count / np.maximum(count - 1, 1)
        spread = np.maximum((variance + variance.mean(axis=1, keepdims=True)) / 2, 1e-12)
        logs.append(-0.5 * np.log(spread) - (confidences - mean) ** 2 / (2 * spread))
    return np.asarray(logs[0] - logs[1])


def membership(scores: Float, member: Bools) -> Membership:
    """Returns how well scores [heads, patients] tell members, whose flags have the same shape."""
    from sklearn.metrics import roc_auc_score, roc_curve

    auc = float(roc_auc_score(member.ravel(), scores.ravel()))
    by_head = [roc_auc_score(*pair) for pair in zip(member, scores, strict=True) if 0 < pair[0].sum() < len(pair[0])]
    by_patient = [roc_auc_score(*pair) for pair in zip(member.T, scores.T, strict=True)]
    error = max(float(np.std(group, ddof=1)) / math.sqrt(len(group)) for group in (by_head, by_patient))
    false, true, _ = roc_curve(member.ravel(), scores.ravel(), drop_intermediate=False)
    caught = [float(true[false <= rate].max()) for rate in (0.01, 0.001)]
    low, high = max(auc - 1.96 * error, 0.0), min(auc + 1.96 * error, 1.0)
    return Membership(auc, low, high, caught[0], caught[1], *member.shape)


def most_auc(mu: float) -> float:
    """Returns the largest AUC any attack can have on a mu-GDP release: Phi(mu / sqrt 2).

    Example:
        >>> round(most_auc(1.0), 4)
        0.7602
    """
    from scipy.special import ndtr

    return float(ndtr(mu / math.sqrt(2.0)))


def membership_plain(name: str, site: AuditedSite, heads: int) -> Finding:
    """Returns how well members of a head without privacy, one of `PLAIN`, can be told.

    Closed-form heads are taken at their middle strength.
    """

    def logits(half: AuditedSite) -> Float:
        data = half.data
        if name in FAMILIES:
            strengths = FAMILIES[name].heads(collect(data.values, data.label, data.classes))
            head = strengths[len(strengths) // 2]
        else:
            head = local_head(data.values, data.label, data.classes)
        return np.asarray(site.data.values.astype(np.float64) @ head[:, :-1].T + head[:, -1])

    return membership_finding(name, _attacked(site, heads, logits), None)


def membership_private(method: PrivateMethod, site: AuditedSite, heads: int) -> Finding:
    """Returns how well members of a private head can be told, against the most that its claim allows."""

    def logits(half: AuditedSite) -> Float:
        settings = half.settings.replace(public_cases=max(half.patients, 2))
        return replace(half, settings=settings).run(method)[1].logits(site.data.values)

    return membership_finding(method.name, _attacked(site, heads, logits), mu_of(site.plan(method).events))


def _attacked(site: AuditedSite, heads: int, logits: Callable[[AuditedSite], Float]) -> Membership:
    """Trains shadow heads on halves of the patients and attacks each; `logits` are of all cases, by a half's head."""
    owner = site.owner
    member = halves(heads, site.patients, rng=stream(site.settings.seed, "audit", "halves"))
    confidences = []
    for row in member:
        each = confidence(logits(site.keeping(row[owner])), site.data.label)
        confidences.append(np.bincount(owner, each) / np.bincount(owner))  # the mean of a patient's cases
    return membership(likelihood_ratio(np.stack(confidences), member), member)


def membership_finding(name: str, found: Membership, mu: float | None) -> Finding:
    """Returns the finding of an attack on a head; mu is that of the claim, None = nothing is claimed."""
    most = None if mu is None else most_auc(mu)
    held = None if most is None else found.low <= most
    nothing = "nothing is claimed; members can be told" if found.low > 0.5 else "nothing is claimed"
    verdict = {None: nothing, True: STANDS, False: FALSE}[held]
    tried = f"likelihood ratios of {found.heads} shadow heads on halves of {found.patients} patients"
    claim = "" if most is None else f"AUC <= {most:.3f}"
    words = (
        f"AUC {found.auc:.3f} [{found.low:.3f}, {found.high:.3f}]; found at 1 % false alarms "
        f"{100 * found.caught:.1f} %, at 0.1 % {100 * found.caught_sharply:.1f} %"
    )
    return Finding(f"membership: {name}", tried, claim, words, verdict, held, {}, {**asdict(found), "most": most})
