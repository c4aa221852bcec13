"""Between one hospital's head and everybody's: as much of its own cases as cross-validation at the hospital allows.

The federation's head is the discriminant of all hospitals. A hospital either moves away from it, W = argmin f_k(W) +
lambda / 2 ||W - W_g||^2, or mixes its logits with those of the head it would train alone. Lambda or the share is
chosen on the hospital's own folds; the heads it is chosen with were made without the fold at any hospital, so the
federated end of the scale has no unfair advantage.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.calibration import WORST, class_balance, log_softmax
from medtl_core.federation.method import Candidates, Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import TASKS as CORE
from medtl_core.federation.tasks import Arrays, Task
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import class_weights, logistic, loss_and_gradient, to_raw, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.personal.client import Finished, Resident, Visit, affine_head
from medtl_core.methods.personal.server import Ending, settle, tasks_of

#: Strengths of the pull towards the federated head, from strong to weak; the federated head itself comes before them.
PULLS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)

#: Shares of the local logits; the federated head alone comes first.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def pulled(head: Float, inputs: Float, label: NDArray[np.int64], pulls: tuple[float, ...] = PULLS) -> Float:
    """Returns the heads [P, C, d + 1] that minimise class-balanced log-loss + pull / 2 ||W - head||^2, one a pull.

    The minimiser differs from `head` by a combination of the cases, so the search runs in their span: n numbers a
    class instead of d + 1.

    Args:
        head: [C, d + 1], on the space of the inputs.
        inputs: [n, d + 1], standardised features with a constant last column.
        label: int [n].
        pulls: in any order; a weaker one starts where the one before ended.
    """
    from scipy.optimize import minimize

    if not len(label):
        return np.repeat(head[None], len(pulls), axis=0)
    left, spread, right = np.linalg.svd(inputs, full_matrices=False)
    reduced, offset = left * spread, inputs @ head.T
    weight = class_weights(np.bincount(label, minlength=len(head)).astype(np.float64)) / len(label)
    augmented = np.concatenate([reduced, offset], axis=1)  # the head's own logits enter with weights that never move
    identity = np.eye(len(head))

    def objective(flat: Float, pull: float) -> tuple[float, Float]:
        move = flat.reshape(len(head), -1)
        loss, slope = loss_and_gradient(np.concatenate([move, identity], axis=1), augmented, label, weight)
        return loss + 0.5 * pull * float(flat @ flat), slope[:, : move.shape[1]].ravel() + pull * flat

    flat = np.zeros(len(head) * reduced.shape[1])
    heads = []
    for pull in pulls:
        flat = minimize(objective, flat, (pull,), jac=True, method="L-BFGS-B", options={"maxiter": 100}).x
        heads.append(head + flat.reshape(len(head), -1) @ right)
    return np.stack(heads)


def nearest(costs: Float, weight: Float) -> int:
    """Returns the first position whose loss exceeds the smallest by no more than one standard error.

    The rule of Breiman et al. (1984, section 3.4.3) with the federated head as the simplest model: a handful of cases
    does not part a hospital from it by chance.

    Args:
        costs: [P, n], what each case costs at each position, the federated head first.
        weight: [n], of the cases, summing to one.

    Example:
        >>> nearest(np.array([[1.0, 1.0, 1.2], [0.9, 1.1, 1.1], [0.2, 0.1, 0.3]]), np.full(3, 1 / 3))
        2
    """
    cases = costs.shape[1]
    if cases < 2:
        return 0
    weighed = costs * weight * cases
    excess = weighed - weighed[int(np.argmin(weighed.mean(axis=1)))]
    error = excess.std(axis=1, ddof=1) / np.sqrt(cases)
    return int(np.flatnonzero(excess.mean(axis=1) <= error)[0])


@dataclass(frozen=True)
class Folds:
    """A hospital's cases in its folds.

    Attributes:
        inputs: [n, d + 1], standardised features with a constant last column.
        label: int [n].
        fold: int [n].
    """

    inputs: Float
    label: NDArray[np.int64]
    fold: NDArray[np.int64]

    def part(self, chosen: NDArray[np.bool_]) -> tuple[Float, NDArray[np.int64]]:
        """Returns the inputs and labels of some cases."""
        return self.inputs[chosen], self.label[chosen]


@dataclass(frozen=True)
class Scale(Resident, ABC):
    """A hospital that places itself between the federated head and its own."""

    #: What the positions of the scale are called in the metrics.
    label: ClassVar[str]
    #: Positions; the first is the federated head.
    positions: ClassVar[tuple[float, ...]]

    @abstractmethod
    def heads(self, head: Float, inputs: Float, label: NDArray[np.int64]) -> Float:
        """Returns one head per position, [P, C, d + 1], from some cases and the federated head."""

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        folds, full, stack = self._folds(visit), *_unfolded(visit)
        costs, weight = self.costs(folds, stack), class_balance(folds.label, stack.shape[1])
        # one class shows no boundary: the nearest way to fit it is to answer it always
        place = nearest(costs, weight) if len(np.unique(folds.label)) > 1 else 0
        chosen = self.heads(full, folds.inputs, folds.label)[place]
        mean, scale = (visit.arrays[name].astype(np.float64) for name in ("mean", "scale"))
        metrics = {self.label: self.positions[place], "cv-loss": float(costs[place] @ weight)}
        metrics["cv-loss-federated"] = float(costs[0] @ weight)
        return Finished(affine_head(visit, to_raw(chosen, mean, scale)), metrics)

    def costs(self, folds: Folds, stack: Float) -> Float:
        """Returns the held-out log-loss of each case at each position, [P, n]; at most 20 nats."""
        costs = np.zeros((len(self.positions), len(folds.label)))
        for number, head in enumerate(stack):
            held = folds.fold == number
            if held.any():
                inputs, label = folds.part(held)
                logits = np.einsum("nd,pcd->pnc", inputs, self.heads(head, *folds.part(~held)))
                for place, one in enumerate(logits):
                    costs[place, held] = np.minimum(-log_softmax(one)[np.arange(len(label)), label], WORST)
        return costs

    def _folds(self, visit: Visit) -> Folds:
        site = visit.site
        mean, scale = (visit.arrays[name].astype(np.float64) for name in ("mean", "scale"))
        fold = fold_of(site.patients, site.label, int(visit.config["folds"]), site.seed)
        return Folds(with_bias(site.values, mean, scale), site.label, fold)


@final
@dataclass(frozen=True)
class Pulled(Scale):
    """A head of the hospital's own, pulled towards the federated one."""

    label: ClassVar[str] = "pull"
    #: A pull of 1e9 stands for the federated head itself.
    positions: ClassVar[tuple[float, ...]] = (1e9, *PULLS)

    def heads(self, head: Float, inputs: Float, label: NDArray[np.int64]) -> Float:
        """See Scale."""
        return np.concatenate([head[None], pulled(head, inputs, label)])


@final
@dataclass(frozen=True)
class Mixed(Scale):
    """A mean of the federated head's logits and of those of the head the hospital would train alone."""

    label: ClassVar[str] = "local-share"
    positions: ClassVar[tuple[float, ...]] = SHARES

    def heads(self, head: Float, inputs: Float, label: NDArray[np.int64]) -> Float:
        """See Scale."""
        own = logistic(inputs, label, len(head)) if len(label) else head
        return np.stack([(1.0 - share) * head + share * own for share in self.positions])


@final
@dataclass(frozen=True)
class Alone(Resident):
    """The head a hospital trains on its own cases alone, as `local`."""

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        head = CORE["local"](visit.site, {}, {}).update.arrays["head"]
        return Finished(affine_head(visit, head))


def _unfolded(visit: Visit) -> tuple[Float, Float]:
    """The federated head [C, d + 1] and the ones without a fold [F, C, d + 1], on standardised features."""
    raw = visit.arrays["heads"].astype(np.float64)
    mean, scale = (visit.arrays[name].astype(np.float64) for name in ("mean", "scale"))
    heads = np.concatenate([raw[..., :-1] * scale, (raw[..., -1] + raw[..., :-1] @ mean)[..., None]], axis=-1)
    return heads[0], heads[1:]


@final
@dataclass(frozen=True)
class Interpolated(Method):
    """Each hospital between the discriminant of all and a head of its own, as its own folds decide."""

    syntax: ClassVar[str] = "interpolated(?P<mix>-mix)?"
    example: ClassVar[str] = "interpolated"
    summary: ClassVar[str] = "personal: the discriminant, moved to the hospital's cases as far as its folds allow"
    test: ClassVar[str] = "sites"

    mix: bool

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates("discriminant"),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        found = study.solved("discriminant")
        heads = np.stack([found.affine, *found.without]).astype(np.float32)
        ending = Ending(
            "mixed_finish" if self.mix else "pulled_finish",
            {"heads": heads, **study.moments.standardisation},
            {"folds": study.settings.folds},
            study.closed_bill(self.needs(study)),
            found.facts,
        )
        return settle(study, self, ending)


@final
@dataclass(frozen=True)
class PersonalLocal(Method):
    """The floor of every personal method: each hospital alone, judged on its own cases only."""

    syntax: ClassVar[str] = "personal-local"
    example: ClassVar[str] = "personal-local"
    summary: ClassVar[str] = "personal: each hospital alone, judged on its own held-out cases: the floor"
    test: ClassVar[str] = "sites"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        return settle(study, self, Ending("alone_finish"))


METHODS: tuple[type[Method], ...] = (Interpolated, PersonalLocal)
TASKS: Mapping[str, Task] = {
    **tasks_of("pulled", Pulled()),
    **tasks_of("mixed", Mixed()),
    **tasks_of("alone", Alone()),
}
