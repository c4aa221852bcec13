"""Methods on blended features: what is averaged, that both sides average alike, and that the base is the base."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.features.augment import augmented_features
from medtl_core.features.dataset import Material
from medtl_core.federation.memory import MemoryHospitals
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, find_method, read_methods, unpack
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.models.augmented import blended
from medtl_core.values import Examples, Task

CHOSEN = Settings(backbone="random:squeezenet1_1", features="3", image_size=32, local_epochs=1)
VIEWS = ("identity", "flip-h")


def cases(count: int, seed: int) -> Material:
    """Two classes that differ in brightness."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % 2
    images = rng.integers(0, 120, (count, 32, 32, 3)) + 120 * label[:, None, None, None]
    columns = {"image": images.astype(np.uint8), "label": label}
    return Material(Examples(columns, Task("t", ("x", "y"))), CHOSEN, VIEWS, 0, "chest X-ray")


def site(name: str, count: int, seed: int) -> SiteData:
    material = cases(count, seed)
    values, label = material.features().values, material.examples["label"]
    patients = np.array([f"{name}-{number}" for number in range(count)])
    return SiteData(name, values, label, patients, values[:0], label[:0], patients[:0], 2, 0, material)


@pytest.fixture(scope="module")
def hospitals() -> MemoryHospitals:
    return MemoryHospitals([site("a", 8, 1), site("b", 7, 2)])


def study(hospitals: MemoryHospitals, names: str) -> Study:
    spec = cases(2, 0).features()
    return Study(hospitals, Problem(("x", "y"), spec.fingerprint, spec.groups, VIEWS), CHOSEN, read_methods(names))


def model_of(hospitals: MemoryHospitals, name: str) -> Any:
    return study(hospitals, name).outcome(find_method(name)).heads[""]


def test_views_and_pictures_count_alike() -> None:
    material = cases(3, 0)
    agreed, drawn = material.features().values, augmented_features(material, 4, seed=0).values
    np.testing.assert_allclose(blended(agreed, material, 4), (2 * agreed + 4 * drawn) / 6, rtol=1e-5)


def test_the_discriminant_on_blended_features(hospitals: MemoryHospitals) -> None:
    """The same head comes from hospitals whose agreed features are the blended ones."""
    model = model_of(hospitals, "discriminant-augmented-2")
    ready = [replace(one, values=blended(one.values, one.material, 2)) for one in hospitals.sites.values()]  # type: ignore[arg-type]
    head = model_of(MemoryHospitals(ready), "discriminant")
    np.testing.assert_array_equal(model.weight, head.weight)
    new = cases(6, 9)
    values = new.features().values
    np.testing.assert_allclose(model.logits(values, new), head.logits(blended(values, new, 2)), rtol=1e-9, atol=1e-9)
    assert (model.logits(values, new).argmax(1) == new.examples["label"]).mean() >= 5 / 6
    assert model.facts["base"] == "discriminant" and model.facts["copies"] == 2


def test_the_bill_names_its_own_phases() -> None:
    hospitals = MemoryHospitals([site("a", 6, 1), site("b", 6, 2)])
    bill = study(hospitals, "discriminant-augmented-2").outcome(find_method("discriminant-augmented-2")).bill
    assert set(bill) == {"statistics-augmented-2", "validate-augmented-2"} == set(hospitals.costs)


@pytest.mark.parametrize("name", ["discriminant-augmented-0", "local-augmented-8", "fedavg-5-augmented-2"])
def test_what_cannot_be_augmented_has_no_name(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown method"):
        find_method(name)


def test_bad_input_is_one_clear_error(hospitals: MemoryHospitals) -> None:
    model = model_of(hospitals, "discriminant-augmented-2")
    with pytest.raises(DataError, match="needs the images"):
        model.logits(np.zeros((1, model.weight.shape[1])))
    with pytest.raises(DataError, match="'a' holds features only"):
        answer("augmented_statistics", replace(site("a", 2, 0), material=None), {}, {"copies": 2, "folds": 2})
    with pytest.raises(WeightsError, match="do not fit"):
        unpack("augmented", replace(model.pack(), config={"copies": 0}))
