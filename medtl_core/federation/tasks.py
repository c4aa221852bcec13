"""What a hospital can be asked whatever the method: one pure function per task, from its features to a release.

These are the only computations that end in something leaving the building. Each returns a `Released` value; here no
privacy is claimed, and the event says so.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.federated import summarise
from medtl_core.features.dataset import DerivedStore, Material
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import Lesson, with_bias
from medtl_core.heads.statistics import Float, roots
from medtl_core.values import Array, Released, Scores, Update

Config = Mapping[str, Any]
Arrays = Mapping[str, Array]

#: Cases, no more than columns, up to which products of pairs make a round cheaper (docs/methods.md, gradient heads).
_FEW = 256


@dataclass(frozen=True, slots=True)
class SiteData:
    """A hospital's own cases as features; it never leaves the process that made it.

    Attributes:
        name: of the hospital.
        values: float32 [n, d], training features.
        label: int64 [n].
        patients: str [n].
        test_values: float32 [m, d], held-out cases for evaluation at the hospital.
        test_label: int64 [m].
        test_patients: str [m].
        classes: number of classes C.
        seed: the run's seed.
        material: the training cases themselves, for methods that look deeper than the features.
        test_material: the held-out cases themselves.
        state: the hospital's own folder for what must survive between rounds; None = it keeps nothing.
    """

    name: str
    values: NDArray[np.float32]
    label: NDArray[np.int64]
    patients: Array
    test_values: NDArray[np.float32]
    test_label: NDArray[np.int64]
    test_patients: Array
    classes: int
    seed: int
    material: Material | None = None
    test_material: Material | None = None
    state: Path | None = None

    def fold(self, folds: int) -> NDArray[np.int64]:
        """Returns the cross-validation fold of each training case, int64 [n]; see `heads.crossval.fold_of`."""
        return fold_of(self.patients, self.label, folds, self.seed)

    def derived(self, name: str, make: Callable[[], Sequence[Array]], *given: Array) -> tuple[Array, ...]:
        """Returns what `make` gives of the training features and what was given: made once, and not to be changed."""
        store = self.material.store if self.material else DerivedStore(0)
        key = f"{self.name}/{name}/{hashlib.sha256(b''.join(array.tobytes() for array in given)).hexdigest()}"
        entry = store.get(key)
        if entry is None or entry[0] is not self.values:  # other features of the same hospital
            entry = self.values, *make()
            store.put(key, entry)
        return tuple(entry[1:])

    def lesson(self, mean: Array, scale: Array, control: Float | None = None) -> Lesson:
        """Returns the training features standardised, and the products of all pairs of few: every round asks again."""

        def made() -> list[Float]:
            rows = with_bias(self.values, mean, scale)
            return [rows, rows @ rows.T] if len(rows) <= min(_FEW, rows.shape[1]) else [rows]

        inputs, *pairs = self.derived("inputs", made, mean, scale)
        return Lesson(inputs, np.eye(self.classes)[self.label], pairs[0] if pairs else None, control)

    def bases(self, folds: int) -> tuple[Float, ...]:
        """Returns the bases of the roots of each fold of few cases; see `heads.statistics.Root`."""
        fold = self.fold(folds)
        return self.derived("bases", lambda: [root.basis for root in roots(self.values, fold, folds)], fold)


def moments(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts [C], sum [d] and sum of squares [d] of the features: what federated standardisation needs."""
    wide = site.values.astype(np.float64)
    counts = np.bincount(site.label, minlength=site.classes).astype(np.float64)
    return Released(Update({"counts": counts, "sum": wide.sum(axis=0), "square": (wide**2).sum(axis=0)}))


def evaluate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Summable evaluation of heads [H, C, d + 1] on this hospital's held-out cases; see `evaluation.federated`."""
    values = site.test_values.astype(np.float64)
    heads = arrays["heads"].astype(np.float64)
    sums = [judged(site, values @ head[:, :-1].T + head[:, -1]).arrays for head in heads]
    return Released(Update({name: np.stack([head[name] for head in sums]) for name in sums[0]}))


def judged(site: SiteData, logits: NDArray[np.float64]) -> Update:
    """Returns summable evaluation of logits [m, C] of this hospital's held-out cases; see `evaluation.federated`."""
    return summarise(scored(site, logits))


def scored(site: SiteData, logits: NDArray[np.float64]) -> Scores:
    """Returns logits [m, C] of this hospital's held-out cases with what is known of these."""
    group = np.unique(site.test_patients, return_inverse=True)[1].astype(np.int64)
    told = site.test_material.examples.columns if site.test_material else {}
    names = np.full(len(site.test_label), site.name)
    return Scores(logits, site.test_label, names, group, told.get("time"), told.get("labels"))


Task = Callable[[SiteData, Arrays, Config], Released]
TASKS: Mapping[str, Task] = {task.__name__: task for task in (moments, evaluate)}
