"""Thresholds that a run set for its classes, in use: operating points on cases that the head had not seen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

import numpy as np

from medtl_core.errors import WeightsError
from medtl_core.evaluation.federated import log_odds
from medtl_core.predict.answer import Answer
from medtl_core.values import Array


@final
@dataclass(frozen=True)
class Thresholds:
    """Log-odds from which a class is answered, classes counting alike; a prevalence moves them with the case.

    Attributes:
        floors: of each class that has one, of two classes the second alone.
        target: sensitivity for which they were set.
        others: specificity on the cases on which they were set; None where it is not known.
        classes: of the head, in their order.
    """

    floors: Mapping[str, float]
    target: float
    others: Mapping[str, float | None]
    classes: tuple[str, ...]

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], classes: tuple[str, ...]) -> Self | None:
        """Returns what a head's manifest says, None where it says nothing.

        Raises:
            WeightsError: it says something else.
        """
        if not facts:
            return None
        damaged = WeightsError("the head's manifest has a damaged entry 'operating'; train and save it anew")
        try:
            floors = {str(name): float(point["floor"]) for name, point in facts.items()}
            (target,) = {float(point["target"]) for point in facts.values()}
            others = {str(name): point.get("specificity") for name, point in facts.items()}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise damaged from error
        if not floors.keys() <= set(classes) or not all(map(math.isfinite, floors.values())) or not 0 < target < 1:
            raise damaged
        return cls(floors, target, others, classes)

    @property
    def sentence(self) -> str:
        """What they are, for a reader."""
        told = ", ".join(
            f"{name} from {_probability(floor):.2g}{self._cost(name)}" for name, floor in self.floors.items()
        )
        what = "The answer is by threshold" if self._decides else "Over its threshold is"
        return f"{what}: {told}, set to find {self.target:.0%} of its cases, classes taken as equally common."

    def applied(self, answers: Sequence[Answer], logits: Array, classes: Sequence[str]) -> list[Answer]:
        """Returns answers with the classes whose thresholds they reach, from logits [n, C] without a prevalence.

        Of two classes with one threshold the answer is the one that it names.
        """
        odds, told = log_odds(logits), []
        for answer, row in zip(answers, odds, strict=True):
            over = tuple(name for name, floor in self.floors.items() if row[classes.index(name)] >= floor)
            decided = ""
            if self._decides:
                (other,) = set(classes) - set(self.floors)
                decided = over[0] if over else other
            told.append(replace(answer, over=over, decided=decided))
        return told

    @property
    def _decides(self) -> bool:
        return len(self.classes) == 2 and len(self.floors) == 1

    def _cost(self, name: str) -> str:
        share = self.others.get(name)
        return "" if share is None else f" (spared {share:.0%} of other training cases)"


def _probability(odds: float) -> float:
    return float(1.0 / (1.0 + np.exp(-np.clip(odds, -700, 700))))
