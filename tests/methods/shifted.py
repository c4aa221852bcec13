"""Hospitals whose features differ by a known shift and scale, and a test set that says which site a case is from."""

from dataclasses import replace

import numpy as np

from medtl_core.config import Settings
from medtl_core.features.dataset import Material
from medtl_core.federation.registry import read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.rng import stream
from medtl_core.values import Examples, Task
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site


def study(sites: list[SiteData], methods: str) -> Study:
    return Study(MemoryHospitals(sites), PROBLEM, Settings(), read_methods(methods))


def plain(sizes: dict[str, int], seed: int = 0) -> list[SiteData]:
    return [make_site(name, cases, seed=seed) for name, cases in sizes.items()]


def shifted(sites: list[SiteData], seed: int = 0) -> list[SiteData]:
    """The same hospitals, each with another scale and shift of every feature."""
    return [replace(site, values=moved(site.values, site.name, seed)) for site in sites]


def moved(values: np.ndarray, name: str, seed: int = 0) -> np.ndarray:
    rng = stream(seed, "shifted", name)
    scale, shift = np.exp(rng.uniform(-1, 1, values.shape[1])), rng.normal(0, 3, values.shape[1])
    return np.asarray(values.astype(np.float64) * scale + shift)


def material(sites: list[str]) -> Material:
    """Cases of which only the site is known."""
    count = len(sites)
    columns = {
        "label": np.zeros(count, np.int64), "patient": np.arange(count).astype(str), "site": np.array(sites),
        "split": np.full(count, "test"), "table": np.zeros((count, 1)),
    }  # fmt: skip
    return Material(Examples(columns, Task("t", PROBLEM.classes)), Settings(backbone="table"), (), ("x",))
