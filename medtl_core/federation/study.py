"""A study: what the server asks so that every requested method gets its head, each phase asked once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar, cast, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.federation.feature_map import IDENTITY, FeatureMap, Grid, Reading, Solved, Sums, solve
from medtl_core.federation.hospitals import ArraySpec, Hospitals, Request, Value
from medtl_core.federation.outcome import Moments, Outcome, Problem, Rounds, Share
from medtl_core.heads.closed_form import FAMILIES, column_choices
from medtl_core.heads.crossval import TEMPERATURES
from medtl_core.heads.linear import to_raw
from medtl_core.heads.statistics import TINY, Float, Statistics, contradiction
from medtl_core.values import Array, Head

_Made = TypeVar("_Made")

#: Bytes up to which the server keeps the rows of hospitals' roots; beyond, gradients travel whole.
_KEPT = 1 << 30


@dataclass(frozen=True)
class Candidates:
    """A need: heads of a kind on some feature columns over its strengths, cross-validated (phases of the sums).

    Attributes:
        family: of `heads.closed_form.FAMILIES`; a subclass knows others.
        columns_key: taps as `heads.closed_form.column_choices` names them; "" = all columns.
    """

    #: Whether the rows of the hospitals' roots are read.
    rows: ClassVar[bool] = False

    family: str
    columns_key: str = ""

    @property
    def strengths(self) -> tuple[float, ...]:
        """Of the regularisation."""
        return FAMILIES[self.family].strengths

    def grid(self, study: "Study") -> Grid:
        """Returns the heads, as wide as all features."""
        return Grid.of(FAMILIES[self.family], study.sums, study.runs()[self.columns_key] if self.columns_key else None)


Need = Candidates | Rounds


class Asker(Protocol):
    """What a study needs of a method; see `federation.method.Method`."""

    test: ClassVar[str]

    @property
    def name(self) -> str:
        """The full name."""

    def needs(self, study: "Study") -> tuple[Need, ...]:
        """See Method."""

    def outcome(self, study: "Study") -> Outcome:
        """See Method."""


@final
class Study:
    """Obtains heads from hospitals. Phases run when first needed and are kept, so methods share what they share.

    Attributes:
        hospitals: who answers.
        problem: what the server knows of the features.
        settings: of the run.
        methods: asked for.
        needs: of all methods together.
    """

    def __init__(self, hospitals: Hospitals, problem: Problem, settings: Settings, methods: Sequence[Asker]) -> None:
        self.hospitals, self.problem, self.settings = hospitals, problem, settings
        self.methods, self.names = tuple(methods), tuple(method.name for method in methods)
        self.needs = tuple(dict.fromkeys(need for method in methods for need in method.needs(self)))
        self._kept: dict[str, Any] = {}
        self._solved: dict[Candidates, tuple[Solved, int]] = {}

    def outcome(self, method: Asker) -> Outcome:
        """Returns what a method gives, worked out once; an ensemble asks here for what its members gave."""
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
        counts = ArraySpec((classes,), least=0.0, step=1.0)
        expect = {"counts": counts, "sum": ArraySpec((width,)), "square": ArraySpec((width,), least=0.0)}

        def check(arrays: Mapping[str, Array], cases: int) -> str:
            number = arrays["counts"].sum().reshape(1, 1)
            return contradiction(number, arrays["sum"][None, None], arrays["square"][None], cases)

        sums = self.hospitals.total(Request("moments", expect=expect, check=check))
        cases = max(float(sums["counts"].sum()), 1.0)
        mean = sums["sum"] / cases
        return Moments(sums["counts"], mean, np.sqrt(np.maximum(sums["square"] / cases - mean**2, 0.0)) + TINY)

    def reading(
        self, map_: FeatureMap, sent: Mapping[str, Array], *, width: int, config: Mapping[str, Value] | None = None
    ) -> Reading:
        """Returns the hospitals to be asked about a feature map."""
        classes = len(self.problem.classes)
        return Reading(self.hospitals, self.settings.folds, map_, sent, width, classes, config or {})

    @cached_property
    def features(self) -> Reading:
        """The agreed features as they are; sums travel as float32 unless there are a table's columns, with offsets."""
        single = not any(tap.rpartition(":")[2].startswith("table") for tap, _, _ in self.problem.groups)
        return self.reading(IDENTITY, {}, width=self.problem.width, config={"in-float32": single})

    @cached_property
    def sums(self) -> Sums:
        """Pooled statistics of all training cases and without each fold (phase "statistics")."""
        room = 8 * sum(self.hospitals.weights.values()) * (self.problem.width + 1) <= _KEPT
        return self.features.sums(keep=room and any(isinstance(need, Candidates) and need.rows for need in self.needs))

    @property
    def statistics(self) -> Statistics:
        """Pooled statistics of all training cases."""
        return self.sums.whole

    def solved(self, candidate: Candidates) -> Solved:
        """Returns the cross-validated head of a candidate, as wide as all features (phase "validate").

        Every candidate that some method declared is judged in the same exchange.
        """
        return self._entry(candidate)[0]

    def closed_bill(self, candidates: Sequence[Candidates]) -> dict[str, Share]:
        """Returns the bill of a method that needs these candidates, but for what a kind of them asks by itself."""
        alone = sum(len(each.strengths) for each in candidates)
        together = self._entry(candidates[0])[1]
        classes = len(self.problem.classes)
        up = 8 * classes * (len(TEMPERATURES) + 1)
        down = 4 * classes * (self.problem.width + 1) * self.settings.folds
        return {"statistics": Share(), "validate": Share.among(alone, together, up=up, down=down)}

    def _entry(self, candidate: Candidates) -> tuple[Solved, int]:
        """A candidate and the number of heads for each fold that its message held."""
        if candidate not in self._solved:
            declared = [need for need in self.needs if isinstance(need, Candidates)]
            fresh = [each for each in dict.fromkeys([*declared, candidate]) if each not in self._solved]
            together = sum(len(each.strengths) for each in fresh)
            solved = solve(self.features, {each: each.grid(self) for each in fresh})
            self._solved |= {each: (head, together) for each, head in solved.items()}
        return self._solved[candidate]

    def runs(self) -> dict[str, NDArray[np.int64]]:
        """Every run of neighbouring taps of a backbone, every union of backbones, and their feature columns."""
        return column_choices(self.problem.groups)

    def rounds_needed(self, algorithm: str) -> frozenset[int]:
        """Returns after how many rounds of an algorithm some method wants a head."""
        return frozenset(each.rounds for each in self.needs if isinstance(each, Rounds) and each.algorithm == algorithm)

    def finished(self, heads: Float) -> Float:
        """Gradient heads on raw features."""
        return to_raw(heads, self.moments.mean, self.moments.scale, self.moments.counts > 0)

    def head(self, affine: Float, kind: str, facts: Mapping[str, Any]) -> Head:
        """Returns an affine head [C, d + 1] on raw features as a value of this study."""
        weight, bias = affine[:, :-1].copy(), affine[:, -1].copy()
        return Head(weight, bias, kind, self.problem.classes, self.problem.fingerprint, facts)
