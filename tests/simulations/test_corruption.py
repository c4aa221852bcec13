"""Corruptions: severity 0 is the image, more severity is more distortion, form and type are kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.data.catalog import catalog
from medtl_core.data.views import Pixels
from medtl_core.errors import ConfigError, DataError
from simulations.corruption import CORRUPTIONS, RELEVANT, SEVERITIES, corrupt, relevant


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def picture(seed: int, size: int = 96) -> Pixels:
    """Smooth blobs with fine texture: what blurs, compression and windows act on in a real image."""
    draw, (y, x) = rng(seed), np.mgrid[:size, :size] / size
    layers = []
    for _ in range(3):
        blobs = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / draw.uniform(0.01, 0.1)) for a, b in draw.random((6, 2))]
        base = np.sum(blobs, axis=0)
        layers.append(base / base.max() * 150 + 20 * np.sin(60 * x + draw.random()) + 50)
    image = np.stack(layers, axis=2) + 6 * draw.standard_normal((size, size, 1))
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_more_severity_is_more_distortion_and_draws_repeat(name: str, seed: int) -> None:
    images, means = [picture(seed + number) for number in range(3)], []
    for severity in (0, *SEVERITIES):
        first, again = ([corrupt(image, name, severity, rng=rng(seed)) for image in images] for _ in range(2))
        np.testing.assert_array_equal(first, again)
        means.append(((np.array(first, float) - images) ** 2).mean())
    assert means[0] == 0 < means[1]
    assert (np.diff(means) >= 0).all(), means


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(sorted(CORRUPTIONS)), st.sampled_from((0, *SEVERITIES)), st.integers(1, 40), st.integers(1, 40))
def test_shape_and_type_are_kept_and_grey_stays_grey(name: str, severity: int, height: int, width: int) -> None:
    image = rng().integers(0, 256, (height, width, 1), dtype=np.uint8).repeat(3, axis=2)
    image.flags.writeable = False
    made = corrupt(image, name, severity, rng=rng())
    assert made.shape == image.shape and made.dtype == np.uint8 and made.flags.writeable
    assert name in ("jpeg", "stain") or (made == made[:, :, :1]).all()


def test_amounts_by_hand() -> None:
    flat = np.full((8, 8, 3), 100, np.uint8)
    moved = {"brightness-up": 150, "brightness-down": 50, "gamma-up": round(255 * (100 / 255) ** 1.8)}
    still = ("contrast-down", "saturate", "gaussian-blur", "defocus-blur", "motion-blur")
    for name, value in {**moved, **dict.fromkeys(still, 100)}.items():
        assert set(corrupt(flat, name, 5, rng=rng()).ravel()) == {value}, name
    half = np.repeat([[0], [200]], 4, axis=0)[:, :, None].repeat(8, axis=1).repeat(3, axis=2).astype(np.uint8)
    assert set(corrupt(half, "contrast-down", 5, rng=rng()).ravel()) == {60, 140}  # 100 -+ 0.4 * 100


def test_noise_has_the_stated_size() -> None:
    flat = np.full((200, 200, 3), 128, np.uint8)
    wanted = {"gaussian-noise": 255 * 0.04, "speckle-noise": 128 * 0.1, "shot-noise": 128 / np.sqrt(100 * 128 / 255)}
    for name, deviation in wanted.items():
        assert corrupt(flat, name, 1, rng=rng()).std() == pytest.approx(deviation, rel=0.03), name
    dead = corrupt(flat, "impulse-noise", 3, rng=rng())
    assert np.isin(dead, [0, 255]).mean() == pytest.approx(0.06, rel=0.1)


def test_every_image_set_of_the_catalog_has_corruptions_that_exist() -> None:
    for entry in catalog().values():
        if entry.modality not in ("table", "notes", "electrocardiogram", "vibration"):
            assert set(relevant(entry.modality)) <= set(CORRUPTIONS)
    assert {name for names in RELEVANT.values() for name in names} == set(CORRUPTIONS)


def test_bad_input_is_one_clear_error() -> None:
    image = picture(0)
    with pytest.raises(ConfigError, match="did you mean 'pixelate'"):
        corrupt(image, "pixelated", 1, rng=rng())
    for severity in (-1, 6):
        with pytest.raises(ConfigError, match="from 0 to 5"):
            corrupt(image, "jpeg", severity, rng=rng())
    for wrong in (image[:, :, 0], image.astype(float), image[:0], image[:, :, :2]):
        with pytest.raises(DataError, match=r"uint8 \[h, w, 3\]"):
            corrupt(wrong, "jpeg", 1, rng=rng())
    with pytest.raises(ConfigError, match="did you mean 'dermoscopy'"):
        relevant("dermatoscopy")
