"""Bagged heads: the discriminant or the nearest mean on bootstraps of the hospitals' patients, averaged.

Every hospital draws for each bag how many times each of its patients counts (Poisson(1): Oza and Russell 2001), so that
the summed statistics of a bag are those of a bootstrap of all patients (Breiman 1996). Nothing but sums leaves; a
discriminant costs one Gram matrix a bag, the nearest mean only class sums.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.aggregate.folds import total
from medtl_core.heads.closed import FAMILIES
from medtl_core.heads.statistics import Float, Statistics, unpack
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.rng import stream
from medtl_core.transfer.mixture import Mixture
from medtl_core.values import Released, Update


def bagged_statistics(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts [B, C] and class sums [B, C, d] of each bag, with Gram matrices [B, d(d+1)/2] or squares [B, d]."""
    weights = draws(site, int(config["bags"]))
    wide, onehot = site.values.astype(np.float64), np.eye(site.classes)[site.label]
    weighted = [onehot.T * weight for weight in weights]
    found = {
        "counts": np.stack([one.sum(axis=1) for one in weighted]),
        "sums": np.stack([one @ wide for one in weighted]),
    }
    if config["gram"]:
        upper = np.triu_indices(wide.shape[1])
        found["gram"] = np.stack([((wide.T * weight) @ wide)[upper] for weight in weights])
    else:
        found["squares"] = weights @ wide**2
    return Released(Update(found))


def draws(site: SiteData, bags: int) -> Float:
    """Returns how many times each case counts in each bag, float64 [B, n]; all cases of a patient count alike."""
    patients, case = np.unique(site.patients, return_inverse=True)
    rows = [stream(site.seed, "bag", site.name, bag).poisson(1.0, len(patients)) for bag in range(bags)]
    return np.stack(rows)[:, case].astype(np.float64)


@final
@dataclass(frozen=True)
class Bagged(Method):
    """The mean probability of heads on bootstraps of the patients, at the strength that cross-validation chose.

    Attributes:
        bags: number of bootstraps.
        mean: whether the head is the nearest mean instead of the discriminant.
    """

    syntax: ClassVar[str] = r"bagged-(?P<bags>[1-9][0-9]?)(?P<mean>-mean)?"
    example: ClassVar[str] = "bagged-3"
    summary: ClassVar[str] = (
        "mean probability of discriminants (-mean: nearest means) on so many bootstraps of patients"
    )

    bags: int
    mean: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        family = "nearest-mean" if self.mean else "discriminant"
        choice = study.choices[family]
        parts = self._statistics(study)
        with study.clock(self.name) as spent:
            found = [FAMILIES[family].heads(part)[choice.index] * choice.temperature for part in parts]
        heads = {f"bag {number}": head for number, head in enumerate(found)}
        facts = {"family": family, "members": list(heads), "temperature": choice.temperature}
        mixture = Mixture.of(study, heads, np.full(self.bags, 1.0 / self.bags), facts)
        bill = {"statistics": Share(), "validate": Share(), self.name: Share()}
        return Outcome({"": mixture}, bill, spent[0], mixture.facts)

    def _statistics(self, study: Study) -> list[Statistics]:
        classes, width = len(study.problem.classes), study.problem.width
        second = ("squares", width) if self.mean else ("gram", width * (width + 1) // 2)
        expect = {
            "counts": ArraySpec((self.bags, classes)),
            "sums": ArraySpec((self.bags, classes, width)),
            second[0]: ArraySpec((self.bags, second[1])),
        }
        request = Request("bagged_statistics", {}, {"bags": self.bags, "gram": not self.mean}, expect, self.name)
        sums = total(reply.arrays for reply in study.hospitals.ask(request))
        if not self.mean:
            return unpack(Update(sums))
        rows = zip(sums["counts"], sums["sums"], sums["squares"], strict=True)
        return [
            Statistics(counts, sums, np.diag(squares)) for counts, sums, squares in rows
        ]  # its scale is all it needs


METHODS: tuple[type[Method], ...] = (Bagged,)
TASKS: Mapping[str, Task] = {bagged_statistics.__name__: bagged_statistics}
