"""Federated ComBat: every hospital's shift and scale, estimated after its class mix has been accounted for.

A hospital with more pneumonia has another mean feature without having another scanner. ComBat (Johnson, Li, Rabinovic,
Biostatistics 8:118, 2007; for images Fortin et al., NeuroImage 167:104, 2018) therefore removes the class means first
and looks at what is left. Here class means and pooled variance come from sums alone, in a few light rounds, and the
empirical Bayes prior is replaced by a fixed weight n / (n + 10) (METHODS section 4b).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.aggregate.folds import total
from medtl_core.heads.statistics import Float
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.transfer.alignment import AlignedDiscriminant, aligned_tasks
from medtl_core.transfer.standardised import FLOOR, PRIOR, Alignment
from medtl_core.values import Array, Released, Update

#: Rounds of class means after the first, which takes the features as they are.
ROUNDS = 3
#: Smallest pooled residual variance of a standardised feature, so that a constant one divides by something.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Residuals:
    """What all hospitals agree on, for features standardised by the pooled moments.

    Attributes:
        means: float64 [C, d], class means of the aligned features.
        within: float64 [d], pooled variance within a class and hospital.
    """

    means: Float
    within: Float

    def shift_and_scale(self, standard: Float, label: NDArray[np.int64]) -> tuple[Float, Float]:
        """Returns a hospital's shift [d] and scale [d], shrunk towards no shift and the pooled scale.

        Example:
            >>> agreed = Residuals(np.array([[0.0], [2.0]]), np.ones(1))
            >>> shift, _ = agreed.shift_and_scale(np.array([[1.0], [3.0]]), np.array([0, 1]))
            >>> round(float(shift[0]), 3)  # every case lies one above its class; two cases count 2 / 12
            0.167
        """
        weight = len(label) / (len(label) + PRIOR)
        left = standard - self.means[label]
        if not len(label):
            return np.zeros_like(self.within), np.sqrt(self.within)
        scale = np.sqrt(weight * left.var(axis=0) + (1.0 - weight) * self.within)
        return weight * left.mean(axis=0), np.maximum(scale, FLOOR * np.sqrt(self.within))

    def harmonised(self, standard: Float, label: NDArray[np.int64]) -> Float:
        """Returns the features [n, d] with the hospital's shift and scale taken out of their residuals."""
        shift, scale = self.shift_and_scale(standard, label)
        own = self.means[label]
        return np.asarray(own + (standard - own - shift) / scale * np.sqrt(self.within))


def combat_sums(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts [C] and class sums [C, d] of the harmonised features, and the residuals' squares [d] about their mean.

    Without `means` and `within` (the first round) the features count as they are, and their own squares.
    """
    standard = (site.values.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    onehot = np.eye(site.classes)[site.label]
    if "means" not in arrays:
        values, squares = standard, (standard**2).sum(axis=0)
    else:
        agreed = Residuals(arrays["means"], arrays["within"])
        values, left = agreed.harmonised(standard, site.label), standard - agreed.means[site.label]
        squares = ((left - left.mean(axis=0)) ** 2).sum(axis=0) if len(left) else np.zeros(left.shape[1])
    return Released(Update({"counts": onehot.sum(axis=0), "sums": onehot.T @ values, "squares": squares}))


def by_class(site: SiteData, arrays: Arrays) -> Alignment:
    """A training hospital's alignment on raw features, from what the last round agreed."""
    standard = (site.values.astype(np.float64) - arrays["mean"]) / arrays["scale"]
    shift, scale = Residuals(arrays["means"], arrays["within"]).shift_and_scale(standard, site.label)
    return Alignment(arrays["mean"] + arrays["scale"] * shift, arrays["scale"] * scale / np.sqrt(arrays["within"]))


def agree(study: Study) -> Residuals:
    """Returns class means and pooled variance after `ROUNDS` light rounds (phase "combat_sums")."""
    sums = _asked(study, {})
    cases = max(float(sums["counts"].sum()), 1.0)
    means = _means(sums)
    agreed = Residuals(means, np.maximum((sums["squares"] - sums["counts"] @ means**2) / cases, _SMALLEST))
    for _ in range(ROUNDS):
        sums = _asked(study, {"means": agreed.means, "within": agreed.within})
        agreed = Residuals(_means(sums), np.maximum(sums["squares"] / cases, _SMALLEST))
    return agreed


def _asked(study: Study, agreed: Arrays) -> dict[str, Array]:
    width, classes = study.problem.width, len(study.problem.classes)
    expect = {"counts": ArraySpec((classes,)), "sums": ArraySpec((classes, width)), "squares": ArraySpec((width,))}
    request = Request("combat_sums", {**_pooled(study), **agreed}, expect=expect)
    return total(reply.arrays for reply in study.hospitals.ask(request))


def _pooled(study: Study) -> dict[str, Array]:
    return {"mean": study.moments.mean, "scale": study.moments.scale}


def _means(sums: Arrays) -> Float:
    return np.asarray(sums["sums"] / np.maximum(sums["counts"], 1.0)[:, None])


@final
@dataclass(frozen=True)
class CombatDiscriminant(AlignedDiscriminant):
    """Every hospital takes out its label-aware shift and scale; an unseen one, without labels, its batch moments."""

    syntax: ClassVar[str] = "discriminant-combat(?P<inductive>-inductive)?"
    example: ClassVar[str] = "discriminant-combat"
    summary: ClassVar[str] = "the discriminant after federated ComBat: label-aware shift and scale of every hospital"
    aligner: ClassVar[str] = "combat"

    def prepare(self, study: Study) -> tuple[dict[str, Array], dict[str, Share]]:
        """See AlignedDiscriminant."""
        agreed = agree(study)
        sent = {**_pooled(study), "means": agreed.means, "within": agreed.within}
        return sent, {"moments": Share(), "combat_sums": Share()}


METHODS: tuple[type[Method], ...] = (CombatDiscriminant,)
TASKS: Mapping[str, Task] = {"combat_sums": combat_sums, **aligned_tasks("combat", by_class)}
