"""Private fine-tuning: descent of a backbone's last blocks and a head on noised gradients of all patients."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.federation.folds import parted
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.study import Study
from medtl_core.methods.private.block import open_blocks, start_of
from medtl_core.methods.private.block_model import Blocked
from medtl_core.methods.private.block_sum import SIZE, balanced, block_rate, units_of
from medtl_core.methods.private.clipped_gradient import RATE, counted_descent
from medtl_core.methods.private.planned_sums import bill_of, noised_sum, plan_of
from medtl_core.methods.private.public_pca import public_map
from medtl_core.privacy.plan import Plan, Terms


@final
@dataclass(frozen=True)
class PrivateFineTune(PrivateMethod):
    """Federated private descent on the last blocks and a head without a bias, every class counting alike in the end.

    Guarantee:
        See PrivateMethod. One release of class counts, then `rounds` releases of a clipped gradient sum.

    Attributes:
        scope: which blocks are trained, one of `split_backbone.SCOPES`.
        rounds: of descent.
    """

    syntax: ClassVar[str] = r"private-finetune-(?P<scope>last(?:[1-9][0-9]?)?)-(?P<rounds>[1-9][0-9]{0,2})"
    example: ClassVar[str] = "private-finetune-last-2"
    summary: ClassVar[str] = "private: fine-tuning of the last blocks and a head, clipped patient by patient (Opacus)"

    scope: str
    rounds: int

    def plan(self, terms: Terms) -> Plan:
        """See PrivateMethod."""
        return counted_descent(self.name, terms, "private_block", self.rounds)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        backbone, map_ = open_blocks(study.settings, study.problem.views, self.scope), public_map(study, SIZE)
        problem, plan, classes = study.problem, plan_of(self, study), len(study.problem.classes)
        counts = noised_sum(study, self, 0, map_.arrays, {"counts": (classes,)})["counts"]
        cases, balance = balanced(counts, plan)
        fixed = {**map_.arrays, **balance}
        arrays = {**start_of(backbone), "head.weight": np.zeros((classes, map_.basis.shape[1]))}
        shapes = {name: array.shape for name, array in arrays.items()}
        units, rate, config = units_of(shapes), block_rate(plan, cases), {"scope": self.scope}
        rates = {name: RATE if name == "head.weight" else rate for name in arrays}
        for number in range(1, self.rounds + 1):
            sent, expect = {**fixed, **arrays}, {"gradient": units.shape}
            slope = noised_sum(study, self, 1, sent, expect, number=number, config=config)["gradient"]
            steps = parted(units * slope / cases, shapes)
            arrays = {name: array - rates[name] * steps[name] for name, array in arrays.items()}
        terms = plan.terms
        facts = {"epsilon": terms.epsilon, "delta": terms.delta, "parameters": len(units), "rate": rate}
        model = Blocked(map_, arrays, self.scope, problem.classes, problem.fingerprint, facts)
        return Outcome({"": model}, bill_of(self, study), 0.0, facts)


METHODS: tuple[type[Method], ...] = (PrivateFineTune,)
