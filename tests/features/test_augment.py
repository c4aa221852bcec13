"""Augmentation: what each modality allows, what is drawn and what is left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.config import Settings
from medtl_core.data.catalog import catalog
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.augment import (
    OFF,
    RECIPES,
    Augmentation,
    augment,
    augment_many,
    augmented_features,
    recipe_for,
)
from medtl_core.features.dataset import Material
from medtl_core.values import Examples, Task

RAMP = np.stack([np.add.outer(np.arange(32), 3 * np.arange(32)).astype(np.uint8)] * 3, axis=2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_image_set_has_a_recipe_and_grey_values_that_carry_meaning_are_left_alone() -> None:
    for entry in catalog().values():
        if entry.modality != "table":
            made = recipe_for(entry.modality, entry.views)
            assert set(made.mirrors) | {"identity"} == set(entry.views)
    for modality, recipe in RECIPES.items():
        if "X-ray" in modality or "CT" in modality.split(",")[0].split():
            assert (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue) == (0, 0, 0, 0), modality
    assert recipe_for("abdominal CT, axial", ("identity",)).mirrors == ()  # left and right kidney are classes
    assert RECIPES["not stated"] == Augmentation(crop=0.05)


def test_off_returns_the_same_pixels_in_its_own_memory_and_mirrors_only_mirror() -> None:
    made = augment(RAMP, OFF, rng=rng())
    np.testing.assert_array_equal(made, RAMP)
    assert not np.shares_memory(made, RAMP)
    recipe = Augmentation(mirrors=("flip-h", "transpose"))
    found = {augment(RAMP, recipe, rng=rng(seed)).tobytes() for seed in range(40)}
    wanted = (RAMP, RAMP[:, ::-1], RAMP.swapaxes(0, 1), RAMP[:, ::-1].swapaxes(0, 1))
    assert found == {np.ascontiguousarray(image).tobytes() for image in wanted}


def test_a_crop_shows_nothing_but_the_image() -> None:
    """A ramp stays a ramp, of a smaller slope and within its own range: no border is invented."""
    for seed in range(20):
        made = augment(RAMP, Augmentation(crop=0.5), rng=rng(seed)).astype(int)
        assert made.min() >= RAMP.min() and made.max() <= RAMP.max()
        inner = np.diff(made[3:-3, 3:-3, 0], axis=1)
        assert inner.min() >= 0 and inner.mean() <= 3.01


def test_a_rotation_turns_about_the_middle_and_shows_no_border_of_another_colour() -> None:
    flat, image = np.full((32, 32, 3), 90, np.uint8), np.zeros((33, 33, 3), np.uint8)
    image[16, :] = 255
    slopes = []
    for seed in range(10):
        np.testing.assert_array_equal(augment(flat, Augmentation(angle=20, crop=0.2), rng=rng(seed)), flat)
        made = augment(image, Augmentation(angle=30), rng=rng(seed))[:, :, 0].astype(float)
        assert made[16, 16] > 200
        slopes.append(np.polyfit(np.arange(4, 29), made.argmax(axis=0)[4:-4], 1)[0])
    assert min(slopes) < -0.1 and max(slopes) > 0.1  # either way
    assert np.abs(slopes).max() < np.tan(np.radians(30)) + 0.05


@pytest.mark.parametrize("field", ["brightness", "contrast", "saturation", "hue"])
def test_colours_change_where_allowed(field: str) -> None:
    image = rng().integers(30, 200, (16, 16, 3), dtype=np.uint8)
    changed = [augment(image, replace(OFF, **{field: 0.3}), rng=rng(seed)) for seed in range(5)]
    assert len({made.tobytes() for made in changed}) == 5
    if field == "brightness":
        factors = [made.mean() / image.mean() for made in changed]
        assert 0.69 < min(factors) < max(factors) < 1.31


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(RECIPES)), st.integers(0, 10**6), st.integers(8, 40))
def test_shape_type_and_repeatability(modality: str, seed: int, size: int) -> None:
    recipe = recipe_for(modality, ("identity", "flip-h", "flip-v", "transpose"))
    image = rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    image.flags.writeable = False
    first, second = (augment(image, recipe, rng=rng(seed)) for _ in range(2))
    assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


def test_each_image_has_draws_of_its_own() -> None:
    recipe = recipe_for("dermoscopy", ("identity", "flip-h"))
    made = augment_many(np.stack([RAMP, RAMP]), recipe, rng=rng())
    assert (made[0] != made[1]).any()
    assert augment_many(np.zeros((0, 4, 4, 3), np.uint8), recipe, rng=rng()).shape == (0, 4, 4, 3)


def material(cache: str, cases: int = 3) -> Material:
    images = rng(5).integers(0, 256, (cases, 40, 36, 3), dtype=np.uint8)
    columns = {"image": images, "label": np.arange(cases) % 2}
    chosen = Settings(backbone="random:squeezenet1_1", features="plain", image_size=64, cache=cache)
    return Material(Examples(columns, Task("t", ("x", "y"))), chosen, ("identity", "flip-h"), 0, "chest X-ray")


def test_augmented_features_live_in_the_agreed_space(tmp_path: Path) -> None:
    cases = material(str(tmp_path))
    agreed, made = cases.features(), augmented_features(cases, 2, seed=0)
    assert (made.fingerprint, made.groups) == (agreed.fingerprint, agreed.groups)
    assert made.values.shape == agreed.values.shape
    np.testing.assert_array_equal(augmented_features(cases, 2, seed=0).values, made.values)  # from the cache
    alone = augmented_features(cases.take(np.array([1])), 2, seed=0)
    np.testing.assert_array_equal(alone.values[0], made.values[1])
    uncached = augmented_features(replace(cases, settings=cases.settings.replace(cache="off")), 2, seed=0)
    np.testing.assert_allclose(uncached.values, made.values, rtol=1e-6)
    assert (augmented_features(cases, 2, seed=1).values != made.values).any()
    still = augmented_features(cases, 3, seed=0, recipe=OFF)
    np.testing.assert_allclose(still.values, cases.features(views="one").values, rtol=1e-5)


@pytest.mark.parametrize(
    ("modality", "view", "words"),
    [
        ("dermoscopi", "identity", "did you mean 'dermoscopy'"),
        ("table", "identity", "'table'"),
        ("dermoscopy", "flip", "view 'flip'"),
    ],
)
def test_unknown_modalities_and_views_are_refused(modality: str, view: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        recipe_for(modality, (view,))


def test_no_copy_and_no_image_are_refused(tmp_path: Path) -> None:
    cases = material(str(tmp_path))
    with pytest.raises(ConfigError, match="at least 1"):
        augmented_features(cases, 0, seed=0)
    table = replace(cases, examples=Examples({"table": np.zeros((2, 3))}, Task("t", ("x", "y"))))
    with pytest.raises(DataError, match="no images"):
        augmented_features(table, 1, seed=0)
