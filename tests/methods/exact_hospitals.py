"""Hospitals that answer private tasks in memory without noise: what the sums would be if they cost nothing."""

from collections.abc import Iterator

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Reply, Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import all_private_tasks, all_private_training, find_method
from medtl_core.federation.study import Study
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("table", 0, 6),))
#: So much is promised that the noise a method reckons with is nothing.
SETTINGS = Settings(backbone="table", sites=3, public_cases=20, privacy="auto", epsilon=1e5, delta=1e-3)


class ExactHospitals(DirectHospitals):
    """Every private task of the real client; neither gate nor noise."""

    def ask(self, request: Request) -> Iterator[Reply]:
        self.asked.append(request)
        for name, site in self.sites.items():
            train = all_private_training().get(request.task)
            if train is not None:
                arrays = train(site, request.arrays, request.config, lambda bounded: dict(bounded.update.arrays))
            else:
                arrays = all_private_tasks()[request.task](site, request.arrays, request.config).update.arrays
            assert {key: array.shape for key, array in arrays.items()} == {
                key: spec.shape for key, spec in request.expect.items()
            }
            yield Reply(name, arrays, {}, 20)


def exact_study(name: str, settings: Settings = SETTINGS, cases: int = 30) -> Study:
    """A study of one private method over three hospitals with Gaussian classes."""
    hospitals = ExactHospitals([make_site(site, cases) for site in "abc"])
    return Study(hospitals, PROBLEM, settings, (find_method(name),))
