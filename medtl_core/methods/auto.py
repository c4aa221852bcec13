"""The default: two heads that err differently, and cross-validation's word on whether one of them is better alone.

The mean of the log-probabilities of discriminant and logistic regression is an affine head again, for it is the mean of
their logits. With few cases, a choice among many candidates is worth less than one good candidate (docs/methods.md); so
another one is taken only where its loss on the same held-out cases is lower by more than a standard error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medtl_core.federation.feature_map import Solved, at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import WORST, advantage, paired
from medtl_core.heads.statistics import Float
from medtl_core.methods.logistic import USUAL, Penalised
from medtl_core.values import Released

#: The usual candidate.
MEAN = "mean"


def compare(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How far candidates lie apart on this hospital's held-out cases; see `heads.crossval.paired`."""
    return Released(paired(arrays["heads"], site.values, site.label, site.fold(len(arrays["heads"]))))


class Auto(Method):
    """The default: mean log-probability of discriminant and logistic, or one of them where it is clearly better."""

    syntax = "auto"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        keys = ("", *_sizes(study.problem.groups).values())
        return tuple(need for key in keys for need in (Candidates("discriminant", key), Penalised.after(USUAL, key)))

    def outcome(self, study: Study) -> Outcome:
        """See Method: one exchange beyond the two heads' own says how far the candidates lie apart."""
        needs = self.needs(study)
        solved = {need: study.chosen(need) for need in needs}
        first = {need.family: solved[need] for need in needs[:2]}
        heads = {MEAN: list(first.values()), **{family: [head] for family, head in first.items()}}
        for size, key in _sizes(study.problem.groups).items():
            heads[f"{MEAN}@{size}"] = [head for need, head in solved.items() if need.columns_key == key]
        taken, facts = _taken(study, heads)
        parts = {need.family: head.facts for need, head in solved.items() if any(head is one for one in heads[taken])}
        facts = {"chosen": taken, **facts, "parts": parts}
        affine = np.mean([head.affine for head in heads[taken]], axis=0)
        bill = {**study.closed_bill(needs), **Penalised.after(USUAL).bill(study, len(needs) // 2), "compare": Share()}
        spent = sum(head.server_cpu for head in solved.values())
        return Outcome({"": study.head(affine, "auto", facts)}, bill, spent, facts)


def _taken(study: Study, heads: Mapping[str, Sequence[Solved]]) -> tuple[str, dict[str, Any]]:
    """The candidate that is taken, and by how much each differs from the usual one."""
    folds: Float = np.stack([np.mean([head.without for head in mixed], axis=0) for mixed in heads.values()], axis=1)
    shape = (len(heads), len(study.problem.classes))
    expect = dict.fromkeys(("losses", "squares"), ArraySpec(shape, least=0.0))
    check = at_most({"losses": WORST, "squares": WORST**2})
    request = Request("compare", {"heads": folds.astype(np.float32)}, expect=expect, check=check)
    counts = study.statistics.counts
    sums = study.hospitals.total(request)
    gain, error = advantage(sums, counts)
    losses = dict(zip(heads, (sums["losses"][:, counts > 0] / counts[counts > 0]).mean(axis=1).tolist(), strict=True))
    better = [name for name, g, e in zip(heads, gain, error, strict=True) if g > e]
    taken = min(better, key=lambda name: losses[name]) if better else MEAN
    apart = {name: {"gain": float(g), "error": float(e)} for name, g, e in zip(heads, gain, error, strict=True)}
    return taken, {"losses": losses, "gains": {name: row for name, row in apart.items() if name != MEAN}}


def _sizes(groups: Sequence[tuple[str, int, int]]) -> dict[str, str]:
    """Each of several image sizes, with the key of its columns and of those that have no size (a table's)."""
    own = {name: name.rpartition(":")[0].rpartition("@")[2] for name, _, _ in groups if "@" in name}
    sizes = [size for size in dict.fromkeys(own.values()) if size.isdecimal()]
    if len(sizes) < 2:
        return {}
    return {
        size: "+".join(name for name, _, _ in groups if own.get(name) not in sizes or own[name] == size)
        for size in sizes
    }


METHODS = (Auto,)
TASKS = {compare.__name__: compare}
