"""Several affine heads as one classifier: the weighted mean of their probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.calibration import log_softmax
from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float

_ENOUGH = 1e-6


def mean_of_probabilities(logits: Sequence[Float], weights: Float) -> Float:
    """Returns the log of members' weighted mean probability [n, C], from their logits, M times [n, C]."""
    logs = [np.log(weight) + log_softmax(each) for each, weight in zip(logits, weights, strict=True) if weight > 0]
    return np.asarray(np.logaddexp.reduce(logs, axis=0))


@final
@dataclass(frozen=True)
class Mixture(Model):
    """A mean of heads' probabilities; its logits are log-probabilities.

    Attributes:
        members: names of the heads, M of them.
        heads: float64 [M, C, d + 1] on raw features.
        weights: float64 [M], non-negative and summing to one.
        classes, fingerprint, facts: as every classifier's.
    """

    kind: ClassVar[str] = "mixture"
    AXES: ClassVar[Mapping[str, str]] = {"heads": "mcd+", "weights": "m"}

    members: tuple[str, ...]
    heads: Float
    weights: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, heads: Mapping[str, Float], weights: Float, facts: Mapping[str, Any]) -> Self:
        """Returns the mixture of named heads [C, d + 1]; `facts` gains their weights by name."""
        shares = dict(zip(heads, np.asarray(weights, np.float64).tolist(), strict=True))
        problem = study.problem
        stack = np.stack(list(heads.values()))
        known = {**facts, "weights": shares}
        return cls(tuple(heads), stack, np.asarray(weights, np.float64), problem.classes, problem.fingerprint, known)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        wide = np.asarray(values, np.float64)
        return mean_of_probabilities([wide @ head[:, :-1].T + head[:, -1] for head in self.heads], self.weights)

    def flaw(self) -> str:
        """See Model."""
        if not len(set(self.members)) == len(self.members) == len(self.heads) > 0:
            return f"{len(self.heads)} heads do not belong to the members {', '.join(self.members) or '(none)'}"
        if not (self.weights >= 0).all() or abs(self.weights.sum() - 1.0) > _ENOUGH:
            return f"weights must be non-negative and sum to 1, not {self.weights.tolist()}"
        return ""


MODELS: tuple[type[Model], ...] = (Mixture,)
