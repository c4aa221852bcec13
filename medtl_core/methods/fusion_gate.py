"""Gated fusion: how much a modality counts hangs on the case, by a small gate that hospitals fit from sums.

The logits of a case are the sum over its modalities of gate times logit, and a gate is linear in a few numbers of the
case (`models.gated.gate_terms`): so the log-loss is convex, and a few exchanges of its slope and curvature, from heads
that never saw the case, give the same gate as all cases in one place. It is pulled towards late fusion, and taken only
where its held-out loss is lower than late fusion's by more than a standard error of the paired difference.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.feature_map import at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import WORST
from medtl_core.heads.linear import softmax
from medtl_core.heads.statistics import Float
from medtl_core.methods.fusion import asked, bill_of, needs_of
from medtl_core.methods.logistic import Penalised
from medtl_core.methods.models.fused import Fused, member_logits, present, weighted
from medtl_core.methods.models.gated import Gated, gate_terms
from medtl_core.values import Array, Released, Update

#: Pulls towards late fusion, beside a mean log-loss, and exchanges of Newton's method; no step is longer than one.
_PULLS, _STEPS, _LONGEST = (1.0, 0.1, 0.01, 0.001), 5, 1.0


class _Fold(NamedTuple):
    """A fold's cases [n], `gate_terms` [n, M, T], logits [n, C, M] of heads that never saw them, and who has what."""

    fold: int
    rows: NDArray[np.int64]
    terms: Float
    logits: Float
    there: NDArray[np.bool_]


def _folds(site: SiteData, arrays: Arrays) -> Iterator[_Fold]:
    fold, heads = site.fold(len(arrays["heads"])), arrays["heads"].astype(np.float64)
    for index, stack in enumerate(heads):
        rows = np.flatnonzero(fold == index)
        there, logits = present(site.values[rows], arrays["bounds"]), member_logits(site.values[rows], stack)
        yield _Fold(index, rows, gate_terms(logits, there).transpose(1, 0, 2), logits.transpose(1, 2, 0), there)


def gate_slope(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Slope [S, L, P] and curvature [S, L, P, P] of the log-loss by `gates` [S, L, P].

    Set 0 holds all cases, set s > 0 those outside fold s - 1; `heads` are [F, M, C, d + 1], `weight` [C] says how much
    a case of each class counts.
    """
    gates = arrays["gates"].astype(np.float64)
    slope, curvature = np.zeros(gates.shape), np.zeros((*gates.shape, gates.shape[2]))
    for part in _folds(site, arrays):
        sets = [number for number in range(len(gates)) if number != part.fold + 1]
        read = (part.logits[..., None] * part.terms[:, None]).reshape(*part.logits.shape[:2], gates.shape[2])
        shares = softmax(np.einsum("ncp,slp->slnc", read, gates[sets]))
        label = site.label[part.rows]
        weight = arrays["weight"][label]
        slope[sets] += np.einsum("slnc,ncp->slp", (shares - np.eye(site.classes)[label]) * weight[:, None], read)
        mean = np.einsum("slnc,ncp->slnp", shares, read)
        curvature[sets] += np.einsum("n,slnc,ncp,ncq->slpq", weight, shares, read, read, optimize=True)
        curvature[sets] -= np.einsum("n,slnp,slnq->slpq", weight, mean, mean, optimize=True)
    return Released(Update({"slope": slope, "curvature": curvature}))


def gate_compare(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How far `gates` [F, L, P] lie from late fusion by weights `late` [M], on cases that heads and gates never saw.

    Answers `losses` [L + 1, C] summed by class, late fusion's first, and `squares` [L + 1]: over patients, the squares
    of what late fusion's weighted loss on all cases of the patient exceeds another's by.
    """
    gates = arrays["gates"].astype(np.float64).reshape(*arrays["gates"].shape[:2], len(arrays["bounds"]), -1)
    costs = np.zeros((gates.shape[1] + 1, len(site.label)))
    for part in _folds(site, arrays):
        late = weighted(part.logits.transpose(2, 0, 1), part.there, arrays["late"])
        opened = np.maximum(np.einsum("nmt,lmt->lnm", part.terms, gates[part.fold]), 0.0)
        logits = np.concatenate([late[None], np.einsum("ncm,lnm->lnc", part.logits, opened)])
        logits -= logits.max(axis=2, keepdims=True)
        own = logits[:, np.arange(len(part.rows)), site.label[part.rows]]
        costs[:, part.rows] = np.minimum(np.log(np.exp(logits).sum(axis=2)) - own, WORST)
    patient = np.unique(site.patients, return_inverse=True)[1]
    apart = (costs[0] - costs) * arrays["weight"][site.label]
    squares = np.array([(np.bincount(patient, weights=row) ** 2).sum() for row in apart])
    return Released(Update({"losses": costs @ np.eye(site.classes)[site.label], "squares": squares}))


class GatedFusion(Method):
    """Late fusion whose weights hang on what a case has and how sure each head is, where that helps."""

    syntax = "fusion-gated"
    reads = ("folds",)

    def needs(self, study: Study) -> tuple[Penalised, ...]:
        """See Method."""
        return needs_of(study)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        fusion = asked(study)
        late = fusion.model(study, fusion.chosen)
        heads = np.stack([one.without for one in fusion.members], axis=1).astype(np.float32)
        counts = study.statistics.counts
        weight = np.where(counts > 0, 1.0 / np.maximum(counts, 1.0), 0.0) / (counts > 0).sum()
        sent: dict[str, Array] = {"bounds": late.bounds, "heads": heads, "weight": weight}
        gates = fitted(study, sent, start_of(late.weights))
        losses = ArraySpec((len(_PULLS) + 1, len(counts)), least=0.0)
        expect = {"losses": losses, "squares": ArraySpec((len(_PULLS) + 1,), least=0.0, most=WORST**2)}
        arrays = {**sent, "gates": gates[1:], "late": late.weights}
        request = Request("gate_compare", arrays, expect=expect, check=at_most({"losses": WORST}))
        sums = study.hospitals.total(request)
        loss = sums["losses"] @ weight
        best = int(np.argmin(loss[1:]))
        gain, error = float(loss[0] - loss[1 + best]), float(np.sqrt(sums["squares"][1 + best]))
        facts = {**late.facts, "gate_gain": gain, "gate_error": error, "pull": _PULLS[best], "gated": gain > error}
        bill = {**bill_of(study), "gate_slope": Share(), "gate_compare": Share()}
        if gain <= error:
            answers: Fused | Gated = Fused(**{**vars(late), "facts": facts})
            return Outcome({"": answers}, bill, fusion.server_cpu, facts)
        gate = gates[0, best].reshape(len(late.members), -1)
        facts |= {"gate": dict(zip(late.members, gate.tolist(), strict=True)), "cv_loss": float(loss[1 + best])}
        answers = Gated(late.members, late.heads, gate, late.bounds, late.classes, late.fingerprint, facts)
        return Outcome({"": answers}, bill, fusion.server_cpu, facts)


def start_of(weights: Float) -> Float:
    """Returns gates [M * (2 + M)] that count a member once where it is alone, by its weight [M] beside all others."""
    members = len(weights)
    others = (1.0 - np.eye(members)) * (weights - 1.0)[:, None] / max(members - 1, 1)
    return np.column_stack([np.ones(members), np.zeros(members), others]).ravel()


def fitted(study: Study, sent: Arrays, start: Float) -> Float:
    """Returns the gates [S, L, P] of all cases and of those without each fold, at every pull, after the exchanges."""
    shape, pulls = (study.settings.folds + 1, len(_PULLS), len(start)), np.asarray(_PULLS)[:, None]
    gates = np.tile(start, (*shape[:2], 1))
    expect = {"slope": ArraySpec(shape), "curvature": ArraySpec((*shape, len(start)))}
    for _ in range(_STEPS):
        sums = study.hospitals.total(Request("gate_slope", {**sent, "gates": gates}, expect=expect))
        slope = sums["slope"] + pulls * (gates - start)
        curved = sums["curvature"] + pulls[..., None] * np.eye(len(start))
        step = np.linalg.solve(curved, slope[..., None])[..., 0]
        gates = gates - step * np.minimum(
            1.0, _LONGEST / np.maximum(np.linalg.norm(step, axis=2, keepdims=True), 1e-12)
        )
    return np.asarray(gates)


METHODS = (GatedFusion,)
TASKS = {task.__name__: task for task in (gate_slope, gate_compare)}
