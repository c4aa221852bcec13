"""Another class mix at a hospital: the federation's discriminant with a class prior of the hospital's own.

The discriminant answers for classes that are alike in number. Where a hospital's cases are not, its own prior pi enters
its logits as log pi, by Bayes' rule. `prior-own` takes pi from the labels of its training cases; `prior-shift` from the
scores of its held-out cases: it is transductive, and made at evaluation only. Either helps a hospital whose classes
really are as uneven as they seem, and costs balanced accuracy, which counts rare classes as much as common ones.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from medtl_core.federation.method import Candidates, Method, Outcome, Study
from medtl_core.methods.personal.client import LocalRound, OwnModel, personal_tasks
from medtl_core.methods.personal.label_shift import PriorOf, prior_of_labels, prior_of_scores
from medtl_core.methods.personal.server import Finish, finished


def with_prior(here: LocalRound, prior_of: PriorOf) -> OwnModel:
    """Returns the federated head [C, d + 1] with a class prior of the hospital's own."""
    raw, even = here.sent["head"].astype(np.float64), here.seen / max(int(here.seen.sum()), 1)
    prior = prior_of(here, here.head(raw), even)
    raw[here.seen, -1] += np.log(prior[here.seen] / even[here.seen])
    return here.head(raw), {"largest-prior": float(prior.max())}


@dataclass(frozen=True)
class OwnPrior(Method):
    """Personal: the discriminant with each hospital's prior, from unlabelled scores or its labels."""

    syntax = "prior-(?P<source>shift|own)"
    reads = ("folds",)
    example = "prior-shift"
    test = "sites"

    source: str

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates("discriminant"),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, bill = study.solved(Candidates("discriminant")), study.closed_bill(self.needs(study))
        arrays = {"head": solved.affine.astype(np.float32)}
        return finished(study, self, Finish(f"prior_{self.source}_finish", arrays, {}, bill, solved.facts))


METHODS = (OwnPrior,)
TASKS = {
    **personal_tasks("prior_shift", partial(with_prior, prior_of=prior_of_scores)),
    **personal_tasks("prior_own", partial(with_prior, prior_of=prior_of_labels)),
}
