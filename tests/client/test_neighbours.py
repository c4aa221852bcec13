"""Two hospitals that differ in one patient: they open with that patient's rows between them, and nothing else."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from client.site import Site, open_site
from medtl_core.data import source as data_source
from medtl_core.errors import MedtlError, PrivacyError
from medtl_core.federation.registry import all_private_tasks
from medtl_core.privacy import patients
from medtl_core.values import Array
from tests.client.wards import ORDERS, Ward, orders, public_arrays, wards


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="medtl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("neighbours")


def opened(place: Path, ward: Ward, drawn: Mapping[str, Any], whole: bool) -> Site | type[MedtlError]:
    try:
        return open_site(orders(drawn), ward.node(place / ("whole" if whole else "rest"), whole))
    except MedtlError as error:
        return type(error)


def check(place: Path, ward: Ward, drawn: Mapping[str, Any], seed: int) -> None:
    """That one patient is between two hospitals, in every row and in every sum."""
    whole, rest = (opened(place, ward, drawn, there) for there in (True, False))
    if not isinstance(whole, Site) or not isinstance(rest, Site):
        assert whole is rest
        return
    assert whole.agreement == rest.agreement
    assert set(whole.data.label.tolist()) <= set(range(whole.data.classes))
    others = whole.data.patients != ward.gone
    for name in ("values", "label", "patients"):
        np.testing.assert_array_equal(getattr(whole.data, name)[others], getattr(rest.data, name))
    assert whole.patients is not None and rest.patients is not None
    assert sorted(whole.patients[whole.patients != ward.gone]) == sorted(rest.patients)
    rng = np.random.default_rng(seed)
    for task, arrays, config in public_arrays(rng, whole.data.values.shape[1], whole.data.classes):
        one, other = (all_private_tasks()[task](site.data, arrays, config) for site in (whole, rest))
        for name, allowed in one.sensitivity.items():
            far = float(np.linalg.norm(one.update.arrays[name] - other.update.arrays[name]))
            assert far <= allowed * (1 + 1e-6), (task, name)


def run(place: Path, count: int, phases: tuple[Phase, ...] = (Phase.generate, Phase.shrink)) -> None:
    @examples(
        max_examples=count, deadline=None, database=None, phases=phases, report_multiple_bugs=False,
        derandomize=True, suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    @given(ward=wards(), drawn=ORDERS, seed=st.integers(0, 2**32 - 1))
    def holds(ward: Ward, drawn: Mapping[str, Any], seed: int) -> None:
        check(place, ward, drawn, seed)

    holds()


def test_one_patient_is_all_that_neighbours_differ_by(place: Path) -> None:
    run(place, 50)


@pytest.mark.door
def test_one_patient_is_all_that_very_many_neighbours_differ_by(place: Path) -> None:
    run(place, 2000)


# --- a mistake of each kind, planted: the same test must see it


def _drawn(settings: Any) -> Any:
    """A quarter of the patients held out by drawing, as long as no row says which."""
    source = REAL(settings)
    held = data_source._hold_out(source)
    return data_source.replace(source, examples=held.examples.take(held.examples["split"] != "test"))


def _large(settings: Any) -> Any:
    """Classes of fewer than three cases are left out."""
    source = REAL(settings)
    label = source.examples["label"]
    return data_source.replace(source, examples=source.examples.take(np.bincount(label, minlength=9)[label] >= 3))


def _found(settings: Any) -> Any:
    """Nobody is left to train on."""
    source = REAL(settings)
    if not len(source.examples):
        raise PrivacyError("no training case left")
    return source


def _each(rows: Array, label: Array, names: Array) -> patients.Patients:
    """Every case counts as a patient."""
    return patients.by_patient(rows, label, np.arange(len(rows)).astype(str))


REAL = data_source.private_source
FAULTS = {
    "hold-out": ("client.site.private_source", _drawn),
    "min-cell": ("client.site.private_source", _large),
    "nobody left": ("client.site.private_source", _found),
    "case by case": ("medtl_core.methods.private.public_pca.by_patient", _each),
}


@pytest.mark.door
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_mistake_is_seen(place: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(*FAULTS[fault])
    with pytest.raises(AssertionError):
        run(place, 200, (Phase.generate,))
