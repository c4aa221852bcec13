"""Records of several hospitals, whatever unit and offset their columns have: scaled by all, then told apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.feature_map import Grid, solve, tasks_of
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.federation.model import Model
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.statistics import Float
from medtl_core.methods.tables.scaling import PHASE, SCALED, Scaling, scaling_of, table_of

#: The heads among which cross-validation chooses.
_FAMILIES = ("discriminant", "ridge")


@final
@dataclass(frozen=True)
class TableHead(Model):
    """An affine head on a table's columns in float64, scaled by the medians of the hospitals that trained it.

    Attributes:
        head: float64 [C, 2 k + 1], on `Scaling.inputs`.
        scaling: of the k columns.
    """

    kind: ClassVar[str] = "table"
    AXES: ClassVar[Mapping[str, str]] = {"head": "cd+", "centre": "k", "scale": "k"}

    head: Float
    scaling: Scaling
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model: the cases themselves are read, for features in float32 may have lost digits."""
        inputs = self.scaling.inputs(table_of(material))
        return inputs @ self.head[:, :-1].T + self.head[:, -1]

    def flaw(self) -> str:
        """See Model."""
        if self.head.shape[1] != 2 * len(self.scaling.centre) + 1:
            return "the head has not two inputs a column"
        return "" if (self.scaling.scale > 0).all() else "a scale is not positive"


class ScaledRecords(Method):
    """Discriminant or ridge on a table scaled by all hospitals' medians and quartiles, in float64."""

    syntax = "records"
    reads = ("folds",)
    cases = "table"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        scaling = scaling_of(study)
        reading = study.reading(SCALED, scaling.arrays, width=2 * len(scaling.centre))
        sums = reading.sums()
        solved = solve(reading, {name: Grid.of(FAMILIES[name], sums) for name in _FAMILIES})
        chosen = min(solved, key=lambda name: solved[name].choice.loss)
        facts = {"chosen": chosen, **solved[chosen].facts}
        problem = study.problem
        model = TableHead(solved[chosen].affine, scaling, problem.classes, problem.fingerprint, facts)
        bill = dict.fromkeys((PHASE, "table_statistics", "table_validate"), Share())
        return Outcome({"": model}, bill, sum(head.server_cpu for head in solved.values()), facts)


METHODS = (ScaledRecords,)
MODELS = (TableHead,)
TASKS = tasks_of(SCALED)
