"""Feature maps: how a hospital reads its cases, and the one way from there to cross-validated closed-form heads.

Hospitals sum what a map gives, fold by fold; the server solves heads without each fold, the hospitals judge these on
the fold that was left out, and the best strength is solved from all cases. Two exchanges, and only sums leave; the
result equals cross-validation on the pooled cases.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.hospitals import ArraySpec, Check, Hospitals, Request
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Family, widened
from medtl_core.heads.crossval import TEMPERATURES, WORST, Choice, choose, held_out
from medtl_core.heads.linear import tempered
from medtl_core.heads.statistics import ROUNDING, Float, Statistics, by_fold, is_few, pack, rounded, unpack, untrue
from medtl_core.values import Array, Released

_Key = TypeVar("_Key")
Read = Callable[[SiteData, Arrays, Config], tuple[NDArray[np.floating[Any]], NDArray[np.int64]]]


@dataclass(frozen=True)
class FeatureMap:
    """How a hospital reads its cases: pure, from what the server sent.

    Attributes:
        name: prefixes the hospital's tasks, NAME_statistics and NAME_validate; "" = the features as they are.
        read: gives values [n, d] and the classes to be told from them, int [n].
    """

    name: str
    read: Read

    def task(self, step: str) -> str:
        """Returns the name of a task on the wire."""
        return f"{self.name}_{step}" if self.name else step


#: The agreed features and the diagnosis.
IDENTITY = FeatureMap("", lambda site, arrays, config: (site.values, site.label))


def tasks_of(map_: FeatureMap) -> dict[str, Task]:
    """Returns what a hospital answers for a map: sums of each fold, and verdicts on heads trained without the fold."""

    def statistics(site: SiteData, arrays: Arrays, config: Config) -> Released:
        folds, (values, label) = int(config["folds"]), map_.read(site, arrays, config)
        sums = pack(values, label, site.classes, site.fold(folds), folds)
        return Released(rounded(sums) if config.get("in-float32") else sums)

    def validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
        values, label = map_.read(site, arrays, config)
        return Released(held_out(arrays["heads"], values, label, site.fold(int(config["folds"]))))

    return {map_.task("statistics"): statistics, map_.task("validate"): validate}


@dataclass(frozen=True)
class Sums:
    """Statistics summed over all hospitals.

    Attributes:
        whole: of all training cases.
        without: of all but those of each fold.
        rows: hospital -> rows of each fold's root, of those that sent roots (see `heads.statistics`); kept on request.
        seconds: of CPU that the axes took.
    """

    whole: Statistics
    without: Sequence[Statistics]
    rows: Mapping[str, Sequence[Float]] = field(default_factory=dict)
    seconds: float = 0.0

    @cached_property
    def decomposed(self) -> Self:
        """The same with all axes, each set's found in a thread; every family of heads reads them."""
        start = time.process_time()
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            whole, *without = pool.map(Statistics.decomposed, (self.whole, *self.without))
        return replace(self, whole=whole, without=without, seconds=time.process_time() - start)

    @classmethod
    def of(cls, parts: Sequence[Statistics], rows: Mapping[str, Sequence[Float]]) -> Self:
        """Returns the sums of all folds from those of each."""
        whole = sum(parts[1:], start=parts[0])
        without = [whole - part for part in parts]
        spans = [np.concatenate(of_fold) for of_fold in zip(*rows.values(), strict=True)]
        if spans and sum(map(len, spans)) == whole.cases:
            whole = replace(whole, span=np.concatenate(spans))
            others = [[*spans[:fold], *spans[fold + 1 :]] for fold in range(len(parts))]
            without = [replace(part, span=np.concatenate(rest)) for part, rest in zip(without, others, strict=True)]
        return cls(whole, without, rows)


@dataclass(frozen=True)
class Grid:
    """The heads of one kind over its strengths, among which cross-validation chooses.

    Attributes:
        strengths: of its regularisation, S of them.
        whole: float64 [S, C, d + 1], of all training cases.
        without: float64 [F, S, C, d + 1], without each fold.
        counts: float64 [C], cases of each class.
        server_cpu: CPU seconds.
    """

    strengths: tuple[float, ...]
    whole: Float
    without: Float
    counts: Float
    server_cpu: float

    @classmethod
    def of(cls, family: Family, sums: Sums, columns: NDArray[np.int64] | None = None) -> Self:
        """Returns the heads of a closed-form family.

        Of a family that reads some columns only they are as wide as all features.
        """
        start, width = time.thread_time(), sums.whole.sums.shape[1]
        if columns is not None:
            sums = Sums(sums.whole.select(columns), [part.select(columns) for part in sums.without])
        sums = sums.decomposed if family.spectral else sums
        heads = np.stack([family.heads(cases) for cases in (sums.whole, *sums.without)])
        heads = heads if columns is None else widened(heads, columns, width)
        spent = time.thread_time() - start + sums.seconds
        return cls(family.strengths, heads[0], heads[1:], sums.whole.counts, spent)


@dataclass(frozen=True)
class Solved:
    """A head at its cross-validated strength and temperature.

    Attributes:
        affine: float64 [C, d + 1], on what the map reads.
        without: float64 [F, C, d + 1], the same without each fold.
        choice: what cross-validation says.
        strength: of the family's regularisation.
        server_cpu: CPU seconds.
    """

    affine: Float
    without: Float
    choice: Choice
    strength: float
    server_cpu: float

    @property
    def facts(self) -> dict[str, Any]:
        """What a head's facts say of it."""
        choice = self.choice
        facts = {"strength": self.strength, "temperature": choice.temperature, "cv_loss": choice.loss}
        return {**facts, "cv_balanced_accuracy": choice.balanced_accuracy}


@dataclass(frozen=True)
class Reading:
    """A feature map as hospitals are asked about it.

    Attributes:
        hospitals: who answers.
        folds: of the cross-validation.
        map: how they read their cases.
        sent, config: arrays and flat values the map needs.
        width: number of values d that it reads from a case.
        classes: their number C.
    """

    hospitals: Hospitals
    folds: int
    map: FeatureMap
    sent: Mapping[str, Array]
    width: int
    classes: int
    config: Config = field(default_factory=dict)

    def sums(self, phase: str = "", *, keep: bool = False) -> Sums:
        """Returns the summed statistics (phase "NAME_statistics" unless stated), and the roots' rows where kept."""
        folds, classes, width = self.folds, self.classes, self.width
        dtype = "float32" if self.config.get("in-float32") else "float64"

        def shapes(cases: int) -> dict[str, ArraySpec]:
            counts = {"counts": ArraySpec((folds, classes), least=0.0, step=1.0)}
            if is_few(cases, width):
                return {**counts, "labels": ArraySpec((cases, classes)), "rows": ArraySpec((cases, width + 1), dtype)}
            gram = ArraySpec((folds, width * (width + 1) // 2), dtype)
            return {**counts, "sums": ArraySpec((folds, classes, width), dtype), "gram": gram}

        none = Statistics(np.zeros(classes), np.zeros((classes, width)), np.zeros((width, width)))
        parts, few = [none] * folds, dict[str, Mapping[str, Array]]()
        for reply in self.hospitals.ask(self._request("statistics", self.sent, phase, by_cases=shapes, check=untrue)):
            if keep and "rows" in reply.arrays:
                few[reply.site] = reply.arrays
            else:
                parts = [part + own for part, own in zip(parts, unpack(reply.arrays), strict=True)]
        if few:
            parts = [part + own for part, own in zip(parts, Statistics.of_roots([*few.values()]), strict=True)]
        return Sums.of(parts, {site: by_fold(told["rows"], told["counts"]) for site, told in few.items()})

    def judged(self, heads: Float, phase: str = "") -> dict[str, Array]:
        """Returns summed losses and hits of fold heads [F, S, C, d + 1]; see `heads.crossval.held_out`."""
        strengths = heads.shape[1]
        losses = ArraySpec((strengths, len(TEMPERATURES), self.classes), least=0.0)
        expect = {"losses": losses, "hits": ArraySpec((strengths, self.classes), least=0.0, step=1.0)}
        arrays = {**self.sent, "heads": heads.astype(np.float32)}
        check = at_most({"losses": WORST, "hits": 1.0})
        return self.hospitals.total(self._request("validate", arrays, phase, expect=expect, check=check))

    def _request(self, step: str, arrays: Mapping[str, Array], phase: str, **replies: Any) -> Request:
        return Request(self.map.task(step), arrays, {**self.config, "folds": self.folds}, phase=phase, **replies)


def at_most(costs: Mapping[str, float]) -> Check:
    """Returns a check that sums over classes [..., C] are not more than so much for each of the hospital's cases."""

    def check(arrays: Mapping[str, Array], cases: int) -> str:
        room = cases * (1.0 + ROUNDING)
        more = [name for name, most in costs.items() if (arrays[name].sum(axis=-1) > most * room).any()]
        return f"its {more[0]} are more than its cases can give" if more else ""

    return check


def solve(reading: Reading, grids: Mapping[_Key, Grid], phase: str = "") -> dict[_Key, Solved]:
    """Returns the head of each candidate, its strength and temperature cross-validated, all judged in one exchange.

    Args:
        reading: of the map.
        grids: candidates over their strengths.
        phase: under which the exchange is booked; "" = "NAME_validate".
    """
    answers = reading.judged(np.concatenate([grid.without for grid in grids.values()], axis=1), phase)
    solved, first = {}, 0
    for key, grid in grids.items():
        last = first + len(grid.strengths)
        choice = choose({name: array[first:last] for name, array in answers.items()}, grid.counts)
        index, first = choice.index, last
        affine, without = (tempered(heads, choice.temperature) for heads in (grid.whole[index], grid.without[:, index]))
        solved[key] = Solved(affine, without, choice, grid.strengths[index], grid.server_cpu)
    return solved
