"""A class prior of a hospital's own: from unlabelled scores, or from the labels of its training cases."""

from collections.abc import Callable

import numpy as np

from medtl_core.evaluation.calibration import softmax
from medtl_core.heads.statistics import Float
from medtl_core.methods.personal.client import LocalRound
from medtl_core.values import Head

#: Imagined cases spread evenly over the classes where the prior is estimated from scores. Few-shot scores are seldom
#: calibrated at a hospital, and plain maximum likelihood then runs off to its favourite classes.
SMOOTHING = 50.0

#: The hospital, the federated head, and the even prior [C] over the classes any hospital showed -> its own prior [C].
PriorOf = Callable[[LocalRound, Head, Float], Float]

#: Rounds of expectation maximisation, and the change of the prior below which it has settled.
ITERATIONS, SETTLED = 1000, 1e-10


def estimate_prior(probabilities: Float, reference: Float, *, smoothing: float = 0.0) -> Float:
    """Returns the class prior [C] under which unlabelled probabilities are likeliest, by expectation maximisation.

    pi_c <- mean over cases of p_c(x) pi_c / prior_c, normalised within each case (Saerens, Latinne, Decaestecker,
    Neural Computation 2002).

    Args:
        probabilities: [n, C], of a classifier trained under the prior `reference`.
        reference: [C], positive where the classifier may answer; other classes keep prior 0.
        smoothing: imagined cases, spread over the classes as `reference` is (Dirichlet prior); 0 = maximum likelihood.
    """
    even: Float = np.asarray(reference, np.float64) / reference.sum()
    prior, cases = even, len(probabilities)
    if not cases:
        return even
    ratio = np.divide(probabilities, even, out=np.zeros_like(probabilities), where=even > 0)
    for _ in range(ITERATIONS):
        joint = ratio * prior
        expected = (joint / np.maximum(joint.sum(axis=1, keepdims=True), np.finfo(float).tiny)).sum(axis=0)
        moved = (expected + smoothing * even) / (cases + smoothing)
        if np.abs(moved - prior).max() < SETTLED:
            break
        prior = moved
    return np.asarray(prior / prior.sum(), np.float64)


def prior_of_scores(here: LocalRound, head: Head, even: Float) -> Float:
    """Returns the prior that the scores of the held-out cases suggest; their labels are not read."""
    return estimate_prior(softmax(head.logits(here.site.test_values)), even, smoothing=SMOOTHING)


def prior_of_labels(here: LocalRound, head: Head, even: Float) -> Float:
    """Returns the class mix of the training cases, with one imagined case more of every class (Laplace)."""
    counts = np.bincount(here.site.label, minlength=here.site.classes) + (even > 0)
    return np.asarray(counts / counts.sum(), np.float64)
