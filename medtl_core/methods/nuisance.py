"""The nuisance-scatter penalty: directions in which hospitals differ within a class count as noise.

A closed-form "adversary": S_D, the scatter of each hospital's class means about the class means of
all, is added g times to the Gram matrix, and the discriminant then leans away from what tells hospitals apart. It costs
one more sum, needs no case of an unseen hospital and gives an ordinary affine head.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from medtl_core.federation.feature_map import Sums, solve
from medtl_core.federation.folds import total
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.heads.statistics import Float, Statistics, collect, square, upper
from medtl_core.values import Released, Update

#: The penalty, unless it is to be chosen.
PENALTY = 3.0
#: Penalties among which `-cv` chooses. Its held-out cases come from the training hospitals, so it judges the penalty
#: on seen scanners and tends to choose less than an unseen one would want.
GRID = (0.0, 1.0, 3.0, 10.0)

_FAMILY = Discriminant()


def spread_of_means(statistics: Statistics) -> Float:
    """Returns sum over classes of n_c m_c m_c^T, float64 [d, d], with m_c the class mean; unseen classes add nothing.

    Example:
        >>> few = Statistics(np.array([2.0, 0.0]), np.array([[4.0], [0.0]]), np.array([[10.0]]))
        >>> spread_of_means(few).tolist()
        [[8.0]]
    """
    counts = statistics.counts
    seen = counts > 0.5  # counts are whole; a difference of sums may leave 1e-16
    return np.asarray((statistics.sums[seen].T / counts[seen]) @ statistics.sums[seen])


def spread(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """This hospital's spread of class means from all its cases, then without each fold: upper triangles [F + 1, ...].

    The folds are needed one by one because, unlike Gram matrices, these do not subtract.
    """
    folds = int(config["folds"])
    fold = site.fold(folds)
    kept = [fold != index for index in range(-1, folds)]  # no case is in fold -1
    own = [collect(site.values[rows], site.label[rows], site.classes) for rows in kept]
    return Released(Update({"spread": np.stack([upper(spread_of_means(part)) for part in own])}))


def scatter(study: Study) -> list[Float]:
    """Returns S_D [d, d] of all cases, then without each fold (phase "nuisance_spread")."""
    folds, width = study.settings.folds, study.problem.width
    expect = {"spread": ArraySpec((folds + 1, width * (width + 1) // 2))}
    request = Request("nuisance_spread", config={"folds": folds}, expect=expect)
    rows = total(reply.arrays for reply in study.hospitals.ask(request))["spread"]
    pooled = (study.sums.whole, *study.sums.without)
    return [square(row, width) - spread_of_means(part) for row, part in zip(rows, pooled, strict=True)]


def penalised(sums: Sums, scatters: list[Float], penalty: float) -> Sums:
    """Returns the statistics with the penalty times S_D added to each Gram matrix."""
    whole, *without = (
        replace(statistics, gram=statistics.gram + penalty * extra)
        for statistics, extra in zip((sums.whole, *sums.without), scatters, strict=True)
    )
    return Sums(whole, without)


@final
@dataclass(frozen=True)
class NuisanceDiscriminant(Method):
    """The cross-validated discriminant on G + g S_D.

    Attributes:
        cv: whether cross-validation chooses g from `GRID`; else it is `PENALTY`.
    """

    syntax: ClassVar[str] = "discriminant-nuisance(?P<cv>-cv)?"
    example: ClassVar[str] = "discriminant-nuisance"
    summary: ClassVar[str] = "the discriminant that treats differences between hospitals within a class as noise"

    cv: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        scatters, phase = study.once("nuisance", lambda: scatter(study)), f"validate-{self.name}"
        grid = GRID if self.cv else (PENALTY,)
        candidates = {g: (_FAMILY, penalised(study.sums, scatters, g)) for g in grid}
        heads = solve(study.features, candidates, phase)
        best = min(grid, key=lambda g: heads[g].choice.loss)
        facts = {"penalty": best, **heads[best].facts}
        head = study.head(heads[best].affine, "discriminant-nuisance", facts)
        bill = {"statistics": Share(), "nuisance_spread": Share(), phase: Share()}
        return Outcome({"": head}, bill, sum(solved.server_cpu for solved in heads.values()), facts)


METHODS: tuple[type[Method], ...] = (NuisanceDiscriminant,)
TASKS: Mapping[str, Task] = {"nuisance_spread": spread}
