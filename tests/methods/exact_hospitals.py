"""Hospitals that answer private tasks in memory without noise: what the sums would be if they cost nothing."""

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Request
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import all_private_tasks, all_private_training, find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.values import Released, Update
from tests.memory import make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("table", 0, 6),))
#: So much is promised that the noise a method reckons with is nothing.
SETTINGS = Settings(backbone="table", sites=3, public_cases=20, privacy="auto", epsilon=1e5, delta=1e-3)


class ExactHospitals(MemoryHospitals):
    """Every private task of the real client; neither gate nor noise."""

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        train = all_private_training().get(request.task)
        if train is None:
            return Released(all_private_tasks()[request.task](site, arrays, request.config).update)
        return Released(Update(train(site, arrays, request.config, lambda bounded: dict(bounded.update.arrays))))


def exact_study(name: str, settings: Settings = SETTINGS, cases: int = 30) -> Study:
    """A study of one private method over three hospitals with Gaussian classes."""
    hospitals = ExactHospitals([make_site(site, cases) for site in "abc"])
    return Study(hospitals, PROBLEM, settings, (find_method(name),))
