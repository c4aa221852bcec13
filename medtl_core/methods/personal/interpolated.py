"""Between one hospital's head and everybody's: as much of its own cases as cross-validation at the hospital allows.

The federation's head is the discriminant of all hospitals. A hospital moves away from it, W = argmin f_k(W) + lambda /
2 ||W - W_g||^2, with lambda chosen on its own folds; the heads it is chosen with were made without the fold at any
hospital, so the federated end of the scale has no unfair advantage.
"""

import numpy as np

from medtl_core.evaluation.calibration import class_balance
from medtl_core.federation.method import Candidates, Method, Outcome, Study
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import to_raw, with_bias
from medtl_core.methods.personal.client import LocalRound, OwnModel, personal_tasks
from medtl_core.methods.personal.pulled import held_out_costs, nearest, pulled
from medtl_core.methods.personal.server import Finish, finished

#: Strengths of the pull towards the federated head, from strong to weak; 1e9 stands for the federated head itself.
PULLS = (1e9, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01)


def moved_head(here: LocalRound) -> OwnModel:
    """Returns the hospital's head at the pull that its own folds choose."""
    site, raw, (mean, scale) = here.site, here.sent["heads"].astype(np.float64), here.moments
    inputs, label = with_bias(site.values, mean, scale), site.label
    full, *folds = np.concatenate([raw[..., :-1] * scale, (raw[..., -1] + raw[..., :-1] @ mean)[..., None]], axis=-1)
    fold = fold_of(site.patients, label, int(here.config["folds"]), site.seed)

    def heads(head: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([head[None], pulled(head, inputs[rows], label[rows], PULLS[1:])])

    costs = held_out_costs(fold, inputs, label, len(PULLS), lambda number: heads(folds[number], fold != number))
    weight = class_balance(label, len(full))
    # one class shows no boundary: the nearest way to fit it is to answer it always
    place = nearest(costs, weight) if len(np.unique(label)) > 1 else 0
    losses = {"cv-loss": float(costs[place] @ weight), "cv-loss-federated": float(costs[0] @ weight)}
    head = heads(full, fold >= 0)[place]
    return here.head(to_raw(head, mean, scale)), {"pull": PULLS[place], **losses}


class Interpolated(Method):
    """Personal: the discriminant, moved to the hospital's cases as far as its folds allow."""

    syntax = "interpolated"
    reads = ("folds",)
    test = "sites"

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates("discriminant"),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, bill = study.solved(Candidates("discriminant")), study.closed_bill(self.needs(study))
        heads = np.stack([solved.affine, *solved.without]).astype(np.float32)
        arrays = {"heads": heads, **study.moments.standardisation}
        return finished(
            study, self, Finish("pulled_finish", arrays, {"folds": study.settings.folds}, bill, solved.facts)
        )


METHODS = (Interpolated,)
TASKS = personal_tasks("pulled", moved_head)
