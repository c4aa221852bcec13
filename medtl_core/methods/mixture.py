"""Several affine heads as one classifier: the weighted mean of their probabilities."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import WeightsError
from medtl_core.evaluation.ensemble import mean_of_probabilities
from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model, Packed
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.values import Head

_ENOUGH = 1e-6


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

    def in_use(self, study: Study) -> dict[str, Head]:
        """Returns the heads that have a weight, by name."""
        pairs = zip(self.members, self.heads, self.weights, strict=True)
        return {name: study.head(head, "member", {}) for name, head, weight in pairs if weight > 0}

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        wide = np.asarray(values, np.float64)
        return mean_of_probabilities([wide @ head[:, :-1].T + head[:, -1] for head in self.heads], self.weights)

    def pack(self) -> Packed:
        """See Model."""
        arrays = {"heads": self.heads, "weights": self.weights}
        return Packed(arrays, {"members": json.dumps(self.members)}, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """See Model."""
        try:
            heads, weights = (np.asarray(packed.arrays[name], np.float64) for name in ("heads", "weights"))
            members = tuple(str(name) for name in json.loads(str(packed.config["members"])))
        except KeyError as error:
            raise WeightsError(f"a mixture lacks {error}; it was saved by something else") from error
        except (TypeError, ValueError) as error:
            raise WeightsError(f"the members of a mixture cannot be read: {error}") from error
        fits = heads.ndim == 3 and heads.shape[1] == len(packed.classes) and len(heads) == len(members) > 0
        if not fits or weights.shape != (len(members),) or len(set(members)) < len(members):
            raise WeightsError("the arrays of a mixture do not fit together; it is damaged")
        if not (weights >= 0).all() or abs(weights.sum() - 1.0) > _ENOUGH:
            raise WeightsError(f"the weights of a mixture must be non-negative and sum to 1, not {weights.tolist()}")
        return cls(members, heads, weights, packed.classes, packed.fingerprint, packed.facts)


MODELS: tuple[type[Model], ...] = (Mixture,)
