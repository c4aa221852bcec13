"""Hospitals that answer private tasks in memory without noise: what the sums would be if they cost nothing."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import all_private_tasks, find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.methods.private.pca_head import Directions
from medtl_core.privacy.patients import unit
from medtl_core.values import Released
from simulations.memory import MemoryHospitals
from tests.memory import make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("table", 0, 6),))
#: So much is promised that the noise a method reckons with is nothing.
SETTINGS = Settings(backbone="table", sites=3, public_cases=20, privacy="auto", epsilon=1e5, delta=1e-3)


class ExactHospitals(MemoryHospitals):
    """Every private task of the real client; neither gate nor noise."""

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        return Released(all_private_tasks()[request.task](site, arrays, request.config).update)


def exact_study(name: str, settings: Settings = SETTINGS, cases: int = 30) -> Study:
    """A study of one private method over three hospitals with Gaussian classes."""
    hospitals = ExactHospitals([make_site(site, cases) for site in "abc"])
    return Study(hospitals, PROBLEM, settings, (find_method(name),))


@dataclass(frozen=True)
class Trained:
    """What a private method gives when its sums cost nothing.

    Attributes:
        model: its head.
        asked: tasks, in order.
        phases: that are billed.
        values, rows, label: of all hospitals' training cases; rows have length one.
        test_values, test_label: of their held-out cases.
    """

    model: Directions
    asked: list[str]
    phases: set[str]
    values: np.ndarray
    rows: np.ndarray
    label: np.ndarray
    test_values: np.ndarray
    test_label: np.ndarray

    def accuracy(self) -> float:
        """Share of held-out cases that are told right."""
        return float((self.model.logits(self.test_values).argmax(axis=1) == self.test_label).mean())


@cache
def trained(name: str, cases: int = 30) -> Trained:
    """One private method over all cases of three hospitals, without noise."""
    study = exact_study(name, cases=cases)
    outcome = study.outcome(find_method(name))
    model = outcome.heads[""]
    assert isinstance(model, Directions) and isinstance(study.hospitals, MemoryHospitals)
    sites = study.hospitals.sites.values()
    parts = ("values", "label", "test_values", "test_label")
    values, label, *test = (np.concatenate([getattr(site, part) for site in sites]) for part in parts)
    asked = [request.task for request in study.hospitals.asked]
    return Trained(model, asked, set(outcome.bill), values, unit(values.astype(np.float64)), label, *test)
