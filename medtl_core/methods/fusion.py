"""Late fusion: a head for each modality, and weights that cross-validation chooses, from sums over hospitals only.

A case, or a hospital, may lack a modality (`models.fused.present`). Rows of zeros add nothing to sums and Gram
matrices, so the exact statistics of the cases that have a modality follow from those of all cases and a count of who
has it. The weights are those of least held-out loss on a grid, taken only where the best single modality is worse by
more than a standard error of the paired difference; else that one answers alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import absent_row
from medtl_core.federation.feature_map import Grid, Sums, at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.heads.closed_form import FAMILIES, widened
from medtl_core.heads.crossval import TEMPERATURES, WORST, choose
from medtl_core.heads.linear import tempered
from medtl_core.heads.statistics import Float, Statistics
from medtl_core.methods.logistic import USUAL, Penalised
from medtl_core.methods.models.fused import Fused, Modality, modalities
from medtl_core.values import Array

#: Steps of a weight from 0 to 1, and sums of several weights: 1 is a mean, more is evidence that adds up.
_STEPS, _SUMS = 4, (1.0, 1.5, 2.0)


@dataclass(frozen=True)
class _Member:
    """A modality's head [C, d + 1], the same without each fold [F, C, d + 1], and what cross-validation says of it."""

    affine: Float
    without: Float
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class LateFusion:
    """What is known of a study's modalities once hospitals were asked.

    Attributes:
        members: heads by modality.
        weights: float64 [K, M], those tried.
        loss: of each [K].
        error: standard error of each one's difference to the best single modality [K].
        server_cpu: CPU seconds.
    """

    parts: tuple[Modality, ...]
    members: tuple[_Member, ...]
    weights: Float
    loss: Float
    error: Float
    server_cpu: float

    @property
    def single(self) -> int:
        """The best modality alone, as a row of `weights`."""
        alone = self.alone
        return int(alone[np.argmin(self.loss[alone])])

    @property
    def alone(self) -> NDArray[np.int64]:
        """The row of `weights` that is each modality alone, int64 [M]."""
        alone = np.flatnonzero((self.weights > 0).sum(axis=1) == 1)
        return alone[np.argsort(self.weights[alone].argmax(axis=1))]

    @property
    def chosen(self) -> int:
        """The weights that are taken, as a row."""
        best = int(np.argmin(self.loss))
        return best if self.loss[self.single] - self.loss[best] > self.error[best] else self.single

    def model(self, study: Study, row: int) -> Fused:
        """Returns the classifier with some of the weights."""
        names, problem = tuple(part.name for part in self.parts), study.problem
        alone = dict(zip(names, self.loss[self.alone].tolist(), strict=True))
        best = int(np.argmin(self.loss))
        facts = {
            "weights": dict(zip(names, self.weights[row].tolist(), strict=True)), "cv_losses": alone,
            "cv_loss": float(self.loss[row]), "gain": float(self.loss[self.single] - self.loss[best]),
            "error": float(self.error[best]), "best_single": names[int(self.weights[self.single].argmax())],
            "parts": {name: dict(one.facts) for name, one in zip(names, self.members, strict=True)},
        }  # fmt: skip
        heads, bounds = np.stack([one.affine for one in self.members]), np.asarray([part.row for part in self.parts])
        return Fused(names, heads, self.weights[row], bounds, problem.classes, problem.fingerprint, facts)


def asked(study: Study) -> LateFusion:
    """Asks the hospitals, once a study: who has what, heads of each modality, and how far weights lie apart."""
    return study.once("fusion", lambda: _asked(study))


def bill_of(study: Study) -> dict[str, Share]:
    """Returns the phases behind `asked`."""
    phases = ("statistics", "fusion_presence", "fusion_validate", "fusion_compare")
    needed = len(modalities(study.problem))
    return {**dict.fromkeys(phases, Share()), **Penalised.after(USUAL).bill(study, needed)}


def needs_of(study: Study) -> tuple[Penalised, ...]:
    """Returns a head on each modality's columns; of a single backbone it is that one's head."""
    return tuple(Penalised.after(USUAL, _key(study, part)) for part in modalities(study.problem))


def _asked(study: Study) -> LateFusion:
    parts, folds = modalities(study.problem), study.settings.folds
    classes, bounds = len(study.problem.classes), np.asarray([part.row for part in parts], np.int64)
    expect = {"counts": ArraySpec((folds, len(parts), classes), least=0.0, step=1.0)}
    sent: dict[str, Array] = {"bounds": bounds}
    counts = study.hospitals.total(Request("fusion_presence", sent, {"folds": folds}, expect))["counts"]
    grids = {
        (index, family): grid
        for index, part in enumerate(parts)
        for family, grid in _grids(study, part, counts[:, index]).items()
    }
    members, spent = _judged(study, grids, sent), sum(grid.server_cpu for grid in grids.values())
    weights, whole = _tried(len(parts)), study.statistics.counts
    weight = np.where(whole > 0, 1.0 / np.maximum(whole, 1.0), 0.0) / (whole > 0).sum()
    arrays = {**sent, "heads": np.stack([one.without for one in members], axis=1).astype(np.float32)}
    expect = {
        "losses": ArraySpec((len(weights), classes), least=0.0),
        "squares": ArraySpec((len(parts), len(weights)), least=0.0, most=WORST**2),
    }
    request = Request(
        "fusion_compare", {**arrays, "weights": weights, "weight": weight}, expect=expect,
        check=at_most({"losses": WORST}),
    )  # fmt: skip
    sums = study.hospitals.total(request)
    found = LateFusion(parts, members, weights, sums["losses"] @ weight, np.zeros(len(weights)), spent)
    return replace(found, error=np.sqrt(sums["squares"][int(weights[found.single].argmax())]))


def _tried(count: int) -> Float:
    """The weights [K, M] among which cross-validation chooses; each modality alone counts 1."""
    shares = np.asarray([row for row in product(range(_STEPS + 1), repeat=count) if sum(row) == _STEPS]) / _STEPS
    several = shares[(shares > 0).sum(axis=1) > 1]
    return np.concatenate([shares, *(several * total for total in _SUMS[1:])])


def _grids(study: Study, part: Modality, counts: Float) -> dict[str, Grid]:
    """The heads of one modality from those cases that have it, whose counts are [F, C]: as wide as all features."""
    columns, family = np.arange(part.start, part.stop), FAMILIES["discriminant"]
    every = study.sums
    whole = counts.sum(axis=0)
    if np.array_equal(whole, every.whole.counts):
        need = Penalised.after(USUAL, _key(study, part))
        return {"discriminant": Grid.of(family, every, columns), need.family: need.grid(study)}
    sums = [
        _of_present(cases.select(columns), there, part)
        for cases, there in zip((every.whole, *every.without), (whole, *(whole - counts)), strict=True)
    ]
    grid = Grid.of(family, Sums(sums[0], sums[1:]))
    width = study.problem.width
    heads, without = widened(grid.whole, columns, width), widened(grid.without, columns, width)
    return {"discriminant": Grid(grid.strengths, heads, without, whole, grid.server_cpu)}


def _of_present(cases: Statistics, there: Float, part: Modality) -> Statistics:
    """The statistics of those cases that have a modality, `there` [C] of each class: less the rows of the others."""
    row, lacking = absent_row(part.stop - part.start, part.table), cases.counts - there
    return Statistics(there, cases.sums - lacking[:, None] * row, cases.gram - lacking.sum() * np.outer(row, row))


def _judged(study: Study, grids: Mapping[tuple[int, str], Grid], sent: Mapping[str, Array]) -> tuple[_Member, ...]:
    """The heads at their strengths and temperatures, the mean of each modality's, all judged in one exchange."""
    heads = np.concatenate([grid.without for grid in grids.values()], axis=1)
    member = np.repeat([index for index, _ in grids], [len(grid.strengths) for grid in grids.values()])
    losses = ArraySpec((len(member), len(TEMPERATURES), len(study.problem.classes)), least=0.0)
    expect = {"losses": losses, "hits": ArraySpec((len(member), len(study.problem.classes)), least=0.0, step=1.0)}
    arrays = {**sent, "member": member.astype(np.int64), "heads": heads.astype(np.float32)}
    check = at_most({"losses": WORST, "hits": 1.0})
    answers = study.hospitals.total(Request("fusion_validate", arrays, expect=expect, check=check))
    found: dict[int, list[tuple[Float, Float, dict[str, Any]]]] = {}
    first = 0
    for (index, family), grid in grids.items():
        last = first + len(grid.strengths)
        choice = choose({name: array[first:last] for name, array in answers.items()}, grid.counts)
        first, kept = last, (grid.whole[choice.index], grid.without[:, choice.index])
        affine, without = (tempered(head, choice.temperature) for head in kept)
        facts = {"strength": grid.strengths[choice.index], "temperature": choice.temperature, "cv_loss": choice.loss}
        found.setdefault(index, []).append((affine, without, {family: facts}))
    return tuple(_mean(members) for members in found.values())


def _mean(members: Sequence[tuple[Float, Float, dict[str, Any]]]) -> _Member:
    affine = np.mean([head for head, _, _ in members], axis=0)
    without = np.mean([heads for _, heads, _ in members], axis=0)
    return _Member(affine, without, {name: facts for one in members for name, facts in one[2].items()})


def _key(study: Study, part: Modality) -> str:
    return "+".join(name for name, start, stop in study.problem.groups if part.start <= start < stop <= part.stop)


@dataclass(frozen=True)
class Fusion(Method):
    """Late fusion: a head for each modality, weighed by cross-validation; or the best modality alone.

    Attributes:
        alone: whether the best single modality answers, whatever fusion would gain.
    """

    syntax: ClassVar[str] = r"fusion(?P<alone>-alone)?"
    example: ClassVar[str] = "fusion"
    reads: ClassVar[tuple[str, ...]] = ("folds",)

    alone: bool = False

    def needs(self, study: Study) -> tuple[Penalised, ...]:
        """See Method."""
        return needs_of(study)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        fusion = asked(study)
        model = fusion.model(study, fusion.single if self.alone else fusion.chosen)
        return Outcome({"": model}, bill_of(study), fusion.server_cpu, model.facts)


METHODS = (Fusion,)
