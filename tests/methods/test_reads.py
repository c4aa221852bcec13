"""Which settings a method declares, and which do change what hospitals send or what comes of it: the same ones."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from medtl_core.config import Settings
from medtl_core.federation.hospitals import Request
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Problem
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import all_methods, find_method
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, SiteData
from medtl_core.methods.effect import OF_METHODS
from medtl_core.values import Released
from simulations.memory import MemoryHospitals
from tests.methods import followed, pictures
from tests.methods.personal_sites import state_bytes
from tests.methods.pictures import make_study

#: Every setting that only some methods read, and another value of it.
OTHERS = {
    "folds": 3, "local-epochs": 2, "batch-size": 2, "learning-rate": 0.011, "weight-decay": 0.7, "proximal": 3.0,
    "server-momentum": 0.2, "server-rate": 0.77, "adam-rate": 0.123, "tune-epochs": 2, "tune-rate": 0.123,
}  # fmt: skip
BASE = pictures.SETTINGS.replace(batch_size=4, local_epochs=1, folds=2, test="sites")


class Heard(MemoryHospitals):
    """Hospitals whose answers are noted."""

    def __init__(self, sites: Sequence[SiteData]) -> None:
        super().__init__(sites)
        self.said = hashlib.sha256()

    def answer(self, site: SiteData, request: Request, arrays: Arrays) -> Released:
        """See MemoryHospitals."""
        released = super().answer(site, request, arrays)
        for name, array in sorted(released.update.arrays.items()):
            self.said.update(name.encode() + array.tobytes())
        return released


def told(kind: type[Method], settings: Settings, folder: Path) -> tuple[str, ...]:
    """What hospitals said in a run, what came of it, and what they keep."""
    if kind.cases == "any":
        made = make_study(settings=settings, sites=(12, 9))
        problem, sites = made.problem, made.hospitals.sites.values()  # type: ignore[attr-defined]
    else:
        sites = [followed.site("a", 40), followed.site("b", 30)]
        problem = Problem(followed.TASK.classes, "features", (("table", 0, 2 * followed.WIDTH),))
    folder.mkdir()
    hospitals = Heard([judging(site, folder) for site in sites])
    method = find_method(kind.example)
    outcome = Study(hospitals, problem, settings, [method]).outcome(method)
    heads = [repr(sorted(vars(head).items())) for head in (*outcome.heads.values(), *outcome.members.values())]
    kept = {name: held for name, held in state_bytes(folder).items() if name.endswith(".safetensors")}
    return hospitals.said.hexdigest(), *heads, str(kept)  # manifests name the agreement, whose hash has all settings


def judging(site: SiteData, folder: Path) -> SiteData:
    """The same hospital with a place for state; it judges on the cases it trains on."""
    return replace(
        site, state=folder / site.name, test_values=site.values, test_label=site.label, test_patients=site.patients,
        test_material=site.material,
    )  # fmt: skip


#: In the default suite; `make test-slow` has all.
FEW = ("discriminant", "fedprox-20", "cox")
KINDS = [
    pytest.param(kind, id=kind.example, marks=[] if kind.example in FEW else [pytest.mark.slow])
    for kind in all_methods()
    if not issubclass(kind, PrivateMethod)
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_declares_the_settings_that_have_effect(kind: type[Method], tmp_path: Path) -> None:
    usual = told(kind, BASE, tmp_path / "usual")
    assert told(kind, BASE, tmp_path / "again") == usual
    changed = {name: BASE.replace(**{name.replace("-", "_"): value}) for name, value in OTHERS.items()}
    found = {name for name, settings in changed.items() if told(kind, settings, tmp_path / name) != usual}
    assert found == {*kind.reads}


def test_every_setting_that_a_method_declares_is_one_of_methods() -> None:
    assert {word for kind in all_methods() for word in kind.reads} == {*OF_METHODS} == {*OTHERS}
