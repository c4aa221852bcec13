"""Hospitals with tables in which cases are followed over time, as their apps would open them."""

import numpy as np

from medtl_core.config import Settings
from medtl_core.features.dataset import Material
from medtl_core.federation.outcome import Outcome, Problem
from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.rng import stream
from medtl_core.values import Examples, Task
from simulations.memory import MemoryHospitals

TASK = Task("survival", ("censored", "died"))
WIDTH = 4
#: What counts, a year's risk of each column's unit.
TRUE = np.array([1.0, -0.7, 0.0, 0.4])


def site(name: str, cases: int, *, gaps: float = 0.0, seed: int = 0) -> SiteData:
    """A hospital with a baseline hazard of its own, exponential times and some censoring."""
    rng = stream(seed, "followed", name)
    table = rng.normal(size=(cases, WIDTH))
    event_time = rng.exponential(1.0, cases) / np.exp(table @ TRUE) * rng.uniform(0.5, 2.0)
    censored = rng.exponential(2.0, cases)
    label = (event_time <= censored).astype(np.int64)
    table[rng.random(table.shape) < gaps] = np.nan
    return opened(name, table, label, np.minimum(event_time, censored))


def opened(name: str, table: np.ndarray, label: np.ndarray, times: np.ndarray | None = None) -> SiteData:
    patients = np.array([f"{name}-{number}" for number in range(len(label))])
    columns = {"label": label, "patient": patients, "site": np.full(len(label), name), "table": table}
    material = Material(Examples({**columns, **({} if times is None else {"time": times})}, TASK), Settings(), ())
    gap = np.isnan(table)
    values = np.stack([np.where(gap, 0, table), gap], axis=2).reshape(len(table), -1).astype(np.float32)
    none = np.zeros(0, np.int64)
    return SiteData(name, values, label, patients, values[:0], none, patients[:0], 2, 0, material, material.take(none))


def outcome(sites: list[SiteData], method: str) -> tuple[Outcome, Study]:
    width = 2 * sites[0].material.examples["table"].shape[1]  # type: ignore[union-attr]
    problem = Problem(TASK.classes, "features", (("table", 0, width),))
    study = Study(MemoryHospitals(sites), problem, Settings(backbone="table", folds=3), (find_method(method),))
    return study.outcome(find_method(method)), study


def tables(sites: list[SiteData]) -> np.ndarray:
    """All hospitals' columns, one below the other."""
    return np.concatenate([one.material.examples["table"] for one in sites])  # type: ignore[union-attr]
