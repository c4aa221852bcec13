"""Nearest class mean in a metric that all hospitals learn together: what travels, and what a newcomer starts from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.heads.statistics import Float, Statistics
from medtl_core.values import ABSENT

#: Least reliability of class means: with one case a class the estimate is of no use, and the means are of some.
FLOOR = 0.2
#: Smallest eigenvalue of a covariance, so that classes without scatter divide by something.
TINY = 1e-12


def shrunk(within: Float, shrinkage: float) -> Float:
    """Returns (1 - r) S + r tr(S) / d I, as `heads.closed_form.Discriminant` shrinks it."""
    width = len(within)
    return np.asarray((1 - shrinkage) * within + shrinkage * np.trace(within) / width * np.eye(width))


def whitening(covariance: Float) -> Float:
    """Returns the symmetric S^-1/2 [d, d]."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors / np.sqrt(np.maximum(values, TINY))) @ vectors.T)


def moments_of(statistics: Statistics) -> tuple[Float, Float, Float]:
    """Returns class means [C, d], pooled within-class covariance [d, d] and counts [C] of standardised features."""
    standard = statistics.standardised()
    counts = np.where(standard.counts > 0.5, np.rint(standard.counts), 0.0)
    means = np.where(counts[:, None] > 0, standard.sums / np.maximum(counts, 1.0)[:, None], 0.0)
    freedom = max(float(counts.sum() - (counts > 0).sum()), 1.0)
    within = (standard.gram - (means.T * counts) @ means) / freedom
    return means, np.asarray((within + within.T) / 2), counts


def sharpness(within: Float, means: Float, shrinkage: float) -> float:
    """Returns the factor that makes log odds of differences of squared distances under S_r, if classes are normal.

    For two classes of covariance S apart by m the difference has mean m'S_r^-1 m / 2 and variance m'S_r^-1 S S_r^-1 m;
    log odds need twice the mean to equal the variance. Here for the differences of the class means from their centre.
    """
    apart = means - means.mean(axis=0)
    solved = np.linalg.solve(shrunk(within, shrinkage) + TINY * np.eye(len(within)), apart.T)
    variance = float((solved * (within @ solved)).sum())
    return float((apart.T * solved).sum()) / variance if variance > 0 else 1.0


def unit(rows: Float) -> Float:
    """Returns rows [n, d] brought to length one; a zero row stays."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))


def nearest(embedded: Float, centres: Float, counts: Float, spread: float) -> Float:
    """Returns minus half the squared distance of cases [n, d] to class means [C, d], without the part all share.

    The mean of n cases lies farther out than the class does: |m|^2 is too large by spread / n on average, which would
    push cases away from rare classes. That much is taken off again; `spread` is the mean squared distance of a case to
    its class's true mean. A class without cases is never the answer.
    """
    seen = counts > 0
    length = (centres**2).sum(axis=1) - spread / np.where(seen, counts, 1.0)
    return np.asarray(np.where(seen, embedded @ centres.T - 0.5 * length, ABSENT))


@final
@dataclass(frozen=True)
class Metric(Model):
    """Nearest class mean in the federation's metric; keeps all that a new hospital or class needs.

    Attributes:
        mean, scale: [d], of the federation's features; z = (x - mean) / scale.
        within: [d, d], pooled within-class covariance of z, not shrunk.
        shrinkage: of it, in [0, 1].
        means: [C, d], class means of z.
        directions: [C, d], class means of the cases of unit length, unit(S_r^-1/2 z).
        counts: [C], cases behind each class mean; 0 = never seen.
        rule: "mahalanobis" or "unit" (cases brought to unit length).
        temperature: factor on the logits.
    """

    kind: ClassVar[str] = "metric"
    AXES: ClassVar[Mapping[str, str]] = {
        "mean": "d", "scale": "d", "within": "dd", "means": "cd", "directions": "cd", "counts": "c",
    }  # fmt: skip

    mean: Float
    scale: Float
    within: Float
    shrinkage: float
    means: Float
    directions: Float
    counts: Float
    rule: str
    temperature: float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def whitening(self) -> Float:
        """S_r^-1/2, [d, d]."""
        return whitening(shrunk(self.within, self.shrinkage))

    @cached_property
    def spread(self) -> float:
        """Mean squared distance of a case to its class's mean: tr(S_r^-1 S), or what the class directions lack of 1."""
        if self.rule == "mahalanobis":
            values = np.maximum(np.linalg.eigvalsh(self.within), 0.0)
            drawn = (1 - self.shrinkage) * values + self.shrinkage * values.mean()
            return float((values / np.maximum(drawn, TINY)).sum())
        many = self.counts > 1
        if not many.any():
            return 1.0  # an upper bound: nothing shows how far cases of a class lie apart
        short = 1.0 - (self.directions[many] ** 2).sum(axis=1)  # n / (n - 1) makes it unbiased
        return float((short * self.counts[many]).sum() / (self.counts[many] - 1.0).sum())

    @property
    def centres(self) -> Float:
        """Class means [C, d] in the space where the rule measures distances."""
        return self.directions if self.rule == "unit" else np.asarray(self.means @ self.whitening)

    @property
    def reliability(self) -> float:
        """Share of the squared distances between class means that is not due to chance, in [`FLOOR`, 1].

        Means of n and m cases are spread (1 / n + 1 / m) farther apart than the classes; log odds that took this for
        signal would be too sure, by this factor.
        """
        seen = self.counts > 0
        centres, chance = self.centres[seen], 1.0 / self.counts[seen]
        apart = len(centres) * float((centres**2).sum()) - float((centres.sum(axis=0) ** 2).sum())
        extra = self.spread * (len(centres) - 1) * float(chance.sum())
        return float(np.clip(1.0 - extra / apart, FLOOR, 1.0)) if apart > 0 else FLOOR

    def standardised(self, values: NDArray[np.floating[Any]]) -> Float:
        """Returns z [n, d] of features [n, d]."""
        return np.asarray((np.asarray(values, np.float64) - self.mean) / self.scale)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        white = self.standardised(values) @ self.whitening
        embedded = unit(white) if self.rule == "unit" else white
        closeness = nearest(embedded, self.centres, self.counts, self.spread)
        return np.asarray(np.where(self.counts > 0, self.temperature * closeness, ABSENT))

    def flaw(self) -> str:
        """See Model."""
        known = ("mahalanobis", "unit")
        return "" if self.rule in known else f"its rule is {self.rule!r}; known: {', '.join(known)}"


MODELS: tuple[type[Model], ...] = (Metric,)
