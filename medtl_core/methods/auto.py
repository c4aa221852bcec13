"""The default: two heads that err differently, and cross-validation's word on whether one of them is better alone.

The mean of the log-probabilities of discriminant and logistic regression is an affine head again, for it is the mean of
their logits. Where images are read at several sizes, or by several backbones, the mean is over two heads of each
reading: one head on all columns side by side has twice as many to weigh from the same few cases. With few cases, a
choice among many candidates is worth less than one good candidate (docs/methods.md); so one kind of head, or the first
reading alone, is taken only where its loss on the same held-out cases is lower by more than a standard error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medtl_core.config import kind_of
from medtl_core.federation.feature_map import Solved, at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates, Method, Outcome, Share, Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import WORST
from medtl_core.heads.statistics import Float
from medtl_core.methods.logistic import USUAL, Penalised
from medtl_core.values import Released, Update

#: The usual candidate.
MEAN = "mean"


def compare(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """How far candidates lie apart on a hospital's cases, each judged by the heads made without the case's fold.

    Reads `heads` [F, M, C, d + 1], the logits of each at its own temperature, and `weight` [C], of a case of each class
    in the loss. Answers `losses` [M, C], summed by class, and `squares` [M]: over patients, the squares of what the
    first candidate's weighted loss on all cases of the patient exceeds another's by.
    """
    label, costs = site.label, np.zeros((arrays["heads"].shape[1], len(site.label)))
    fold = site.fold(len(arrays["heads"]))
    for index, stack in enumerate(arrays["heads"].astype(np.float64)):
        rows = np.flatnonzero(fold == index)
        logits = np.asarray(site.values[rows], np.float64) @ stack[:, :, :-1].swapaxes(1, 2) + stack[:, None, :, -1]
        logits -= logits.max(axis=2, keepdims=True)
        costs[:, rows] = np.log(np.exp(logits).sum(axis=2)) - logits[:, np.arange(len(rows)), label[rows]]
    costs = np.minimum(costs, WORST)
    patient = np.unique(site.patients, return_inverse=True)[1]
    apart = (costs[0] - costs) * arrays["weight"][label]
    squares = np.array([(np.bincount(patient, weights=row) ** 2).sum() for row in apart])
    return Released(Update({"losses": costs @ np.eye(site.classes)[label], "squares": squares}))


class Auto(Method):
    """The default: mean log-probability of discriminant and logistic, or one of them where it is clearly better."""

    syntax = "auto"
    reads = ("folds",)

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        keys = _columns(study.problem.groups).values()
        return tuple(need for key in keys for need in (Candidates("discriminant", key), Penalised.after(USUAL, key)))

    def outcome(self, study: Study) -> Outcome:
        """See Method: one exchange beyond the heads' own says how far the candidates lie apart."""
        from medtl_core.methods.models.fused import kinds_of  # a hospital that compares reads no other module

        columns, needs = _columns(study.problem.groups), self.needs(study)
        solved = {need: study.solved(need) for need in needs}
        heads = {MEAN: [*solved.values()]}
        if len(columns) > 1:
            heads[f"{MEAN}@{next(iter(columns))}"] = heads[MEAN][:2]
        for need in needs[:2]:
            heads[need.family] = [head for other, head in solved.items() if other.family == need.family]
        taken, facts = _taken(study, heads)
        readings = {key: f"@{reading}" if reading else "" for reading, key in columns.items()}
        parts = {
            f"{need.family}{readings[need.columns_key]}": head.facts
            for need, head in solved.items()
            if any(head is one for one in heads[taken])
        }
        facts = {"chosen": taken, **facts, "parts": parts}
        affine = np.mean([head.affine for head in heads[taken]], axis=0)
        facts |= kinds_of(study.problem, affine, study.statistics.mean)
        study.once("folds/auto", lambda: np.mean([head.without for head in heads[taken]], axis=0))
        bill = {**study.closed_bill(needs), **Penalised.after(USUAL).bill(study, len(columns)), "compare": Share()}
        spent = sum(head.server_cpu for head in solved.values())
        return Outcome({"": study.head(affine, "auto", facts)}, bill, spent, facts)


def _taken(study: Study, heads: Mapping[str, Sequence[Solved]]) -> tuple[str, dict[str, Any]]:
    """The candidate that is taken, and by how much each differs from the usual one.

    The standard error is that of a sum over patients if the candidates do not differ: then its terms have mean zero.
    """
    folds: Float = np.stack([np.mean([head.without for head in mixed], axis=0) for mixed in heads.values()], axis=1)
    counts = study.statistics.counts
    weight = np.where(counts > 0, 1.0 / np.maximum(counts, 1.0), 0.0) / (counts > 0).sum()
    losses = ArraySpec((len(heads), len(counts)), least=0.0)
    expect = {"losses": losses, "squares": ArraySpec((len(heads),), least=0.0, most=WORST**2)}
    arrays = {"heads": folds.astype(np.float32), "weight": weight}
    sums = study.hospitals.total(Request("compare", arrays, expect=expect, check=at_most({"losses": WORST})))
    loss = dict(zip(heads, (sums["losses"] @ weight).tolist(), strict=True))
    return clearly_better(loss, sums["squares"])


def clearly_better(loss: Mapping[str, float], squares: Float, usual: str = MEAN) -> tuple[str, dict[str, Any]]:
    """Returns the candidate that is taken, the usual one unless another is better by more than a standard error.

    Args:
        loss: of each candidate, cross-validated.
        squares: the squared standard error of each one's difference to the usual one, in the same order.
        usual: the candidate that needs no reason.
    """
    gains = {
        name: {"gain": loss[usual] - loss[name], "error": float(np.sqrt(square))}
        for name, square in zip(loss, squares, strict=True)
        if name != usual
    }
    better = [name for name, row in gains.items() if row["gain"] > row["error"]]
    return min(better, key=lambda name: loss[name]) if better else usual, {"losses": dict(loss), "gains": gains}


def _columns(groups: Sequence[tuple[str, int, int]]) -> dict[str, str]:
    """Each reading of images, in order -> the key of the columns it gives, beside those of other kinds (a table's).

    A reading is named by its size where one backbone reads several. Of a single one, "" -> "", which is all columns.
    """
    readings = {name: name.rpartition(":")[0] for name, _, _ in groups}
    readings = {name: word for name, word in readings.items() if kind_of(word) == "image"}
    words = list(dict.fromkeys(readings.values()))
    if len(words) < 2:
        return {"": ""}
    single = len({word.partition("@")[0] for word in words}) == 1
    keys = ("+".join(name for name, _, _ in groups if readings.get(name, word) == word) for word in words)
    return dict(zip([word.partition("@")[2] for word in words] if single else words, keys, strict=True))


METHODS = (Auto,)
TASKS = {compare.__name__: compare}
