"""What tells two neighbouring hospitals apart at the door: nothing of the real one, and each fault planted in it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from client import gate
from medtl_core.audit import neighbours
from medtl_core.audit.door import Door
from medtl_core.audit.finding import FALSE, STANDS, Finding
from medtl_core.audit.neighbours import door_finding
from medtl_core.config import Settings, Value, settings
from medtl_core.data.source import Source, _hold_out, private_source
from medtl_core.errors import PrivacyError
from medtl_core.federation import private
from medtl_core.federation.private import PrivateMethod
from medtl_core.federation.registry import find_method
from medtl_core.privacy import gate as core_gate
from medtl_core.privacy.noise import insecure_entropy, system_entropy
from medtl_core.values import Array
from tests.audit.made import hospital

Shapes = Mapping[str, tuple[int, ...]]


def audited(folder: Path, name: str = "private-mean-4", patients: int = 11) -> Finding:
    method, site = find_method(name), hospital(folder, patients)
    assert isinstance(method, PrivateMethod)
    site = site.on_directions(site.directions(method))
    return door_finding(site, method, neighbours.neighbours(site, site.run(method)[0]))


def hold_out(change: pytest.MonkeyPatch) -> str:
    """A quarter of the patients is drawn as held out, from all of them."""

    def drawn(chosen: Settings) -> Source:
        source = _hold_out(private_source(chosen))
        return replace(source, examples=source.examples.take(source.examples["split"] == "train"))

    change.setattr("client.site.private_source", drawn)
    return "as in the run"


def min_cell(change: pytest.MonkeyPatch) -> str:
    """Classes with fewer cases than a run's `min-cell` are left out of its sums."""
    asked = {"min-cell": 0}

    def read(config: Mapping[str, Value]) -> Settings:
        asked["min-cell"] = int(config["min-cell"])
        return settings({**config, "min-cell": 0})

    def suppressed(chosen: Settings) -> Source:
        source = private_source(chosen)
        counts = np.bincount(source.examples["label"], minlength=3)
        kept = counts[source.examples["label"]] >= asked["min-cell"]
        return replace(source, examples=source.examples.take(kept))

    change.setattr("client.site.settings", read)
    change.setattr("client.site.private_source", suppressed)
    return "min-cell: private_statistics"


def refusal(change: pytest.MonkeyPatch) -> str:
    """Numbers of a request are not checked, and rows that they carry beyond float64 end in a refusal."""

    def unit(rows: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))

    def by_patient(rows: Array, label: Array, patients: Array) -> object:
        if not np.isfinite(rows).all():
            raise PrivacyError("a case's features are not finite")
        return real(rows, label, patients)

    def sums(demand: core_gate.Demand, task: Callable[[], core_gate.Bounded]) -> dict[str, Array]:
        return core_gate.whole_numbers(task(), demand.plan, demand.step)

    def checked(arrays: Mapping[str, Array], shapes: Shapes) -> None:
        if {name: array.shape for name, array in arrays.items()} != dict(shapes):
            raise PrivacyError("other shapes")

    from medtl_core.methods.private import public_pca

    real = public_pca.by_patient
    change.setattr("medtl_core.privacy.patients.unit", unit)
    change.setattr(public_pca, "by_patient", by_patient)
    change.setattr(core_gate, "_sums", sums)
    change.setattr(private, "_check_arrays", checked)
    return "private_statistics: overflow"


def shapes_unchecked(change: pytest.MonkeyPatch) -> str:
    """An array of a request may have any shape."""
    real = private._check_arrays

    def checked(arrays: Mapping[str, Array], shapes: Shapes) -> None:
        real(arrays, {name: array.shape for name, array in arrays.items()})

    change.setattr(private, "_check_arrays", checked)
    return "private_statistics: mean of one row a case"


@pytest.mark.door  # the whole command on one method is in the default suite
@pytest.mark.parametrize("name", ["private-mean-4", "private-prototypes-4", "private-gradient-2"])
def test_nothing_tells_two_neighbours_apart_at_the_real_door(tmp_path: Path, name: str) -> None:
    found = audited(tmp_path, name)
    assert (found.held, found.verdict, found.numbers["apart"]) == (True, STANDS, [])
    assert 0.99 < found.numbers["shift"] <= 1 + 1e-6
    assert found.numbers["questions"] > 20
    assert found.planted["another patient comes in exchange"].endswith(", found")


@pytest.mark.parametrize(
    "plant",
    [hold_out, *(pytest.param(plant, marks=pytest.mark.door) for plant in (min_cell, refusal, shapes_unchecked))],
)
def test_a_fault_at_the_door_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], str]
) -> None:
    question = plant(monkeypatch)
    found = audited(tmp_path)
    assert found.held is False
    assert found.verdict.startswith(FALSE)
    assert any(question in name for name in found.numbers["apart"]), found.numbers


def test_only_this_process_gives_a_hospital_its_noise(tmp_path: Path) -> None:
    site = hospital(tmp_path, 8)
    with site.door.drawing(lambda: insecure_entropy(1)):
        assert gate.system_entropy().marked
    assert gate.system_entropy is system_entropy
    with pytest.raises(PrivacyError, match="cannot watch"), Door(SimpleNamespace(), tmp_path).drawing(system_entropy):
        pass
