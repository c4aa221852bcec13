"""Hospitals whose cases have several findings each, some of them unknown, as their apps would open them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.features.dataset import Material
from medtl_core.federation.method import Outcome
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import multi_label, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.heads.statistics import Float
from medtl_core.rng import stream
from medtl_core.values import MULTI_LABEL, UNKNOWN, Examples, Task, any_finding
from simulations.memory import MemoryHospitals

TASK = Task("chest", ("edema", "effusion", "nodule"), MULTI_LABEL)
WIDTH = 12


def site(name: str, cases: int, *, gaps: float = 0.0, unseen: Sequence[int] = (), seed: int = 0) -> SiteData:
    """A hospital; its findings hang on two features each, and a share of them, and some whole findings, are unknown."""
    rng = stream(seed, "labelled", name)
    values = rng.normal(size=(cases, WIDTH)) + rng.normal(scale=0.3, size=WIDTH)
    odds = values[:, :6] @ np.kron(np.eye(3), [[1.5], [-1.0]]) - np.array([0.0, 0.8, 1.6])
    labels = (odds + rng.logistic(size=odds.shape) > 0).astype(np.int8)
    labels[rng.random(labels.shape) < gaps] = UNKNOWN
    labels[:, list(unseen)] = UNKNOWN
    return opened(name, values.astype(np.float32), labels)


def opened(name: str, values: NDArray[np.float32], labels: NDArray[np.int8], held_out: int = 0) -> SiteData:
    """A hospital with these cases, the last ones held out."""
    patients = np.array([f"{name}-{number // 2}" for number in range(len(labels))])
    label = any_finding(labels)
    columns = {"label": label, "labels": labels, "patient": patients, "site": np.full(len(label), name)}
    material, place = Material(Examples(columns, TASK), Settings(), ()), len(label) - held_out
    train, test = np.arange(place), np.arange(place, len(label))
    sides = [(values[rows], label[rows], patients[rows]) for rows in (train, test)]
    return SiteData(name, *sides[0], *sides[1], len(TASK.classes), 0, material.take(train), material.take(test))


def study(sites: Sequence[SiteData], methods: str, **settings: object) -> Study:
    problem = Problem(TASK.classes, "features", (("tap", 0, WIDTH),), multi_label=True)
    chosen = Settings(folds=3, **settings)  # type: ignore[arg-type]
    return Study(MemoryHospitals(sites), problem, chosen, multi_label(read_methods(methods)))


def outcome(sites: Sequence[SiteData], method: str) -> Outcome:
    made = study(sites, method)
    return made.outcome(made.methods[0])


def pooled(sites: Sequence[SiteData]) -> tuple[Float, NDArray[np.int8]]:
    """All hospitals' features and findings, one below the other."""
    labels = [one.material.examples["labels"] for one in sites]  # type: ignore[union-attr]
    return np.concatenate([one.values for one in sites]).astype(np.float64), np.concatenate(labels)
