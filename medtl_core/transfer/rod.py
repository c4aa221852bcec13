"""FedROD: one generic head for everybody, and at each hospital a personal head for what the generic one leaves.

The generic head is trained with balanced softmax, so that it answers for any class mix, and averaged: it is the head of
`fedbal`. The personal head P is trained by plain cross-entropy on the sum of both heads' logits, the generic one held
fixed, and never leaves (Chen and Chao, "On Bridging Generic and Personalized Federated Learning", ICLR 2022, eqs. 7-9).
Their body is shared and trained; here it is the frozen backbone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from medtl_core.heads.linear import to_raw, train, with_bias
from medtl_core.methods.method import Method
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Task
from medtl_core.rng import stream
from medtl_core.transfer.balanced import fit_loss
from medtl_core.transfer.ditto import towards, training_of
from medtl_core.transfer.keep import ROUNDS, Opening, Personal, tasks_of
from medtl_core.transfer.resident import Finished, Step, Trainee, Visit, adjusted, affine_head
from medtl_core.values import Array


@final
@dataclass(frozen=True)
class RodPart(Trainee):
    """FedROD's hospital; a late one begins with the generic head alone."""

    def begin(self, visit: Visit) -> Mapping[str, Array]:
        """See Resident."""
        return {"residual": np.zeros(visit.arrays["head"].shape)}

    def train(self, visit: Visit, kept: Arrays) -> Step:
        """See Resident."""
        site, generic = visit.site, visit.arrays["head"].astype(np.float64)
        loss = {"loss": "balanced-softmax", "order": "shuffled", "prior": "own"}
        fitted = fit_loss(site, visit.arrays, {**visit.config, **loss})
        inputs = with_bias(site.values, *(visit.arrays[name].astype(np.float64) for name in ("mean", "scale")))
        plain = training_of(visit.config)
        # weight decay holds the personal head, not the sum, so it pulls the sum towards the generic head
        training, constant = towards(generic, plain.weight_decay, replace(plain, weight_decay=0.0))
        rng = stream(site.seed, visit.identity.method, site.name, visit.round)
        both = generic + kept["residual"]
        both = train(both[None], inputs, site.label, training, rng=rng, control=constant[None])[0]
        return Step(fitted.update.arrays, {"residual": both - generic}, fitted.metrics)

    def finish(self, visit: Visit, kept: Arrays) -> Finished:
        """See Resident."""
        mean, scale = (visit.arrays[name].astype(np.float64) for name in ("mean", "scale"))
        both = visit.arrays["head"].astype(np.float64) + kept["residual"]
        return Finished(affine_head(visit, adjusted(visit, to_raw(both, mean, scale))))


@final
@dataclass(frozen=True)
class FedRod(Personal):
    """A generic head by balanced softmax and a personal head on its logits (Chen and Chao, ICLR 2022)."""

    word: ClassVar[str] = "fedrod"
    syntax: ClassVar[str] = word + ROUNDS
    example: ClassVar[str] = "fedrod-3"
    summary: ClassVar[str] = "personal: fedbal's head, and at each hospital a head for what that one leaves"

    def opening(self, study: Study) -> Opening:
        """See Personal."""
        return Opening({"head": np.zeros((len(study.problem.classes), study.problem.width + 1))})


METHODS: tuple[type[Method], ...] = (FedRod,)
TASKS: Mapping[str, Task] = tasks_of("fedrod", RodPart())
