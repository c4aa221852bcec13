"""The classifier that private mechanisms make, affine on rows of length one, and the seam of methods that make it."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.study import Study
from medtl_core.heads.statistics import Float
from medtl_core.methods.private.planned_sums import bill_of, plan_of
from medtl_core.methods.private.public_pca import public_map
from medtl_core.privacy.patients import PublicMap


@final
@dataclass(frozen=True)
class Directions(Model):
    """Logits are rows of length one (see `privacy.patients.PublicMap`) times `weight` [C, k], plus `bias` [C]."""

    kind: ClassVar[str] = "directions"
    AXES: ClassVar[Mapping[str, str]] = {"mean": "d", "scale": "d", "basis": "dk", "weight": "ck", "bias": "c"}

    map: PublicMap
    weight: Float
    bias: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        return np.asarray(self.map.rows(values) @ self.weight.T + self.bias)


@dataclass(frozen=True)
class PrivateHead(PrivateMethod):
    """A private method that gives a head on rows of length one: it says what is summed, and what head follows.

    Guarantee:
        See PrivateMethod.

    Attributes:
        size: public directions that rows keep; 0 = `DIRECTIONS`.
    """

    #: Public directions that rows keep, if the method's name does not say.
    DIRECTIONS: ClassVar[int] = 100

    size: int = 0

    @abstractmethod
    def solve(self, study: Study, public: PublicMap) -> tuple[Float, Float, Mapping[str, Any]]:
        """Asks for noised sums; returns the head, weight [C, k] and bias [C] on rows, and what is worth telling."""

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        public = public_map(study, self.size or self.DIRECTIONS)
        weight, bias, facts = self.solve(study, public)
        terms, problem = plan_of(self, study).terms, study.problem
        facts = {"epsilon": terms.epsilon, "delta": terms.delta, **facts}
        model = Directions(public, weight, bias, problem.classes, problem.fingerprint, facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)


MODELS: tuple[type[Model], ...] = (Directions,)
