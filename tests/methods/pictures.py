"""Hospitals with tiny synthetic images, for methods that look deeper than the agreed features."""

from functools import lru_cache

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.synthetic.phantom import phantom
from medtl_core.features.dataset import Material
from medtl_core.features.extract import feature_spec
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.values import Examples
from simulations.memory import MemoryHospitals

VIEWS = ("identity", "flip-h")
SETTINGS = Settings(features="4", image_size=32, cache="off", tune_epochs=1, batch_size=8)


@lru_cache(maxsize=1)
def cases() -> Examples:
    return phantom(size=32, patients=48)


def material(count: int = 6, settings: Settings = SETTINGS, first: int = 0) -> Material:
    return Material(cases().take(np.arange(first, first + count)), settings, VIEWS)


@lru_cache
def features(first: int, count: int, settings: Settings) -> np.ndarray:
    """The agreed features of these cases; who changes them takes a copy."""
    return material(count, settings, first).features().values


def make_site(name: str, count: int, first: int = 0, settings: Settings = SETTINGS) -> SiteData:
    """A hospital with `count` images; its labels alternate, so that every class is there."""
    own = material(count, settings, first)
    values = features(first, count, settings).copy()
    label = (np.arange(count) % 3).astype(np.int64)
    empty = own.take(np.arange(0))
    return SiteData(
        name, values, label, own.examples["patient"], values[:0], label[:0], own.examples["patient"][:0], 3,
        settings.seed, own, empty,
    )  # fmt: skip


def make_study(*names: str, settings: Settings = SETTINGS, sites: tuple[int, ...] = (9, 6)) -> Study:
    """A study over hospitals in memory, the first with images 0, 1, ..., the next with those after them."""
    starts = np.cumsum([0, *sites[:-1]])
    hospitals = [make_site(f"h{i}", n, int(starts[i]), settings) for i, n in enumerate(sites)]
    spec = feature_spec(settings, VIEWS)
    problem = Problem(("x", "y", "z"), spec.fingerprint, spec.groups, VIEWS, "chest X-ray")
    return Study(MemoryHospitals(hospitals), problem, settings, [find_method(name) for name in names])
