"""The discriminant of each finding, for all of them from one eigendecomposition.

Of each finding it is the shrunk discriminant (`heads.closed_form.Discriminant`) of three classes: the cases without it,
those with it, and those of which it is not known, which lend the covariance their scatter and are never answered.
Where a finding is known of all cases it is the discriminant of its two classes. The scatter within the classes is that
of all cases less one direction a class, so its inverse follows from theirs (Woodbury).
"""

import time

import numpy as np

from medtl_core.federation.feature_map import Grid
from medtl_core.federation.method import Method, Outcome, Share, Study
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.linear import to_raw
from medtl_core.heads.statistics import Float, Statistics
from medtl_core.methods.multilabel.model import FindingsHead, marked
from medtl_core.methods.multilabel.solving import solved_of, validate_phase
from medtl_core.methods.multilabel.sums import PHASE, LabelSums, sums_of

#: Shares of the mean variance: those of the discriminant of one question.
STRENGTHS = FAMILIES["discriminant"].strengths


def discriminants(cases: Statistics, counts: Float, sums: Float) -> Float:
    """Returns the heads of all findings at every strength, float64 [R, L, d + 1] on raw features.

    Args:
        cases: of all cases, as one class.
        counts: [L, 2], cases without and with each finding.
        sums: [L, 2, d], of their features.
    """
    (total, vectors), mean, scale = cases.spectrum(), cases.mean, cases.scale
    own = ((sums - counts[..., None] * mean) / scale) @ vectors
    sizes = np.concatenate([counts, cases.cases - counts.sum(axis=1, keepdims=True)], axis=1)
    groups = np.concatenate([own, -own.sum(axis=1, keepdims=True)], axis=1)  # standardised, all cases sum to zero
    seen = sizes > 0.5
    means = np.where(seen[..., None], groups / np.maximum(sizes, 1.0)[..., None], 0.0)
    freedom = np.maximum(cases.cases - seen.sum(axis=1), 1.0)
    within = total.sum() - (sizes * (means**2).sum(axis=2)).sum(axis=1)
    spread = np.maximum(within, 1e-9 * total.sum()) / freedom / len(total) + 1e-12
    shrink = np.asarray(STRENGTHS)[:, None, None]
    eigen = (1 - shrink) * total / freedom[:, None] + shrink * spread[:, None]
    shares = (1 - shrink) * np.where(seen, sizes, 0.0) / freedom[:, None]
    weights = _solve(eigen, np.sqrt(shares)[..., None] * means, means)
    lengths = (weights * means).sum(axis=3)
    inverse = 1.0 / eigen + (shares[..., None] * weights * means).sum(axis=2) / eigen  # the diagonal of S_r^-1
    apart = (inverse @ total - (lengths * sizes).sum(axis=2)) / freedom
    biases = 0.5 * (apart[..., None] / np.maximum(sizes, 1.0) - lengths)
    weight, bias = weights[:, :, 1] - weights[:, :, 0], biases[:, :, 1] - biases[:, :, 0]
    heads = np.concatenate([weight @ vectors.T, bias[..., None]], axis=2)
    return marked(to_raw(heads, mean, scale), counts)


def _solve(eigen: Float, away: Float, means: Float) -> Float:
    """(diag(eigen) - away' away)^-1 means: [R, L, 3, k] from [R, L, k], [R, L, 3, k] and [L, 3, k]."""
    scaled, plain = away / eigen[:, :, None], means / eigen[:, :, None]
    inner = np.eye(away.shape[2]) - scaled @ away.swapaxes(2, 3)
    return np.asarray(plain + np.linalg.solve(inner, scaled @ means.swapaxes(1, 2)).swapaxes(2, 3) @ scaled)


def grid(sums: LabelSums) -> Grid:
    """Returns the discriminants of all cases and without each fold."""
    start = time.thread_time()
    sets = zip(sums.sets, sums.counts, sums.sums, strict=True)
    whole, *without = (discriminants(*each) for each in sets)
    return Grid(STRENGTHS, whole, np.stack(without), sums.counts[0], time.thread_time() - start)


class LabelDiscriminant(Method):
    """Multi-label: the shrunk discriminant of each finding, its strength and temperature by cross-validation."""

    syntax = "discriminant"

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        (solved,) = solved_of(study, {self.name: grid(sums_of(study))})
        head = FindingsHead.of(study, solved.affine, self.name, solved.facts)
        return Outcome(
            {"": head}, {PHASE: Share(), validate_phase([self.name]): Share()}, solved.server_cpu, head.facts
        )


LABEL_METHODS = (LabelDiscriminant,)
