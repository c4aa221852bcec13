"""Heads of several modalities whose part in an answer hangs on the case: on what else it has, and how sure each is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.heads.linear import softmax
from medtl_core.heads.statistics import Float
from medtl_core.methods.models.fused import flaw_of, member_logits, present
from medtl_core.values import Array


def gate_terms(logits: Float, there: NDArray[np.bool_]) -> Float:
    """Returns what the gate reads of each member in each case, [M, n, 2 + M]; zeros where it is not there [n, M].

    The terms are 1, the confidence 1 - H / log C with H the entropy of the member's own probabilities, and for each
    other member 1 where it is there; the term of the member itself is 0.

    Args:
        logits: of the members, [M, n, C].
        there: which members a case has.
    """
    members, cases, classes = logits.shape
    shares = softmax(logits)
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(axis=2)
    others = there[None] * (1.0 - np.eye(members))[:, None]
    sure = 1.0 - entropy / np.log(max(classes, 2))
    terms = np.concatenate([np.ones((members, cases, 1)), sure[:, :, None], others], axis=2)
    return np.asarray(terms * there.T[:, :, None])


@final
@dataclass(frozen=True)
class Gated(Model):
    """A head for each modality, and a linear gate for each that says how much it counts in a case, at least nothing.

    Attributes:
        members: names of the modalities, M of them.
        heads: float64 [M, C, d + 1] on raw features, zero outside the modality's own.
        gate: float64 [M, 2 + M], on `gate_terms`.
        bounds: int64 [M, 3], a `Modality.row` each.
    """

    kind: ClassVar[str] = "gated"
    AXES: ClassVar[Mapping[str, str]] = {"heads": "mcd+", "gate": "mt", "bounds": "mb"}

    members: tuple[str, ...]
    heads: Float
    gate: Float
    bounds: Array
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        return np.asarray(self.shares(values).sum(axis=0))

    def shares(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns what each member adds to the logits, float64 [M, n, C]: zeros where a case lacks it."""
        logits = member_logits(values, self.heads)
        opened = np.einsum("mnt,mt->mn", gate_terms(logits, present(values, self.bounds)), self.gate)
        return np.asarray(logits * np.maximum(opened, 0.0)[:, :, None])

    def flaw(self) -> str:
        """See Model."""
        if not len(set(self.members)) == len(self.members) == len(self.heads) > 0:
            return "its heads do not belong to its members"
        if self.gate.shape[1] != 2 + len(self.members):
            return f"its gate must read {2 + len(self.members)} terms"
        return flaw_of(self.bounds.tolist(), self.heads.shape[2] - 1)


MODELS: tuple[type[Model], ...] = (Gated,)
