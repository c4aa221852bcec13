"""Heads of several modalities as one classifier: the weighted sum of the logits of those that a case has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material, absent_row
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Problem
from medtl_core.heads.statistics import Float
from medtl_core.values import Array

_ENOUGH = 1e-6


@dataclass(frozen=True)
class Modality:
    """The feature columns [start, stop) of one backbone, at whatever sizes.

    Attributes:
        table: whether they are a table's: of each column its value and whether it is missing.
    """

    name: str
    start: int
    stop: int
    table: bool

    @property
    def row(self) -> tuple[int, int, int]:
        """As it travels: start, stop, and 1 for a table."""
        return self.start, self.stop, int(self.table)


def modalities(problem: Problem) -> tuple[Modality, ...]:
    """Returns what a case's features are joined of, in order: backbones, and kinds of a table's columns."""
    found: dict[str, Modality] = {}
    for tap, start, stop in problem.groups:
        backbone, _, last = tap.rpartition(":")
        table = last.partition(".")[0] == "table"
        name = last if table else "table.pairs" if last == "pairs" else backbone.partition("@")[0]
        first = found[name].start if name in found else start
        found[name] = Modality(name, first, stop, table)
    return tuple(found.values())


def kinds_of(problem: Problem, affine: Float, mean: Float) -> dict[str, Any]:
    """Returns where each of an affine head's modalities lies, and what its mean adds to the logits, [C, d + 1] by [d].

    `medtl predict --explain` tells what a modality adds beyond that; of a single one nothing is told.
    """
    parts = modalities(problem)
    rows = [(part.start, part.stop) for part in parts]
    told = [[*row, (affine[:, slice(*row)] @ mean[slice(*row)]).tolist()] for row in rows]
    return {"kinds": {part.name: one for part, one in zip(parts, told, strict=True)}} if len(parts) > 1 else {}


def present(values: NDArray[np.floating[Any]], bounds: Array) -> NDArray[np.bool_]:
    """Returns which modalities each case has, bool [n, M], from its features [n, d] and `Modality.row`s [M, 3].

    No picture, note or signal that can be read has features that are all zero, and no table but an empty one lacks all
    its values: what is missing needs no sign of its own.
    """
    parts = ((values[:, start:stop], bool(table)) for start, stop, table in np.asarray(bounds, np.int64).tolist())
    return np.stack([(part != absent_row(part.shape[1], table)).any(axis=1) for part, table in parts], axis=1)


def weighted(logits: Float, there: NDArray[np.bool_], weights: Float) -> Float:
    """Returns the sum [n, C] of members' logits [M, n, C] by `shares_of` their weights [M].

    A case that has no member has logits of zero: all classes are equally likely.
    """
    return np.asarray(np.einsum("mnc,nm->nc", logits, shares_of(there, weights)))


def shares_of(there: NDArray[np.bool_], weights: Float) -> Float:
    """Returns how much each member counts in each case, [n, M]: zero where it is not there [n, M].

    A case that has only members without a weight is answered by their mean: each head is calibrated by itself, and one
    that tells nothing says so. Weights that sum to 1 give a mean of those that are there. A larger sum f says that
    members tell different things, which add up. It goes to 1 with the number of members: what is there counts
    1 + (f - 1) (1 - q) / (1 - q0), with q the sum of its squared shares, 1 of a single member, and q0 that of all;
    never more than f.
    """
    total, part = float(weights.sum()), np.where(there, weights, 0.0)
    part = np.where(part.any(axis=1, keepdims=True), part, there.astype(np.float64))
    share = part / np.maximum(part.sum(axis=1, keepdims=True), _ENOUGH)
    spread = 1.0 - (share**2).sum(axis=1, keepdims=True)
    whole = 1.0 - float(((weights / total) ** 2).sum())
    return np.asarray(share * np.minimum(1.0 + (total - 1.0) * spread / max(whole, _ENOUGH), total))


def member_logits(values: NDArray[np.floating[Any]], heads: Float) -> Float:
    """Returns the logits [M, n, C] of heads [M, C, d + 1]."""
    wide = np.asarray(values, np.float64)
    return np.stack([wide @ head[:, :-1].T + head[:, -1] for head in heads])


@final
@dataclass(frozen=True)
class Fused(Model):
    """A head for each modality, and how much each counts.

    Attributes:
        members: names of the modalities, M of them.
        heads: float64 [M, C, d + 1] on raw features, zero outside the modality's own.
        weights: float64 [M], non-negative; they sum to 1 or, where members add up, to more: see `shares_of`.
        bounds: int64 [M, 3], a `Modality.row` each.
    """

    kind: ClassVar[str] = "fused"
    AXES: ClassVar[Mapping[str, str]] = {"heads": "mcd+", "weights": "m", "bounds": "mb"}

    members: tuple[str, ...]
    heads: Float
    weights: Float
    bounds: Array
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        return weighted(member_logits(values, self.heads), present(values, self.bounds), self.weights)

    def shares(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns what each member adds to the logits, float64 [M, n, C]: zeros where a case lacks it."""
        share = shares_of(present(values, self.bounds), self.weights)
        return np.asarray(member_logits(values, self.heads) * share.T[:, :, None])

    def flaw(self) -> str:
        """See Model."""
        if not len(set(self.members)) == len(self.members) == len(self.heads) > 0:
            return "its heads do not belong to its members"
        if not (self.weights >= 0).all() or not -_ENOUGH < self.weights.sum() - 1.0 < len(self.weights):
            return "its weights must be non-negative and sum to 1 or more"
        return flaw_of(self.bounds.tolist(), self.heads.shape[2] - 1)


def flaw_of(bounds: Sequence[Sequence[int]], width: int) -> str:
    """Returns what is wrong with `Modality.row`s of features of a width; "" = nothing."""
    wrong = [row for row in bounds if len(row) != 3 or not 0 <= row[0] < row[1] <= width or row[2] not in (0, 1)]
    return "its bounds are no feature columns" if wrong else ""


MODELS: tuple[type[Model], ...] = (Fused,)
