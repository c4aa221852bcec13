"""What the server asks hospitals about their held-out cases beyond `evaluate`: groups, and how sure an AUROC is.

Of what serves all: affine heads together in one exchange, a model in one of its own. A hospital's own head has neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medtl_core.clinical.placements import Spread, placements
from medtl_core.clinical.ranking import mean_recall, summed
from medtl_core.clinical.record import ClassRecord, Clinical, MethodRecord
from medtl_core.clinical.subgroups import Group, stated_groups, summed_group
from medtl_core.evaluation.federated import contradiction, expected_shapes
from medtl_core.evaluation.judgement import Judgement
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.model import Model
from medtl_core.federation.study import Study
from medtl_core.values import Array, Head, Update

from .verdict import Verdict, model_request

#: Phases of the exchanges.
GROUPS, SPREAD = "groups", "auroc-intervals"
#: What intervals from sums are.
KIND = "95% intervals of DeLong (AUROC) and Wilson, from hospitals' sums"


@dataclass(frozen=True)
class _Judged:
    """What one exchange judges.

    Attributes:
        names: of the methods.
        request: what takes their heads or the model there.
    """

    names: tuple[str, ...]
    request: Request

    def asked(self, task: str, phase: str, expect: Mapping[str, ArraySpec], **more: Array | str) -> Request:
        """Returns what asks of it; `more` are arrays, and words of the configuration."""
        arrays = {**self.request.arrays, **{key: one for key, one in more.items() if not isinstance(one, str)}}
        config = {**self.request.config, **{key: one for key, one in more.items() if isinstance(one, str)}}
        named = phase + self.request.phase
        return replace(self.request, task=task, arrays=arrays, config=config, expect=expect, phase=named)


def spreads_of(study: Study, verdicts: Mapping[str, Verdict]) -> list[Spread]:
    """Returns how sure the AUROCs are that hospitals' sums gave, of affine heads together first."""
    classes, findings = study.problem.classes, study.problem.multi_label
    found = []
    for judged_here in _all_judged(verdicts):
        names = judged_here.names
        rankings = [summed(verdicts[name].sums, classes, findings=findings) for name in names]
        placed = np.stack([[placements(each) for each in rows.values()] for rows in rankings])
        defined = np.asarray([bool(min(each.support)) for each in rankings[0].values()])
        columns = 2 * len(names) * len(defined)
        shown = ArraySpec((len(defined), 2), least=0.0, step=1.0)
        expect = {"products": ArraySpec((columns, columns)), "shown": shown}
        request = judged_here.asked("auroc_parts", SPREAD, expect, placed=placed.astype(np.float32))
        found.append(Spread.of(study.hospitals.total(request), names, defined))
    return found


def with_intervals(verdicts: Mapping[str, Verdict], clinical: Clinical) -> dict[str, Verdict]:
    """Returns the verdicts, those from hospitals' sums with intervals as far as sums have them."""
    told = {}
    for name, verdict in verdicts.items():
        known = _intervals(verdict.judgement, clinical.methods.get(name)) if verdict.sums else {}
        if known:
            judgement = replace(verdict.judgement, intervals=known, by_label=_by_label(verdict, clinical.methods[name]))
            facts = {**verdict.outcome.facts, "interval": KIND}
            verdict = replace(verdict, judgement=judgement, outcome=replace(verdict.outcome, facts=facts))
        told[name] = verdict
    return told


def _by_label(verdict: Verdict, record: MethodRecord) -> dict[str, Judgement]:
    labels = verdict.judgement.by_label
    return {name: replace(one, intervals=_intervals(one, record.classes.get(name))) for name, one in labels.items()}


def _intervals(judged: Judgement, record: MethodRecord | ClassRecord | None) -> dict[str, tuple[float, float]]:
    table, known = judged.confusion, dict[str, tuple[float, float]]()
    if record is not None and record.low is not None and record.high is not None:
        known["auroc"] = record.low, record.high
    if table and (recall := mean_recall(np.asarray(table))):
        known["balanced_accuracy"] = recall[1:]
    return known


def groups_of(study: Study, verdicts: Mapping[str, Verdict]) -> dict[str, dict[str, tuple[Group, ...]]]:
    """Returns each method's figures of the groups that hospitals tell, by column."""
    wanted, found = study.settings.subgroups, dict[str, dict[str, tuple[Group, ...]]]()
    if study.settings.test != "sites" or not wanted:
        return {}
    stated, classes, findings = stated_groups(wanted), study.problem.classes, study.problem.multi_label
    ends = np.cumsum([0, *map(len, stated.values())]).tolist()
    shapes = expected_shapes(len(classes), multi_label=findings)
    for judged_here in _all_judged(verdicts):
        heads = len(judged_here.names)
        expect = {name: ArraySpec((heads, ends[-1], *shape), least=0.0) for name, shape in shapes.items()}
        request = judged_here.asked("group_scores", GROUPS, expect, groups=wanted)
        sums = study.hospitals.total(replace(request, check=contradiction))
        for row, method in enumerate(judged_here.names):
            parts = [Update({key: array[row, place] for key, array in sums.items()}) for place in range(ends[-1])]
            found[method] = {
                column: tuple(
                    summed_group(name, part, classes, findings=findings)
                    for name, part in zip(names, parts[first:], strict=False)
                )
                for (column, names), first in zip(stated.items(), ends[:-1], strict=True)
            }
    return found


def _all_judged(verdicts: Mapping[str, Verdict]) -> list[_Judged]:
    """What hospitals judged, one for all: affine heads together, and each model."""
    found: dict[str, Any] = {name: one.outcome.heads.get("") for name, one in verdicts.items() if one.sums}
    heads = {name: head for name, head in found.items() if isinstance(head, Head)}
    rows = [np.concatenate([head.weight, head.bias[:, None]], axis=1) for head in heads.values()]
    together = [_Judged((*heads,), Request("", {"heads": np.stack(rows).astype(np.float32)}))] if heads else []
    models = {name: model for name, model in found.items() if isinstance(model, Model)}
    return together + [_Judged((name,), model_request("", model, f"-{name}")) for name, model in models.items()]
