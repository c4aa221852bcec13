"""What the server asks hospitals about their held-out cases beyond `evaluate`: groups, and how sure an AUROC is.

Of affine heads that serve all; a model or a hospital's own head has neither.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from medtl_core.clinical.placements import Spread, placements
from medtl_core.clinical.ranking import Ranking, judged, mean_recall, summed
from medtl_core.clinical.record import Clinical, MethodRecord
from medtl_core.clinical.subgroups import Group, stated_groups, summed_group
from medtl_core.evaluation.federated import contradiction, expected_shapes
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.study import Study
from medtl_core.values import Array, Head, Update

from .verdict import Verdict

#: Phases of the exchanges.
GROUPS, SPREAD = "groups", "auroc-intervals"
#: What intervals from sums are.
KIND = "95% intervals of DeLong (AUROC) and Wilson, from hospitals' sums"


def spread_of(study: Study, verdicts: Mapping[str, Verdict]) -> Spread | None:
    """Returns how sure the AUROCs are that hospitals' sums gave; None of findings, and where no head is judged so."""
    heads = {} if study.problem.multi_label else _heads(verdicts)
    if not heads:
        return None
    classes = study.problem.classes
    rankings: dict[str, Mapping[str, Ranking]] = {name: summed(verdicts[name].sums, classes) for name in heads}
    placed = np.stack([[placements(each) for each in rows.values()] for rows in rankings.values()])
    first = next(iter(rankings.values()))
    defined = np.asarray([bool(min(each.support)) for each in first.values()])
    columns = 2 * len(heads) * len(judged(classes))
    expect = {
        "products": ArraySpec((columns, columns)),
        "shown": ArraySpec((len(judged(classes)), 2), least=0.0, step=1.0),
    }
    arrays = {"heads": _stack(heads), "placed": placed.astype(np.float32)}
    sums = study.hospitals.total(Request("auroc_parts", arrays, {}, expect, SPREAD))
    return Spread.of(sums, tuple(heads), defined)


def with_intervals(verdicts: Mapping[str, Verdict], clinical: Clinical) -> dict[str, Verdict]:
    """Returns the verdicts, those from hospitals' sums with intervals as far as sums have them."""
    told = {}
    for name, verdict in verdicts.items():
        known = _intervals(verdict, clinical.methods.get(name)) if verdict.sums else {}
        if known:
            judgement = replace(verdict.judgement, intervals=known)
            facts = {**verdict.outcome.facts, "interval": KIND}
            verdict = replace(verdict, judgement=judgement, outcome=replace(verdict.outcome, facts=facts))
        told[name] = verdict
    return told


def _intervals(verdict: Verdict, record: MethodRecord | None) -> dict[str, tuple[float, float]]:
    table, known = verdict.judgement.confusion, dict[str, tuple[float, float]]()
    if record is not None and record.low is not None and record.high is not None:
        known["auroc"] = record.low, record.high
    if table and (recall := mean_recall(np.asarray(table))):
        known["balanced_accuracy"] = recall[1:]
    return known


def groups_of(study: Study, verdicts: Mapping[str, Verdict]) -> dict[str, dict[str, tuple[Group, ...]]]:
    """Returns each method's figures of the groups that hospitals tell, by column."""
    wanted, heads = study.settings.subgroups, _heads(verdicts)
    if study.settings.test != "sites" or not wanted or not heads:
        return {}
    stated, classes = stated_groups(wanted), study.problem.classes
    ends = np.cumsum([0, *map(len, stated.values())]).tolist()
    shapes = expected_shapes(len(classes))
    expect = {name: ArraySpec((len(heads), ends[-1], *shape), least=0.0) for name, shape in shapes.items()}
    request = Request("group_scores", {"heads": _stack(heads)}, {"groups": wanted}, expect, GROUPS, check=contradiction)
    sums = study.hospitals.total(request)

    def told(row: int, first: int, names: tuple[str, ...]) -> tuple[Group, ...]:
        each = [Update({key: array[row, first + place] for key, array in sums.items()}) for place in range(len(names))]
        return tuple(summed_group(name, part, classes) for name, part in zip(names, each, strict=True))

    spans = [(column, names, first) for (column, names), (first, _) in zip(stated.items(), pairwise(ends), strict=True)]
    return {
        method: {column: told(row, first, names) for column, names, first in spans} for row, method in enumerate(heads)
    }


def _heads(verdicts: Mapping[str, Verdict]) -> dict[str, Head]:
    """Affine heads that hospitals judged, one for all."""
    found: dict[str, Any] = {name: one.outcome.heads.get("") for name, one in verdicts.items() if one.sums}
    return {name: head for name, head in found.items() if isinstance(head, Head)}


def _stack(heads: Mapping[str, Head]) -> Array:
    rows = [np.concatenate([head.weight, head.bias[:, None]], axis=1) for head in heads.values()]
    return np.stack(rows).astype(np.float32)
