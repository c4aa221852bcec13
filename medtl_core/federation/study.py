"""A study: what the server asks so that every requested method gets its head, each phase asked once."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar, cast, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.evaluation.calibration import log_prior
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Request
from medtl_core.federation.method import Method, Need, Rounds
from medtl_core.federation.outcome import Moments, Outcome, Problem, Share
from medtl_core.federation.trajectory import Course, run_course
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.crossval import TEMPERATURES, Choice, choose
from medtl_core.heads.linear import to_raw
from medtl_core.heads.statistics import TINY, Float, Statistics, unpack
from medtl_core.heads.tap_subsets import column_choices
from medtl_core.values import Head, Update

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Solved:
    """A closed-form head at its cross-validated strength and temperature.

    Attributes:
        affine: float64 [C, d + 1] on raw features.
        facts: strength, temperature, loss.
        bill: share of each phase.
        server_cpu: CPU seconds.
    """

    affine: Float
    facts: Mapping[str, Any]
    bill: Mapping[str, Share]
    server_cpu: float


@final
class Study:
    """Obtains heads from hospitals. Phases run when first needed and are kept, so methods share what they share."""

    def __init__(self, hospitals: Hospitals, problem: Problem, settings: Settings, methods: Sequence[Method]) -> None:
        self.hospitals, self.problem, self.settings = hospitals, problem, settings
        self.methods, self.names = tuple(methods), tuple(method.name for method in methods)
        self._kept: dict[str, Any] = {}
        self._courses: dict[str, Course] = {}
        self._cpu: dict[str, float] = {}
        self.needs: frozenset[Need] = frozenset(need for method in methods for need in method.needs(self))

    def rounds_needed(self, algorithm: str) -> frozenset[int]:
        """Returns after how many rounds of an algorithm some method wants a head."""
        return frozenset(need.rounds for need in self._trained(algorithm))

    def folds_needed(self, algorithm: str) -> bool:
        """Returns whether some method wants an algorithm's heads cross-validated: fold heads then train along."""
        return any(need.folds for need in self._trained(algorithm))

    def _trained(self, algorithm: str) -> list[Rounds]:
        return [need for need in self.needs if isinstance(need, Rounds) and need.algorithm == algorithm]

    def outcome(self, method: Method) -> Outcome:
        """Returns what a method gives, worked out once; ensembles are made from outcomes, not here."""
        return self.once(f"outcome/{method.name}", lambda: method.outcome(self))

    def once(self, key: str, make: Callable[[], _Made]) -> _Made:
        """Returns what `make` gave the first time: a phase that several methods share runs once."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(_Made, self._kept[key])

    @cached_property
    def moments(self) -> Moments:
        """Pooled moments of the features (phase "moments")."""
        width, classes = self.problem.width, len(self.problem.classes)
        expect = {"counts": ArraySpec((classes,)), "sum": ArraySpec((width,)), "square": ArraySpec((width,))}
        sums = total(reply.arrays for reply in self.hospitals.ask(Request("moments", expect=expect)))
        cases = max(float(sums["counts"].sum()), 1.0)
        mean = sums["sum"] / cases
        return Moments(sums["counts"], mean, np.sqrt(np.maximum(sums["square"] / cases - mean**2, 0.0)) + TINY)

    @cached_property
    def folds(self) -> list[Statistics]:
        """Pooled statistics of each cross-validation fold (phase "statistics")."""
        folds, width, classes = self.settings.folds, self.problem.width, len(self.problem.classes)
        expect = {
            "counts": ArraySpec((folds, classes)),
            "sums": ArraySpec((folds, classes, width)),
            "gram": ArraySpec((folds, width * (width + 1) // 2)),
        }
        request = Request("statistics", config={"folds": folds}, expect=expect)
        return unpack(Update(total(reply.arrays for reply in self.hospitals.ask(request))))

    @cached_property
    def statistics(self) -> Statistics:
        """Pooled statistics of all training cases."""
        first, *others = self.folds
        return sum(others, start=first)

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """Cross-validated strength and temperature of each closed-form candidate (phase "validate")."""
        everywhere = np.arange(self.problem.width)
        wanted = {name: (name, everywhere) for name in FAMILIES}
        if "discriminant-taps" in self.names:
            wanted |= {f"discriminant@{taps}": ("discriminant", columns) for taps, columns in self.runs().items()}
        with self.clock("validate"):
            stacks = {
                key: np.stack([self.spread(family, self.statistics - fold, columns) for fold in self.folds])
                for key, (family, columns) in wanted.items()
            }
        answers = self.validate(np.concatenate(list(stacks.values()), axis=1), "validate")
        choices, start = {}, 0
        for key, stack in stacks.items():
            stop = start + stack.shape[1]
            part = Update({name: array[start:stop] for name, array in answers.arrays.items()})
            choices[key], start = choose(part, self.statistics.counts), stop
        return choices

    def course(self, algorithm: str) -> Course:
        """Returns the trained heads of a gradient algorithm after each requested round (phase "fit-ALGORITHM")."""
        if algorithm not in self._courses:
            rounds = self.rounds_needed(algorithm)
            stack = 1 + self.settings.folds if self.folds_needed(algorithm) else 1
            moments = self.moments
            start = np.zeros((stack, len(self.problem.classes), self.problem.width + 1))
            self._courses[algorithm] = run_course(
                self.hospitals, self.settings, algorithm, (start, moments.mean, moments.scale), rounds
            )
        return self._courses[algorithm]

    def solved(self, key: str, family: str, columns: NDArray[np.int64] | None = None) -> Solved:
        """Returns the head of the candidate `key` of `choices`, solved from all cases, once."""
        return self.once(f"solved/{key}", lambda: self._solved(key, family, columns))

    def _solved(self, key: str, family: str, columns: NDArray[np.int64] | None) -> Solved:
        choice = self.choices[key]
        with self.clock(key) as spent:
            where = np.arange(self.problem.width) if columns is None else columns
            affine = self.spread(family, self.statistics, where)[choice.index] * choice.temperature
        facts = {"strength": FAMILIES[family].strengths[choice.index], **_facts(choice)}
        cpu = self._cpu["validate"] / max(len(self.choices), 1) + spent[0]
        share = len(FAMILIES[family].strengths) / self._candidates
        return Solved(affine, facts, {"statistics": Share(), "validate": Share(work=share)}, cpu)

    def validate(self, heads: Float, phase: str) -> Update:
        """Returns summed held-out losses and hits of fold heads [F, S, C, d + 1]; see `heads.crossval`."""
        strengths, classes = heads.shape[1:3]
        expect = {
            "losses": ArraySpec((strengths, len(TEMPERATURES), classes)),
            "hits": ArraySpec((strengths, classes)),
        }
        config = {"folds": self.settings.folds}
        request = Request("validate", {"heads": heads.astype(np.float32)}, config, expect, phase)
        return Update(total(reply.arrays for reply in self.hospitals.ask(request)))

    def spread(self, family: str, statistics: Statistics, columns: NDArray[np.int64]) -> Float:
        """Returns heads of a family on some columns, [S, C, d + 1], zero elsewhere."""
        narrow = FAMILIES[family].heads(statistics.select(columns))
        wide = np.zeros((*narrow.shape[:2], self.problem.width + 1))
        wide[:, :, columns], wide[:, :, -1] = narrow[:, :, :-1], narrow[:, :, -1]
        return wide

    def runs(self) -> dict[str, NDArray[np.int64]]:
        """Every run of neighbouring taps of a backbone, every union of backbones, and their feature columns."""
        return column_choices(self.problem.groups)

    def finished(self, heads: Float, adjusted: bool) -> Float:
        """Gradient heads on raw features, without their class prior if `adjusted` (Menon et al., ICLR 2021)."""
        moments = self.moments
        raw = to_raw(heads, moments.mean, moments.scale, moments.counts > 0)
        if adjusted:
            raw[..., -1] -= log_prior(moments.counts)
        return raw

    def head(self, affine: Float, kind: str, facts: Mapping[str, Any]) -> Head:
        """Returns an affine head [C, d + 1] on raw features as a value of this study."""
        weight, bias = affine[:, :-1].copy(), affine[:, -1].copy()
        return Head(weight, bias, kind, self.problem.classes, self.problem.fingerprint, facts)

    @property
    def _candidates(self) -> int:
        """Heads per fold in the "validate" phase."""
        runs = len(self.runs()) if "discriminant-taps" in self.names else 0
        sizes = {name: len(family.strengths) for name, family in FAMILIES.items()}
        return sum(sizes.values()) + runs * sizes["discriminant"]

    @contextmanager
    def clock(self, key: str) -> Iterator[list[float]]:
        """Measures this thread's CPU seconds."""
        spent, start = [0.0], time.thread_time()
        yield spent
        spent[0] = time.thread_time() - start
        self._cpu[key] = self._cpu.get(key, 0.0) + spent[0]


def _facts(choice: Choice) -> dict[str, float]:
    return {"temperature": choice.temperature, "cv_loss": choice.loss, "cv_balanced_accuracy": choice.balanced_accuracy}
