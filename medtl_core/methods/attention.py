"""`attention-R`: a slide's tiles weighed by attention, trained at hospitals and averaged; see `models.attention`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Need, Share, Study
from medtl_core.federation.rounds import ROUNDS, Trained, as_float32
from medtl_core.federation.tasks import Arrays, Config, SiteData
from medtl_core.heads.linear import Training
from medtl_core.heads.statistics import Float
from medtl_core.methods.balanced import find_loss
from medtl_core.methods.local_sgd import Pass, epochs, local_sgd
from medtl_core.methods.models.attention import (
    NAMES,
    Attention,
    attended,
    check_pictures,
    initial,
    pictures_of,
    with_one,
)
from medtl_core.rng import stream
from medtl_core.values import Array, Released, Update

#: What is asked before the first round.
PHASE = "picture_moments"


@dataclass(frozen=True)
class AttentionMethod(Trained):
    """Tiles of a slide, slices of a scan weighed by attention (Ilse et al., ICML 2018), loss adjusted for the prior."""

    syntax = f"attention{ROUNDS}"
    example = "attention-20"
    task = "fit_attention"

    def needs(self, study: Study) -> tuple[Need, ...]:
        """See Method; ConfigError where a backbone reads more than pictures."""
        check_pictures(study.settings)
        return super().needs(study)

    def start(self, study: Study) -> Mapping[str, Array]:
        """See Trained."""
        rng = stream(study.settings.seed, "attention", "initial")
        return initial(study.problem.width, len(study.problem.classes), rng=rng)

    def sent(self, study: Study) -> Mapping[str, Array]:
        """See Trained: mean and scale of the pictures' features, and the class counts [C] of all hospitals."""
        return {**standardisation(study), "counts": study.moments.counts.astype(np.float32)}

    def model(self, study: Study, arrays: Mapping[str, Float]) -> Attention:
        """See Trained."""
        moments, problem = study.moments, study.problem
        whole = as_float32(arrays) | standardisation(study)
        return Attention(whole, moments.counts > 0, problem.classes, problem.fingerprint, {"rounds": self.rounds})

    def bill(self, study: Study) -> dict[str, Share]:
        """See Trained."""
        return {**super().bill(study), PHASE: Share()}


def standardisation(study: Study) -> dict[str, Array]:
    """Returns mean and scale [d] of all hospitals' pictures, each case counting alike, as they travel.

    Pictures of a case differ, so the scale is larger than that of the cases' means; no answer can make it smaller.
    """
    moments = study.moments
    request = Request(PHASE, expect={"square": ArraySpec((study.problem.width,), least=0.0)})
    square = study.once(PHASE, lambda: study.hospitals.total(request)["square"])
    spread = square / max(float(moments.counts.sum()), 1.0) - moments.mean**2
    return as_float32({"mean": moments.mean, "scale": np.sqrt(np.maximum(spread, moments.scale**2))})


def picture_moments(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Sum over cases of the mean square [d] of their pictures' features; the sum of the means is that of `moments`."""
    square = np.zeros(site.values.shape[1])
    for rows in pictures_at(site):
        square += (rows.astype(np.float64) ** 2).mean(axis=0)
    return Released(Update({"square": square}))


def pictures_at(site: SiteData) -> list[NDArray[np.float32]]:
    """Returns the features [k, d] of each training case's pictures.

    Raises:
        DataError: the hospital holds features only.
    """
    if site.material is None:
        raise DataError(f"hospital {site.name!r} holds features only; attention needs the pictures of its cases")
    return pictures_of(site.material)


def padded(bags: list[Float], width: int) -> NDArray[np.float32]:
    """Returns cases [k, d + 1] one behind the other, float32 [n, most k, d + 1], zeros behind the last."""
    whole = np.zeros((len(bags), max(map(len, bags), default=1), width), np.float32)
    for row, bag in zip(whole, bags, strict=True):
        row[: len(bag)] = bag
    return whole


def _passes(site: SiteData, arrays: Arrays, config: Config, rng: np.random.Generator) -> Iterable[Pass]:
    bags = [with_one(rows, arrays) for rows in pictures_at(site)]
    loss = find_loss("logit-adjusted", arrays["counts"])
    return epochs(
        padded(bags, len(arrays["mean"]) + 1), site.label,
        lambda current, some, label: loss.value(attended(current, some), label), Training.of(config), rng=rng,
    )  # fmt: skip


METHODS = (AttentionMethod,)
TASKS = {PHASE: picture_moments, "fit_attention": local_sgd("attention", NAMES, _passes)}
