"""How far from all training cases is too far: distances from the sums of a study, and their limit from its folds."""

import logging
import math
from collections.abc import Mapping

import numpy as np

from medtl_core.clinical.distance import BINS, Distance, limit
from medtl_core.errors import ConfigError
from medtl_core.federation.hospitals import ArraySpec, Request
from medtl_core.federation.method import Candidates
from medtl_core.federation.study import Study
from medtl_core.predict.outliers import Outliers
from medtl_core.values import Array

#: Phase of the exchange.
PHASE = "outliers"
_LOG = logging.getLogger("medtl")


def check(study: Study) -> None:
    """Refuses a study that asks for no sums from which distances follow, or has too few cases to set their limit.

    Raises:
        ConfigError: names the remedy.
    """
    asked, problem = study.settings.outliers, study.problem
    cases = sum(study.hospitals.weights.values())
    if asked and cases + 1 < 1 / asked - 1e-9:
        least, share = math.ceil(1 / asked - 1e-9) - 1, math.ceil(1000 / (cases + 1)) / 1000
        raise ConfigError(
            f"outliers={asked:g} takes {least} training cases, and hospitals have {cases}; "
            f"ask for {share:g} or more, or leave it out"
        )
    if asked and (problem.multi_label or problem.followed):
        raise ConfigError("outliers needs classes: of findings and of cases followed over time no distance is made")
    if asked and not any(isinstance(need, Candidates) for need in study.needs):
        raise ConfigError("outliers needs a method that sums statistics; name auto, discriminant or ridge as well")


def outliers(study: Study) -> Outliers | None:
    """Returns what tells cases unlike the training cases; None where the run does not ask, or no limit can be set."""
    share = study.settings.outliers
    if not share:
        return None
    sums = study.sums.decomposed
    arrays = _stacked([Distance.of(part) for part in sums.without])
    spec = ArraySpec((BINS,), least=0.0, step=1.0)
    request = Request("distances", arrays, {}, {"counts": spec}, PHASE, check=_miscounted)
    counts = study.hospitals.total(request)["counts"]
    found, cases = limit(counts, share, study.problem.width), int(counts.sum())
    if found is None:
        _LOG.warning("outliers=%g: no limit could be set on the distances of %d cases; heads have none", share, cases)
        return None
    return Outliers(Distance.of(sums.whole), found, share, cases)


def _stacked(parts: list[Distance]) -> dict[str, Array]:
    """What hospitals are asked with; a class that is missing without a fold, and an axis, stand for another twice."""
    most = {name: max(len(getattr(part, name)) for part in parts) for name in ("axes", "means", "spread")}
    rows: dict[str, list[Array]] = {"axes": [], "means": [], "spread": [], "scale": []}
    for part in parts:
        short = most["axes"] - len(part.axes)
        rows["axes"].append(np.concatenate([part.axes, np.zeros((short, part.axes.shape[1]), np.float32)]))
        rows["spread"].append(np.concatenate([part.spread[:-1], np.ones(short, np.float32), part.spread[-1:]]))
        rows["means"].append(part.means[np.minimum(np.arange(most["means"]), len(part.means) - 1)])
        rows["scale"].append(part.scale)
    return {name: np.stack(each) for name, each in rows.items()}


def _miscounted(arrays: Mapping[str, Array], cases: int) -> str:
    return "" if arrays["counts"].sum() == cases else "it counts distances of other cases than it registered"
