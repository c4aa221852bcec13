"""Ensembles of judged members, and what is said of any ensemble: how its members differ and what it gained."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medtl_core.evaluation.ensemble import combine, cross_fitted, validation_weighted
from medtl_core.evaluation.federated import judge_sites
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.methods.closed import Local
from medtl_core.methods.diversity import figures_of, gain_of, remarks, sums_expected
from medtl_core.methods.mixture import Mixture
from medtl_core.values import Scores

from .sums import heads_judged
from .testset import TestSet


def ensemble(name: str, study: Study, outcomes: Mapping[str, Outcome], cases: TestSet) -> tuple[Scores, Outcome]:
    """Returns the scores of an ensemble of the hospitals' own heads (all: and of the federated ones), and its facts."""
    local = outcomes.get("local") or study.outcome(Local("local"))
    federated = {other: outcome.heads[""] for other, outcome in outcomes.items() if "" in outcome.heads}
    heads = {**local.heads, **(federated if name == "ensemble-all" else {})}
    members = {member: cases.scores(head.logits(cases.values, cases.material)) for member, head in heads.items()}
    if name == "ensemble-local":
        scores, facts = combine(list(members.values())), {"weights": "equal"}
    else:
        scores, facts = cross_fitted(members, validation_weighted, seed=study.settings.seed)
    bill = dict(local.bill)
    if name == "ensemble-all":
        bill |= {phase: Share() for outcome in outcomes.values() for phase in outcome.bill}
    told = {**facts, "members": list(members), **remarks(members, scores)}
    return scores, Outcome({}, bill, 0.0, told)


def mixture_remarks(mixture: Mixture, scores: Scores, cases: TestSet) -> dict[str, Any]:
    """Returns diversity and gain of a mixture's members on the server's cases; those without weight are left out."""
    found = mixture.of_members(cases.values)
    used = [name for name, share in zip(mixture.members, mixture.weights, strict=True) if share > 0]
    return remarks({name: cases.scores(found[name]) for name in used}, scores)


def summed_remarks(study: Study, mixture: Mixture, figures: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """Returns the same from sums over the hospitals' held-out cases; what it costs is not the method's."""
    used = np.flatnonzero(mixture.weights > 0)
    if len(used) < 2:
        return {}
    names = [mixture.members[index] for index in used]
    stack = mixture.heads[used]
    heads = [study.head(head, "member", {}) for head in stack]
    judged = heads_judged(study, heads, phase)
    rows = [judge_sites(sums, study.problem.classes).as_dict()["figures"] for sums in judged]
    expect = {name: ArraySpec(shape) for name, shape in sums_expected(len(used)).items()}
    request = Request("diversity_sums", {"heads": stack}, {}, expect, phase)
    sums = total(reply.arrays for reply in study.hospitals.ask(request))
    return {"diversity": figures_of(sums), "gain": gain_of(dict(zip(names, rows, strict=True)), figures)}
