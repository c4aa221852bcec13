"""Was this patient among the training cases? The likelihood-ratio attack with shadow heads (Carlini et al., S&P 2022).

Many heads are trained, each on a random half of the patients. For each of them in turn the others tell how confident a
head is about a patient it has seen and about one it has not; two Gaussians, and their ratio is the attacker's score.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.site import AuditedSite
from medtl_core.errors import PrivacyError
from medtl_core.evaluation.federated import log_odds
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import answer
from medtl_core.heads.closed_form import FAMILIES
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


def halves(heads: int, patients: int, *, rng: np.random.Generator) -> Bools:
    """Returns who trains which head, bool [heads, patients]; every patient is in exactly half of the heads."""
    if heads < FEWEST or heads % 2 or patients < 4:
        raise PrivacyError(f"{heads} shadow heads on {patients} patients: an even number from {FEWEST}, and 4 patients")
    return np.asarray(rng.random((heads, patients)).argsort(axis=0) < heads // 2)


def likelihood_ratio(confidences: Float, member: Bools) -> Float:
    """Returns log-likelihood ratios of "in" against "out", like confidences and membership [heads, patients].

    Means are each patient's own, taken over the other heads; so is the spread, half-way to that of all patients, which
    a few dozen heads give more surely.
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


def membership(scores: Float, member: Bools) -> dict[str, float]:
    """Returns how well scores [heads, patients] tell members, whose flags have the same shape.

    "auc" is over all pairs of a head and a patient, "low" and "high" its 95 % interval from the spread over heads and
    over patients, the wider of the two; "caught" is the share of members found where 1 % of the others are accused.
    """
    (auc,) = areas(scores.reshape(1, -1), member.reshape(1, -1)).tolist()
    by_head, by_patient = areas(scores, member), areas(scores.T, member.T)
    by_head = by_head[np.isfinite(by_head)]  # a head that nobody or everybody trained tells nothing
    error = max(float(np.std(group, ddof=1)) / math.sqrt(len(group)) for group in (by_head, by_patient))
    accused = np.quantile(scores[~member], 0.99, method="higher")
    interval = {"low": max(auc - 1.96 * error, 0.0), "high": min(auc + 1.96 * error, 1.0)}
    heads, patients = member.shape
    caught = float((scores[member] > accused).mean())
    return {"auc": auc, **interval, "caught": caught, "heads": heads, "patients": patients}


def areas(scores: Float, member: Bools) -> Float:
    """Returns the area under the ROC curve of every row, by ranks; equal scores count half, one kind is NaN."""
    from scipy.stats import rankdata

    inside = member.sum(axis=1)
    pairs = (inside * (member.shape[1] - inside)).astype(np.float64)
    ranks = (rankdata(scores, axis=1) * member).sum(axis=1) - inside * (inside + 1) / 2
    return np.asarray(np.divide(ranks, pairs, out=np.full(len(scores), np.nan), where=pairs > 0))


def most_auc(mu: float) -> float:
    """Returns the largest AUC any attack can have on a mu-GDP release: Phi(mu / sqrt 2)."""
    from scipy.special import ndtr

    return float(ndtr(mu / math.sqrt(2.0)))


#: From which of a hospital's cases train, bool [n], to the logits of all of them, [n, C], by the head that comes of it.
Trained = Callable[[Bools], Float]


def plainly(name: str, site: AuditedSite) -> Trained:
    """Returns how cases of a hospital train a head without privacy, one of `PLAIN`; at its middle strength."""

    def logits(rows: Bools) -> Float:
        data = site.keeping(rows).data
        if name in FAMILIES:
            strengths = FAMILIES[name].heads(collect(data.values, data.label, data.classes))
            head = strengths[len(strengths) // 2]
        else:
            head = answer("local", data, {}, {}).update.arrays["head"]
        return np.asarray(site.data.values.astype(np.float64) @ head[:, :-1].T + head[:, -1])

    return logits


def privately(method: PrivateMethod, site: AuditedSite) -> Trained:
    """Returns how cases of a hospital train a private head, all of them at a hospital's door."""

    def logits(rows: Bools) -> Float:
        some = site.keeping(rows)
        return some.public(some.patients).run(method)[1].logits(site.data.values)

    return logits


def membership_plain(name: str, site: AuditedSite, heads: int) -> Finding:
    """Returns how well members of a head without privacy can be told."""
    return membership_finding(name, _attacked(site, heads, plainly(name, site)), None)


def membership_private(method: PrivateMethod, site: AuditedSite, heads: int) -> Finding:
    """Returns how well members of a private head can be told, against the most that its claim allows."""
    attacked = _attacked(site, heads, privately(method, site))
    return membership_finding(method.name, attacked, mu_of(site.plan(method).events))


def _attacked(site: AuditedSite, heads: int, logits: Trained) -> dict[str, float]:
    """Trains shadow heads on halves of the patients and attacks each; `logits` are of all cases, by a half's head.

    Confidence is log(p / (1 - p)) of the true class's probability, near Gaussian where p is not, mean over a patient.
    """
    owner, label = site.owner, site.data.label
    member = halves(heads, site.patients, rng=stream(site.settings.seed, "audit", "halves"))
    confidences = []
    for row in member:
        odds = log_odds(logits(row[owner]))[np.arange(len(label)), label]
        confidences.append(np.bincount(owner, np.clip(odds, -_CERTAIN, _CERTAIN)) / np.bincount(owner))
    return membership(likelihood_ratio(np.stack(confidences), member), member)


def membership_finding(name: str, numbers: Mapping[str, float], mu: float | None) -> Finding:
    """Returns the finding of an attack on a head, from `membership`; mu is that of the claim, None = there is none."""
    most = None if mu is None else most_auc(mu)
    held = None if most is None else numbers["low"] <= most
    nothing = "nothing is claimed; members can be told" if numbers["low"] > 0.5 else "nothing is claimed"
    verdict = {None: nothing, True: STANDS, False: FALSE}[held]
    tried = "likelihood ratios of {heads} shadow heads on halves of {patients} patients".format(**numbers)
    claim = "" if most is None else f"AUC <= {most:.3f}"
    tried += "; {caught:.1%} are found where 1 % of the others are accused".format(**numbers)
    words = "AUC {auc:.3f} [{low:.3f}, {high:.3f}]".format(**numbers)
    return Finding(f"membership: {name}", tried, claim, words, verdict, held, {}, {**numbers, "most": most})
