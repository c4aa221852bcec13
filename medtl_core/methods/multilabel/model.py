"""The classifier of a multi-label task: an affine head whose rows are log-odds, each of one finding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.values import ABSENT


@final
@dataclass(frozen=True)
class FindingsHead(Model):
    """Log-odds of every finding by itself, affine in raw features; their softmax would mean nothing.

    Attributes:
        head: float64 [L, d + 1], the bias last; `ABSENT` marks a finding never seen.
        method: that made it, e.g. "discriminant".
    """

    kind: ClassVar[str] = "multi-label"
    AXES: ClassVar[Mapping[str, str]] = {"head": "cd+"}

    head: Float
    method: str
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Study, head: Float, method: str, facts: Mapping[str, Any]) -> "FindingsHead":
        """Returns a head [L, d + 1] as a value of a study."""
        return cls(head, method, study.problem.classes, study.problem.fingerprint, facts)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which findings training cases were both with and without, bool [L]."""
        return np.asarray(self.head[:, :-1].any(axis=1))

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model: log-odds [n, L]; the probability of a finding is 1 / (1 + exp(-log-odds))."""
        return np.asarray(values, np.float64) @ self.head[:, :-1].T + self.head[:, -1]


def marked(heads: Float, counts: Float) -> Float:
    """Returns raw heads [..., L, d + 1] in which a finding seen one way only is always answered that way.

    Args:
        heads: as they were solved.
        counts: float64 [L, 2], training cases without and with each finding. One that nobody knows of is never there.
    """
    seen = counts > 0.5
    lacking = ~seen.all(axis=1)
    heads[..., lacking, :-1] = 0.0
    heads[..., lacking, -1] = np.where(seen[lacking, 1], -ABSENT, ABSENT)
    return heads


MODELS = (FindingsHead,)
