"""Feature maps: how a hospital reads its cases, and the one way from there to cross-validated closed-form heads.

Hospitals sum what a map gives, fold by fold; the server solves heads without each fold, the hospitals judge these on
the fold that was left out, and the best strength is solved from all cases. Two exchanges, and only sums leave; the
result equals cross-validation on the pooled cases.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.hospitals import ArraySpec, Check, Hospitals, Request
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Family
from medtl_core.heads.crossval import TEMPERATURES, WORST, Choice, choose, held_out
from medtl_core.heads.statistics import (
    ROUNDING,
    Float,
    Statistics,
    collect,
    contradiction,
    diagonal,
    pack,
    unpack,
)  # fmt: skip
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
        fold = site.fold(folds)
        return Released(pack([collect(values[fold == f], label[fold == f], site.classes) for f in range(folds)]))

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
    """

    whole: Statistics
    without: Sequence[Statistics]


@dataclass(frozen=True)
class Solved:
    """A closed-form head at its cross-validated strength and temperature.

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
        return {
            "strength": self.strength, "temperature": self.choice.temperature, "cv_loss": self.choice.loss,
            "cv_balanced_accuracy": self.choice.balanced_accuracy,
        }  # fmt: skip


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

    def sums(self, phase: str = "") -> Sums:
        """Returns the summed statistics (phase "NAME_statistics" unless stated)."""
        expect = {
            "counts": ArraySpec((self.folds, self.classes), least=0.0, step=1.0),
            "sums": ArraySpec((self.folds, self.classes, self.width)),
            "gram": ArraySpec((self.folds, self.width * (self.width + 1) // 2)),
        }

        def check(arrays: Mapping[str, Array], cases: int) -> str:
            squares = diagonal(arrays["gram"], self.width)
            return contradiction(arrays["counts"], arrays["sums"], squares, cases)

        parts = unpack(self._asked("statistics", self.sent, expect, phase, check))
        whole = sum(parts[1:], start=parts[0])
        return Sums(whole, [whole - part for part in parts])

    def judged(self, heads: Float, phase: str = "") -> dict[str, Array]:
        """Returns summed losses and hits of fold heads [F, S, C, d + 1]; see `heads.crossval.held_out`."""
        strengths = heads.shape[1]
        losses = ArraySpec((strengths, len(TEMPERATURES), self.classes), least=0.0)
        expect = {"losses": losses, "hits": ArraySpec((strengths, self.classes), least=0.0, step=1.0)}

        def check(arrays: Mapping[str, Array], cases: int) -> str:
            most = {"losses": WORST * cases * (1.0 + ROUNDING), "hits": float(cases)}
            more = [name for name in most if (arrays[name].sum(axis=-1) > most[name]).any()]
            return f"its {more[0]} are more than its cases can give" if more else ""

        return self._asked("validate", {**self.sent, "heads": heads.astype(np.float32)}, expect, phase, check)

    def _asked(
        self, step: str, arrays: Mapping[str, Array], expect: Mapping[str, ArraySpec], phase: str,
        check: Check | None = None,
    ) -> dict[str, Array]:  # fmt: skip
        config = {**self.config, "folds": self.folds}
        request = Request(self.map.task(step), arrays, config, expect, phase, check=check)
        return self.hospitals.total(request)


def solve(reading: Reading, candidates: Mapping[_Key, tuple[Family, Sums]], phase: str = "") -> dict[_Key, Solved]:
    """Returns the head of each candidate, its strength and temperature cross-validated, all judged in one exchange.

    Args:
        reading: of the map.
        candidates: a family and the statistics it is solved from, as `reading.sums` gave them, or changed.
        phase: under which the exchange is booked; "" = "NAME_validate".
    """
    start = time.thread_time()
    stacks = {
        key: np.stack([family.heads(statistics) for statistics in sums.without])
        for key, (family, sums) in candidates.items()
    }
    spent = time.thread_time() - start
    answers = reading.judged(np.concatenate(list(stacks.values()), axis=1), phase)
    solved, first = {}, 0
    for key, (family, sums) in candidates.items():
        last = first + stacks[key].shape[1]
        choice = choose({name: array[first:last] for name, array in answers.items()}, sums.whole.counts)
        start, first = time.thread_time(), last
        affine = family.heads(sums.whole)[choice.index] * choice.temperature
        cpu = spent / len(candidates) + time.thread_time() - start
        without = stacks[key][:, choice.index] * choice.temperature
        solved[key] = Solved(affine, without, choice, family.strengths[choice.index], cpu)
    return solved
