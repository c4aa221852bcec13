"""Between one hospital's head and everybody's: as much of its own cases as cross-validation at the hospital allows.

The federation's head is the discriminant of all hospitals. A hospital either moves away from it, W = argmin f_k(W) +
lambda / 2 ||W - W_g||^2, or mixes its logits with those of the head it would train alone. Lambda or the share is
chosen on the hospital's own folds; the heads it is chosen with were made without the fold at any hospital, so the
federated end of the scale has no unfair advantage.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.calibration import WORST, class_balance, log_softmax
from medtl_core.federation.method import Candidates, Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Task
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import class_weights, local_head, logistic, loss_and_gradient, to_raw, with_bias
from medtl_core.heads.statistics import Float
from medtl_core.methods.personal.client import LocalRound, OwnModel, personal_tasks
from medtl_core.methods.personal.server import Finish, finished

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
class Between:
    """A scale from the federated head to the hospital's own.

    Attributes:
        label: what its positions are called in the metrics.
        positions: the first is the federated head.
        heads: gives one head per position, [P, C, d + 1], from the federated head [C, d + 1] and some cases.
    """

    label: str
    positions: tuple[float, ...]
    heads: Callable[[Float, Float, NDArray[np.int64]], Float]

    def model(self, here: LocalRound) -> OwnModel:
        """Returns the hospital's head at the position that its own folds choose."""
        inputs, label = with_bias(here.site.values, *here.moments), here.site.label
        full, folds = _standardised_heads(here)
        costs, weight = self._costs(here, inputs, folds), class_balance(label, len(full))
        # one class shows no boundary: the nearest way to fit it is to answer it always
        place = nearest(costs, weight) if len(np.unique(label)) > 1 else 0
        head = self.heads(full, inputs, label)[place]
        metrics = {self.label: self.positions[place], "cv-loss": float(costs[place] @ weight)}
        return here.head(to_raw(head, *here.moments)), {**metrics, "cv-loss-federated": float(costs[0] @ weight)}

    def _costs(self, here: LocalRound, inputs: Float, folds: Float) -> Float:
        """Held-out log-loss of each case at each position, [P, n], at most `WORST`; `folds` are heads without one."""
        site = here.site
        fold = fold_of(site.patients, site.label, int(here.config["folds"]), site.seed)
        costs = np.zeros((len(self.positions), len(site.label)))
        for number, head in enumerate(folds):
            held = fold == number
            if held.any():
                label = site.label[held]
                heads = self.heads(head, inputs[~held], site.label[~held])
                logits = np.einsum("nd,pcd->pnc", inputs[held], heads)
                for place, each in enumerate(logits):
                    costs[place, held] = np.minimum(-log_softmax(each)[np.arange(len(label)), label], WORST)
        return costs


def pulled_heads(head: Float, inputs: Float, label: NDArray[np.int64]) -> Float:
    """Returns the federated head, and heads of the hospital's own pulled towards it, from strong to weak."""
    return np.concatenate([head[None], pulled(head, inputs, label)])


def mixed_heads(head: Float, inputs: Float, label: NDArray[np.int64]) -> Float:
    """Returns means of the federated head and the one the hospital would train alone, which mix their logits."""
    own = logistic(inputs, label, len(head)) if len(label) else head
    return np.stack([(1.0 - share) * head + share * own for share in SHARES])


def lone_head(here: LocalRound) -> OwnModel:
    """Returns the head a hospital trains on its own cases alone, as `local`."""
    site = here.site
    return here.head(local_head(site.values, site.label, site.classes)), {}


def _standardised_heads(here: LocalRound) -> tuple[Float, Float]:
    """The federated head [C, d + 1] and the ones without a fold [F, C, d + 1], on standardised features."""
    raw, (mean, scale) = here.sent["heads"].astype(np.float64), here.moments
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
        solved, bill = study.solved("discriminant"), study.closed_bill(self.needs(study))
        heads = np.stack([solved.affine, *solved.without]).astype(np.float32)
        task = "mixed_finish" if self.mix else "pulled_finish"
        arrays = {"heads": heads, **study.moments.standardisation}
        return finished(study, self, Finish(task, arrays, {"folds": study.settings.folds}, bill, solved.facts))


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
        return finished(study, self, Finish("alone_finish"))


METHODS: tuple[type[Method], ...] = (Interpolated, PersonalLocal)
TASKS: Mapping[str, Task] = {
    # a pull of 1e9 stands for the federated head itself
    **personal_tasks("pulled", Between("pull", (1e9, *PULLS), pulled_heads).model),
    **personal_tasks("mixed", Between("local-share", SHARES, mixed_heads).model),
    **personal_tasks("alone", lone_head),
}
