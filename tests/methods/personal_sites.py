"""Hospitals with a folder for their personal state, and studies over them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Request
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.values import Released
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 2), ("7", 2, 4), ("10", 4, 6)))
#: Unequal hospitals; one has one case, one has one class.
SIZES = {"a": 30, "b": 20, "c": 1, "d": 25, "e": 12}
SETTINGS = Settings(test="sites", local_epochs=2)


def with_state(folder: Path) -> list[SiteData]:
    """Five hospitals as their processes open them anew: nothing is shared with an earlier call but the disk."""
    return [
        replace(make_site(name, cases, skew=1 if name == "e" else None), state=folder / name)
        for name, cases in SIZES.items()
    ]


def study(folder: Path, methods: str, settings: Settings = SETTINGS) -> Study:
    """A study over hospitals with a state folder each."""
    return Study(DirectHospitals(with_state(folder)), PROBLEM, settings, read_methods(methods))


def recorded(folder: Path, methods: str, settings: Settings = SETTINGS) -> tuple[Study, "Recording"]:
    """The same study over hospitals that are asked everything twice, and what left them."""
    hospitals = Recording(with_state(folder))
    return Study(hospitals, PROBLEM, settings, read_methods(methods)), hospitals


def last_asked(made: Study, task: str) -> Request:
    """The last request of a task."""
    assert isinstance(made.hospitals, DirectHospitals)
    return [request for request in made.hospitals.asked if request.task == task][-1]


class Recording(DirectHospitals):
    """Keeps everything that left a hospital."""

    def __init__(self, sites: list[SiteData]) -> None:
        super().__init__(sites)
        self.left: list[tuple[str, str, Released]] = []

    def ask(self, request: Request) -> Any:
        for site in self.sites.values():  # answered twice: Flower may repeat a message
            arrays = {**request.arrays, **(request.own(site.name) if request.own else {})}
            self.left.append((request.task, site.name, answer(request.task, site, arrays, request.config)))
        return super().ask(request)


def state_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of personal state below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(one: Released, other: Released) -> bool:
    """Whether two releases hold the same bytes."""
    ours, theirs = one.update.arrays, other.update.arrays
    return {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
