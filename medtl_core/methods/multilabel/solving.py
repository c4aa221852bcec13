"""Exact federated cross-validation of the heads of a multi-label task: for each finding strength and temperature.

Each finding is chosen for by itself, as `heads.crossval` chooses for one question of two answers; all of them, at every
strength and of several kinds of heads, are judged in one exchange. Cases of which a finding is not known do not count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.federation.feature_map import Grid, at_most
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.crossval import TEMPERATURES, WORST, Choice, choose
from medtl_core.heads.linear import tempered
from medtl_core.heads.statistics import Float
from medtl_core.methods.multilabel.sums import labels_of, sides_of
from medtl_core.values import Released, Update


@dataclass(frozen=True)
class SolvedLabels:
    """The heads of one kind, each finding at its cross-validated strength and temperature.

    Attributes:
        affine: float64 [L, d + 1].
        without: float64 [F, L, d + 1], the same without each fold.
        choices: what cross-validation says of each finding.
        strengths: of each finding's regularisation.
        server_cpu: CPU seconds.
    """

    affine: Float
    without: Float
    choices: tuple[Choice, ...]
    strengths: tuple[float, ...]
    server_cpu: float

    @property
    def facts(self) -> dict[str, Any]:
        """What a head's facts say of it, finding by finding."""
        return {
            "strength": list(self.strengths), "temperature": [choice.temperature for choice in self.choices],
            "cv_loss": [choice.loss for choice in self.choices],
            "cv_balanced_accuracy": [choice.balanced_accuracy for choice in self.choices],
        }  # fmt: skip


def log_losses(odds: Float, labels: NDArray[np.int8]) -> Float:
    """Returns the log-loss of log-odds [n, ..., L] in nats, `WORST` at most, 0 where the label [n, L] is unknown."""
    shape = (len(labels), *[1] * (odds.ndim - 2), labels.shape[1])
    side = np.where(labels == 1, -1.0, 1.0).reshape(shape)
    return np.asarray(np.minimum(np.logaddexp(0.0, side * odds), WORST) * (labels >= 0).reshape(shape))


def fold_odds(site: SiteData, heads: Float) -> Float:
    """Returns log-odds [n, H, L] of a hospital's cases, each from the head [F, H, L, d + 1] made without its fold."""
    fold, odds = site.fold(len(heads)), np.zeros((len(site.values), *heads.shape[1:3]))
    for index, stack in enumerate(heads.astype(np.float64)):
        rows = np.flatnonzero(fold == index)
        flat = np.asarray(site.values[rows], np.float64) @ stack[..., :-1].reshape(-1, stack.shape[-1] - 1).T
        odds[rows] = flat.reshape(len(rows), *stack.shape[:2]) + stack[..., -1]
    return odds


def label_validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sums of heads `heads` [F, H, L, d + 1], each on its own fold: `losses` [H, T, L, 2] and `hits` [H, L, 2]."""
    labels = labels_of(site.material)
    odds, sides = fold_odds(site, arrays["heads"]), sides_of(labels)
    losses = [np.einsum("nhl,nlc->hlc", log_losses(factor * odds, labels), sides) for factor in TEMPERATURES]
    hits = np.einsum("nhl,nlc->hlc", (odds > 0) == (labels == 1)[:, None], sides)
    return Released(Update({"losses": np.stack(losses, axis=1), "hits": hits}))


def validate_phase(names: Iterable[str]) -> str:
    """Returns the label under which the exchange that judges kinds of heads is booked."""
    return f"label_validate-{'+'.join(names)}"


def solved_of(study: Study, grids: Mapping[str, Grid]) -> tuple[SolvedLabels, ...]:
    """Returns the heads of each kind, all judged in one exchange; the grids' counts are [L, 2]."""
    heads, findings = np.concatenate([grid.without for grid in grids.values()], axis=1), len(study.problem.classes)
    hits = ArraySpec((heads.shape[1], findings, 2), least=0.0, step=1.0)
    expect = {"losses": ArraySpec((heads.shape[1], len(TEMPERATURES), findings, 2), least=0.0), "hits": hits}
    check = at_most({"losses": WORST, "hits": 1.0})
    arrays = {"heads": heads.astype(np.float32)}
    request = Request("label_validate", arrays, {}, expect, validate_phase(grids), check=check)
    answers, solved, first = study.hospitals.total(request), [], 0
    for grid in grids.values():
        last = first + len(grid.strengths)
        own = {name: array[first:last] for name, array in answers.items()}
        solved.append(_chosen(grid, own))
        first = last
    return tuple(solved)


def _chosen(grid: Grid, answers: Mapping[str, Float]) -> SolvedLabels:
    choices = tuple(
        choose({name: array[..., place, :] for name, array in answers.items()}, counts)
        for place, counts in enumerate(grid.counts)
    )
    affine, without = np.empty(grid.whole.shape[1:]), np.empty((len(grid.without), *grid.whole.shape[1:]))
    for place, choice in enumerate(choices):
        affine[place] = tempered(grid.whole[choice.index, place], choice.temperature)
        without[:, place] = tempered(grid.without[:, choice.index, place], choice.temperature)
    strengths = tuple(grid.strengths[choice.index] for choice in choices)
    return SolvedLabels(affine, without, choices, strengths, grid.server_cpu)


TASKS = {label_validate.__name__: label_validate}
