"""The discriminant on features averaged over the agreed views and N random pictures of the same finding.

Training and answering average alike: a classifier fitted on averaged features and asked about others loses several
points. What is drawn depends on the image only, so features are computed once and kept in the feature cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.federation.feature_map import FeatureMap, solve, tasks_of
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome, Share
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import Discriminant
from medtl_core.methods.models.augmented import AugmentedHead, blended


def _read(site: SiteData, arrays: Arrays, config: Config) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if site.material is None:
        raise DataError(f"hospital {site.name!r} holds features only; augmentation needs the images")
    return blended(site.values, site.material, int(config["copies"])), site.label


#: The agreed features averaged with those of random pictures.
BLENDED = FeatureMap("augmented", _read)


@final
@dataclass(frozen=True)
class Augmented(Method):
    """The cross-validated discriminant on blended features.

    Attributes:
        copies: random pictures of each case.
    """

    syntax: ClassVar[str] = "discriminant-augmented-(?P<copies>[1-9][0-9]?)"
    example: ClassVar[str] = "discriminant-augmented-8"
    summary: ClassVar[str] = "the discriminant on features averaged over views and N random pictures, also afterwards"

    copies: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        phases = [f"{word}-augmented-{self.copies}" for word in ("statistics", "validate")]
        reading = study.reading(BLENDED, {}, width=study.problem.width, config={"copies": self.copies})
        solved = solve(reading, {"": (Discriminant(), reading.sums(phases[0]))}, phases[1])[""]
        facts = {**solved.facts, "base": "discriminant", "copies": self.copies}
        weight, bias = solved.affine[:, :-1].copy(), solved.affine[:, -1].copy()
        model = AugmentedHead(weight, bias, self.copies, study.problem.classes, study.problem.fingerprint, facts)
        return Outcome({"": model}, dict.fromkeys(phases, Share()), solved.server_cpu, facts)


METHODS: tuple[type[Method], ...] = (Augmented,)
TASKS: Mapping[str, Task] = tasks_of(BLENDED)
