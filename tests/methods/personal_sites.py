"""Hospitals with a folder for their personal state, and studies over them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Reply, Request, Value
from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.fingerprint import agreement
from medtl_core.values import Released
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site

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
    return Study(MemoryHospitals(with_state(folder)), PROBLEM, settings, read_methods(methods))


def finished(folder: Path, methods: str, settings: Settings = SETTINGS) -> Study:
    """The same after all methods ran."""
    made = study(folder, methods, settings)
    for method in made.methods:
        made.outcome(method)
    return made


class Repeated(MemoryHospitals):
    """Hospitals that restart before every request and are asked it twice, as Flower may, and what left them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(with_state(folder))
        self.folder = folder
        self.left: list[tuple[str, str, Released]] = []

    def ask(self, request: Request) -> Iterator[Reply]:
        """See MemoryHospitals."""
        self.sites = {site.name: site for site in with_state(self.folder)}
        return super().ask(request)

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        """See MemoryHospitals."""
        for _ in range(2):
            self.left.append((request.task, site.name, answer(request.task, site, arrays, request.config)))
        return self.left[-1][2]


def last_asked(made: Study, task: str) -> Request:
    """The last request whose task ends like this."""
    assert isinstance(made.hospitals, MemoryHospitals)
    return [request for request in made.hospitals.asked if request.task.endswith(task)][-1]


@cache
def message(method: str, task: str) -> Request:
    """What hospitals are sent in the last "_round" or the "_finish" of a method."""
    with TemporaryDirectory() as folder:
        return last_asked(finished(Path(folder), method), task)


def ask(site: SiteData, request: Request, **changes: Any) -> Released:
    """One hospital's answer to a request, its flat values changed."""
    return answer(request.task, site, request.arrays, {**request.config, **changes})


def identity(method: str, settings: Settings = SETTINGS) -> dict[str, Value]:
    """The flat values that say whose state a message is about."""
    mark = agreement(settings, PROBLEM.classes, PROBLEM.fingerprint)
    classes = json.dumps(PROBLEM.classes)
    return {"method": method, "classes": classes, "fingerprint": PROBLEM.fingerprint, "agreement": mark}


def judged(site: SiteData, method: str) -> Arrays:
    """A hospital's evaluation of the personal model it keeps."""
    return answer("evaluate_personal", site, {}, identity(method)).update.arrays


def state_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of personal state below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same(first: Released, second: Released) -> bool:
    """Whether two releases hold the same bytes."""
    ours, theirs = first.update.arrays, second.update.arrays
    return {name: array.tobytes() for name, array in ours.items()} == {
        name: array.tobytes() for name, array in theirs.items()
    }
