"""Another class mix at a hospital: the federation's discriminant with a class prior of the hospital's own.

The discriminant answers for classes that are alike in number. Where a hospital's cases are not, its own prior pi enters
its logits as log pi, by Bayes' rule. `prior-own` takes pi from the labels of its training cases. `prior-shift`
finds it from unlabelled scores by expectation maximisation: pi_c <- mean over cases of p_c(x) pi_c / prior_c,
normalised within each case (Saerens, Latinne, Decaestecker, Neural Computation 2002). Of the held-out cases it reads
the features, never the labels: it is transductive, and made at evaluation only. Either helps a hospital whose classes
really are as uneven as they seem, and costs balanced accuracy, which counts rare classes as much as common ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.evaluation.calibration import softmax
from medtl_core.federation.method import Candidates, Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Task
from medtl_core.heads.statistics import Float
from medtl_core.methods.personal.client import LocalRound, OwnModel, personal_tasks
from medtl_core.methods.personal.server import Finish, finished
from medtl_core.values import Head

#: Imagined cases spread evenly over the classes where the prior is estimated from scores. Few-shot scores are seldom
#: calibrated at a hospital, and plain maximum likelihood then runs off to its favourite classes.
SMOOTHING = 50.0

#: Rounds of expectation maximisation, and the change of the prior below which it has settled.
ITERATIONS, SETTLED = 1000, 1e-10


def estimate_prior(
    probabilities: Float, reference: NDArray[np.float64], *, smoothing: float = 0.0, iterations: int = ITERATIONS
) -> Float:
    """Returns the class prior [C] under which unlabelled probabilities are likeliest.

    Args:
        probabilities: [n, C], of a classifier trained under the prior `reference`.
        reference: [C], positive where the classifier may answer; other classes keep prior 0.
        smoothing: imagined cases, spread over the classes as `reference` is (Dirichlet prior); 0 = maximum likelihood.
        iterations: at most so many rounds.

    Example:
        >>> sure = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> estimate_prior(sure, np.array([0.5, 0.5])).round(3).tolist()
        [0.75, 0.25]
    """
    even: Float = np.asarray(reference, np.float64) / reference.sum()
    prior = even
    cases = len(probabilities)
    if not cases:
        return even
    ratio = np.divide(probabilities, even, out=np.zeros_like(probabilities), where=even > 0)
    for _ in range(iterations):
        joint = ratio * prior
        expected = (joint / np.maximum(joint.sum(axis=1, keepdims=True), np.finfo(float).tiny)).sum(axis=0)
        moved = (expected + smoothing * even) / (cases + smoothing)
        if np.abs(moved - prior).max() < SETTLED:
            break
        prior = moved
    return np.asarray(prior / prior.sum(), np.float64)


def with_prior(here: LocalRound, prior_of: Callable[[LocalRound, Head, Float], Float]) -> OwnModel:
    """Returns the federated head with a class prior of the hospital's own.

    Args:
        here: with the federated head [C, d + 1].
        prior_of: gives the prior [C], from the federated head and the even prior over the classes any hospital showed.
    """
    head, even = here.head(here.sent["head"].astype(np.float64)), here.seen / max(int(here.seen.sum()), 1)
    prior = prior_of(here, head, even)
    raw = np.concatenate([head.weight, head.bias[:, None]], axis=1)
    raw[here.seen, -1] += np.log(prior[here.seen] / even[here.seen])
    return here.head(raw), {"largest-prior": float(prior.max())}


def prior_of_scores(here: LocalRound, head: Head, even: Float) -> Float:
    """Returns the prior that the scores of the held-out cases suggest."""
    return estimate_prior(softmax(head.logits(here.site.test_values)), even, smoothing=SMOOTHING)


def prior_of_labels(here: LocalRound, head: Head, even: Float) -> Float:
    """Returns the class mix of the training cases, with one imagined case more of every class (Laplace)."""
    counts = here.counts + (even > 0)
    return np.asarray(counts / counts.sum(), np.float64)


@final
@dataclass(frozen=True)
class OwnPrior(Method):
    """The discriminant of all hospitals, and at each a class prior of its own.

    Attributes:
        source: "shift" (from unlabelled scores) or "own" (from the labels of its training cases).
    """

    syntax: ClassVar[str] = "prior-(?P<source>shift|own)"
    example: ClassVar[str] = "prior-shift"
    summary: ClassVar[str] = (
        "personal: the discriminant with each hospital's prior, from unlabelled scores or its labels"
    )
    test: ClassVar[str] = "sites"

    source: str

    def needs(self, study: Study) -> tuple[Candidates, ...]:
        """See Method."""
        return (Candidates("discriminant"),)

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        solved, bill = study.solved("discriminant"), study.closed_bill(self.needs(study))
        arrays = {"head": solved.affine.astype(np.float32)}
        return finished(study, self, Finish(f"prior_{self.source}_finish", arrays, {}, bill, solved.facts))


METHODS: tuple[type[Method], ...] = (OwnPrior,)
TASKS: Mapping[str, Task] = {
    **personal_tasks("prior_shift", partial(with_prior, prior_of=prior_of_scores)),
    **personal_tasks("prior_own", partial(with_prior, prior_of=prior_of_labels)),
}
