"""Hospitals with made-up cases, for `simulations.memory`."""

import numpy as np

from medtl_core.federation.outcome import Problem
from medtl_core.federation.tasks import SiteData
from medtl_core.rng import stream

#: What a server knows of hospitals that `make_site` gives.
PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 2), ("7", 2, 4), ("10", 4, 6)))


def make_site(
    name: str, cases: int, *, width: int = 6, classes: int = 3, seed: int = 0, skew: int | None = None
) -> SiteData:
    """A hospital with Gaussian classes; `skew` = the only class it sees."""
    rng = stream(seed, "site", name)
    means = 1.5 * stream(seed, "means").standard_normal((classes, width))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        label = np.full(count, skew) if skew is not None else rng.permutation(np.arange(count) % classes)
        values = means[label] + rng.standard_normal((count, width)) * np.linspace(0.5, 2.0, width) + 3.0
        return values.astype(np.float32), label.astype(np.int64), np.array([f"{name}-{i}" for i in range(count)])

    return SiteData(name, *draw(cases), *draw(20), classes, seed)
