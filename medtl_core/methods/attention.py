"""`attention-R`: a slide's tiles weighed by gated attention, trained at hospitals and averaged; see `models.attention`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.federation.method import Study
from medtl_core.federation.rounds import ROUNDS, Trained, as_float32
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training
from medtl_core.heads.statistics import Float
from medtl_core.methods.balanced import find_loss
from medtl_core.methods.local_sgd import Pass, epochs, local_sgd
from medtl_core.methods.models.attention import NAMES, Attention, attended, initial, pictures_of, with_one
from medtl_core.rng import stream
from medtl_core.values import Array


@dataclass(frozen=True)
class AttentionMethod(Trained):
    """Tiles of a slide, slices of a scan weighed by attention (Ilse et al., ICML 2018), loss adjusted for the prior."""

    syntax = f"attention{ROUNDS}"
    example = "attention-20"
    task = "fit_attention"

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        rng = stream(study.settings.seed, "attention", "initial")
        return initial(study.problem.width, len(study.problem.classes), rng=rng)

    def sent(self, study: Study) -> Mapping[str, Array]:
        """See Trained: mean and scale of the cases' features, and the class counts [C] of all hospitals."""
        return {**super().sent(study), "counts": study.moments.counts.astype(np.float32)}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Attention:
        """See Trained."""
        moments, problem = study.moments, study.problem
        whole = as_float32(arrays) | moments.standardisation
        return Attention(whole, moments.counts > 0, problem.classes, problem.fingerprint, {"rounds": self.rounds})


def padded(bags: list[Float], width: int) -> NDArray[np.float32]:
    """Returns cases [k, d + 1] one behind the other, float32 [n, most k, d + 1], with zeros where a case has no more."""
    whole = np.zeros((len(bags), max(map(len, bags), default=1), width), np.float32)
    for row, bag in zip(whole, bags, strict=True):
        row[: len(bag)] = bag
    return whole


def _passes(site: SiteData, arrays: Arrays, config: Config, rng: np.random.Generator) -> Iterable[Pass]:
    if site.material is None:
        raise DataError(f"hospital {site.name!r} holds features only; attention needs the pictures of its cases")
    bags = [with_one(rows, arrays) for rows in pictures_of(site.material)]
    loss = find_loss("logit-adjusted", arrays["counts"])
    return epochs(
        padded(bags, len(arrays["mean"]) + 1), site.label,
        lambda current, some, label: loss.value(attended(current, some), label), Training.of(config), rng=rng,
    )  # fmt: skip


METHODS = (AttentionMethod,)
TASKS = {"fit_attention": local_sgd("attention", NAMES, _passes)}
