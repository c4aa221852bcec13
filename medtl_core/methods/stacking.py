"""Ensembles of heads solved from sums, weighed without a labelled case at the server."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from medtl_core.federation.method import Candidates, Method, Outcome, Share, Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.methods.cross_fitting import drop_rule
from medtl_core.methods.models.mixture import Mixture
from medtl_core.methods.out_of_fold import fitted_weights


@dataclass(frozen=True)
class Stacked(Method):
    """Mean probability of closed-form heads and taps; stacked: weights from out-of-fold losses.

    Members are every closed-form family on all taps, and the discriminant on every shorter run of taps.

    Attributes:
        weighing: "equal", or "stacked": of least out-of-fold log-loss.
    """

    syntax = "ensemble-(?P<weighing>equal|stacked)"
    reads = ("folds",)
    example = "ensemble-stacked"

    weighing: str

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        shorter = [taps for taps, columns in study.runs().items() if len(columns) < study.problem.width]
        return (*map(Candidates, FAMILIES), *(Candidates("discriminant", taps) for taps in shorter))

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        needs = self.needs(study)
        members = {f"{need.family}@{need.columns_key}".rstrip("@"): study.solved(need) for need in needs}
        bill = study.closed_bill(needs)
        dropped = drop_rule({name: member.choice.balanced_accuracy for name, member in members.items()})
        stay = {name: member for name, member in members.items() if name not in dropped}
        losses = {name: member.choice.loss for name, member in stay.items()}
        facts: dict[str, Any] = {"members": list(stay), "dropped": list(dropped), "cv_losses": losses}
        weights = np.full(len(stay), 1.0 / len(stay))
        if self.weighing == "stacked":
            stack = np.stack([member.without for member in stay.values()], axis=1)
            point, rounds = fitted_weights(study, stack, self.name)
            weights, bill = point.weights, {**bill, self.name: Share()}
            facts |= {"cv_loss": point.loss, "gap": point.gap, "rounds": rounds}
            facts["cv_gain"] = min(losses.values()) - point.loss
        mixture = Mixture.of(study, {name: member.affine for name, member in stay.items()}, weights, facts)
        spent = sum(member.server_cpu for member in members.values())
        return Outcome({"": mixture}, bill, spent, mixture.facts)


METHODS = (Stacked,)
