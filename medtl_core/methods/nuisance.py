"""The nuisance-scatter penalty: directions in which hospitals differ within a class count as noise.

A closed-form "adversary": S_D is added g times to the Gram matrix, and the discriminant then leans away from what tells
hospitals apart. It costs one more sum, needs no case of an unseen hospital and gives an ordinary affine head.
"""

from dataclasses import dataclass

from medtl_core.federation.feature_map import Grid, solve
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.heads.closed_form import Discriminant
from medtl_core.methods.nuisance_scatter import penalised, scatter

#: The penalty g, unless it is to be chosen.
PENALTY = 3.0
#: Penalties among which `-cv` chooses. Its held-out cases come from the training hospitals, so it judges the penalty
#: on seen scanners and tends to choose less than an unseen one would want.
GRID = (0.0, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class NuisanceDiscriminant(Method):
    """The discriminant that treats differences between hospitals within a class as noise.

    Attributes:
        cv: whether cross-validation chooses g from `GRID`; else it is `PENALTY`.
    """

    syntax = "discriminant-nuisance(?P<cv>-cv)?"
    reads = ("folds",)
    example = "discriminant-nuisance"

    cv: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        scatters, phase = study.once("nuisance", lambda: scatter(study)), f"validate-{self.name}"
        grid = GRID if self.cv else (PENALTY,)
        grids = {g: Grid.of(Discriminant(), penalised(study.sums, scatters, g)) for g in grid}
        heads = solve(study.features, grids, phase)
        best = min(grid, key=lambda g: heads[g].choice.loss)
        facts = {"penalty": best, **heads[best].facts}
        head = study.head(heads[best].affine, "discriminant-nuisance", facts)
        bill = {"statistics": Share(), "nuisance_spread": Share(), phase: Share()}
        return Outcome({"": head}, bill, sum(solved.server_cpu for solved in heads.values()), facts)


METHODS = (NuisanceDiscriminant,)
