"""Sets of classes that hold the right one as often as promised, whatever the head: class-conditional conformal sets.

A class is in the set of a case where its log-odds reach a floor, below which at most one case in ten of that class lay
among those it was set on (Vovk, ACML 2012; Angelopoulos and Bates, arXiv 2107.07511, section 4.2). So the set misses
the right class in at most one case in ten, class by class, for cases that are drawn as those were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from medtl_core.errors import WeightsError
from medtl_core.evaluation.federated import log_odds, lower_edges
from medtl_core.values import Array, Scores

#: What is promised of every class.
LEVEL = 0.9


@dataclass(frozen=True)
class Conformal:
    """Floors of the log-odds, one a class.

    Attributes:
        floors: float64 [C], -inf where a class has too few cases for any promise: it is in every set.
        cases: int64 [C], of each class, on which its floor was set.
        level: share of a class's cases whose set holds it.
    """

    floors: Array
    cases: Array
    level: float = LEVEL

    @classmethod
    def of_scores(cls, scores: Scores, level: float = LEVEL) -> Self:
        """Returns the floors from labelled scores; they must not be scores the head was trained on."""
        odds, classes = log_odds(scores.logits), scores.logits.shape[1]
        own = [np.sort(odds[scores.label == number, number]) for number in range(classes)]
        places = [_place(len(values), level) for values in own]
        floors = [values[place - 1] if place else -np.inf for values, place in zip(own, places, strict=True)]
        return cls(np.asarray(floors), np.asarray([len(values) for values in own]), level)

    @classmethod
    def of_sums(cls, positive: Array, level: float = LEVEL) -> Self:
        """Returns the floors from the hospitals' summed histograms `positive` [C, bins]; see `federated.summarise`.

        A floor is the lower edge of the bin in which the exact one lies, so that no promise is weakened.
        """
        counts = np.asarray(positive, np.int64)
        floors = []
        for row in counts:
            place = _place(int(row.sum()), level)
            floors.append(lower_edges()[int(np.searchsorted(np.cumsum(row), place))] if place else -np.inf)
        return cls(np.asarray(floors), counts.sum(axis=1), level)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], classes: int) -> Self | None:
        """Returns what a head's manifest says, None where it says nothing.

        Raises:
            WeightsError: it says something else.
        """
        if not facts:
            return None
        try:
            floors = [-np.inf if floor is None else float(floor) for floor in facts["floors"]]
            cases, level = [int(count) for count in facts["cases"]], float(facts["level"])
        except (LookupError, TypeError, ValueError) as error:
            raise WeightsError("the head's manifest has a damaged entry 'conformal'; train and save it anew") from error
        if len(floors) != classes or len(cases) != classes or np.isnan(floors).any() or not 0 < level < 1:
            raise WeightsError("the head's manifest has a damaged entry 'conformal'; train and save it anew")
        return cls(np.asarray(floors), np.asarray(cases), level)

    def as_facts(self) -> dict[str, Any]:
        """Returns what a manifest keeps."""
        floors = [float(floor) if np.isfinite(floor) else None for floor in self.floors]
        return {"level": self.level, "floors": floors, "cases": [int(count) for count in self.cases]}

    def inside(self, logits: Array) -> Array:
        """Returns which classes are in each case's set, bool [n, C], from logits [n, C] without a prevalence."""
        return np.asarray(log_odds(logits) >= self.floors)

    def held_of(self, scores: Scores) -> tuple[int, int]:
        """Returns how many labelled cases' sets hold the right class, and how many classes the sets name in all."""
        inside = self.inside(scores.logits)
        return int(inside[np.arange(len(scores.label)), scores.label].sum()), int(inside.sum())

    def held_of_sums(self, positive: Array, negative: Array) -> tuple[int, int]:
        """Returns the same from histograms [C, bins]; exact where the floors lie on edges of bins."""
        reached = lower_edges() >= self.floors[:, None]
        held = int(np.asarray(positive)[reached].sum())
        return held, held + int(np.asarray(negative)[reached].sum())

    def unpromised(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Returns the classes that have too few cases for a promise."""
        return tuple(name for name, floor in zip(classes, self.floors, strict=True) if not np.isfinite(floor))


def _place(cases: int, level: float) -> int:
    """Rank from below of the floor among a class's cases; 0 = they are too few."""
    return int(np.floor((1 - level) * (cases + 1) + 1e-9))
