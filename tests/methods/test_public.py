"""Public images give scale and directions; rows have length one whatever these are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.features.extract import feature_spec
from medtl_core.federation.outcome import Problem
from medtl_core.federation.study import Study
from medtl_core.methods.private import public_pca as public
from medtl_core.methods.private.public_pca import own_patients, photographs, public_map
from medtl_core.privacy.patients import PublicMap
from simulations.memory import MemoryHospitals
from tests.memory import make_site
from tests.methods.exact_hospitals import exact_study

SMALL = Settings(image_size=32, features="4", privacy="auto", public_images="phantom", public_cases=4)


def study(**changes: object) -> Study:
    settings = SMALL.replace(**changes)
    spec = feature_spec(settings, ("identity",))
    return Study(MemoryHospitals([]), Problem(("a", "b"), spec.fingerprint, spec.groups), settings, ())


@given(seed=st.integers(0, 2**32 - 1), length=st.sampled_from([1e-20, 1.0, 1e20]))
def test_rows_have_length_one_whatever_the_map(seed: int, length: float) -> None:
    rng = np.random.default_rng(seed)
    map_ = PublicMap(rng.standard_normal(4), rng.uniform(1e-3, 1e3, 4), length * rng.standard_normal((4, 3)))
    norms = np.linalg.norm(map_.rows(rng.standard_normal((5, 4)) * 1e3), axis=1)
    assert (norms <= 1 + 1e-12).all()
    again = PublicMap.received(map_.arrays)
    assert all(again.arrays[name].tobytes() == array.tobytes() for name, array in map_.arrays.items())


def test_a_case_at_the_public_mean_is_a_zero_row() -> None:
    assert PublicMap(np.ones(2), np.ones(2), np.eye(2)).rows(np.ones((1, 2))).tolist() == [[0.0, 0.0]]


def test_a_patients_cases_are_one_row() -> None:
    site = make_site("a", 4, width=2, classes=2)
    site.values[:] = [[2.0, 0.0], [0.0, 3.0], [5.0, 0.0], [-1.0, 0.0]]
    site.label[:] = [0, 1, 1, 0]
    site.patients[:] = ["a-0", "a-0", "a-0", "a-3"]
    own = own_patients(site, PublicMap(np.zeros(2), np.ones(2), np.eye(2)).arrays)
    np.testing.assert_allclose(own.rows, [[2 / 3, 1 / 3], [-1.0, 0.0]], atol=1e-12)
    assert own.label.tolist() == [1, 0]


def test_photographs_are_the_same_every_time() -> None:
    first, second = photographs(patches=6), photographs(patches=6)
    assert first["image"].shape == (6, 224, 224, 3)
    assert first["image"].tobytes() == second["image"].tobytes()
    assert len({picture.tobytes() for picture in first["image"]}) == 6


def test_a_table_needs_no_public_images() -> None:
    known = exact_study("private-mean")
    map_ = public_map(known, 100)
    assert known.hospitals.asked == []  # type: ignore[attr-defined]
    assert (map_.mean.tolist(), map_.scale.tolist()) == ([0.0] * 6, [1.0] * 6)
    assert map_.basis.tolist() == np.eye(6).tolist()


def test_directions_are_orthonormal_cut_to_size_and_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = study()
    values = np.random.default_rng(0).standard_normal((30, made.problem.width)).astype(np.float32)
    monkeypatch.setattr(public, "_features", lambda settings, views: values)
    map_ = public_map(made, 7)
    assert map_.basis.shape == (made.problem.width, 7)
    np.testing.assert_allclose(map_.basis.T @ map_.basis, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(map_.mean, values.mean(axis=0, dtype=np.float64))
    np.testing.assert_allclose(map_.scale, values.std(axis=0, dtype=np.float64), rtol=1e-5)
    monkeypatch.setattr(public, "_read", lambda study: pytest.fail("made twice"))
    assert public_map(made, 3).basis.tolist() == map_.basis[:, :3].tolist()
    assert public_map(made, 10_000).basis.shape[1] == 30  # no more directions than images


def test_public_images_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither photos, phantom nor a folder"):
        public_map(study(public_images="nowhere"), 5)
    for number in range(2):
        folder = tmp_path / f"class{number}"
        folder.mkdir()
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    assert public_map(study(public_images=str(tmp_path)), 5).basis.shape[1] <= 2
