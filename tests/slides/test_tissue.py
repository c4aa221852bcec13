"""Tissue, stains and the built-in set, against literal answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.data.leak import check_leaks
from medtl_core.data.synthetic.tissue import LABORATORIES, TEST, TILES, tissue
from medtl_core.data.views import VIEWS
from medtl_core.errors import ConfigError, DataError
from medtl_core.slides.stain import DENSEST, REFERENCE, concentrations, normalised_stain, stain_vectors
from medtl_core.slides.tissue import otsu, places, tissue_mask
from medtl_core.values import Examples
from simulations import slides

#: Of Ruifrok and Johnston (2001): haematoxylin and eosin.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])
OTHER = np.array([[0.55, 0.76, 0.35], [0.20, 0.92, 0.33]])


def stained(stains: np.ndarray, seed: int = 0, strength: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 [64, 64, 3] of known stains, and how much of each every pixel holds, [2, 4096]."""
    rng = np.random.default_rng(seed)
    held = rng.uniform(0.3, 1.4, (2, 4096)) * strength
    held[0, :1500] = 0  # ground without nuclei
    held[1, 1500:3000] = 0
    unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    return np.rint(np.clip(240 * np.exp(-held.T @ unit) - 1, 0, 255)).astype(np.uint8).reshape(64, 64, 3), held


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=2, max_size=30))
def test_otsu_is_the_split_of_least_variance_within(values: list[int]) -> None:
    level, data = otsu(np.asarray(values, np.uint8)), np.asarray(values, float)

    def within(at: int) -> float:
        parts = [part for part in (data[data <= at], data[data > at]) if len(part)]
        return sum(len(part) * part.var() for part in parts)

    assert within(level) == pytest.approx(min(within(at) for at in range(256)), abs=1e-6)


def test_the_mask_is_where_colour_is_and_glass_is_none() -> None:
    picture = np.full((40, 50, 3), 240, np.uint8)
    picture[10:30, 5:25] = [200, 90, 150]
    expected = np.zeros((40, 50), bool)
    expected[10:30, 5:25] = True
    np.testing.assert_array_equal(tissue_mask(picture), expected)
    assert not tissue_mask(np.random.default_rng(0).integers(238, 243, (40, 50, 3)).astype(np.uint8)).any()


def test_places_are_spread_and_follow_the_tissue() -> None:
    mask = np.zeros((160, 160), bool)
    mask[:, 80:] = True
    chosen = places(mask, 16.0, 16.0, 32)
    assert len(set(chosen)) == 32 and {column >= 8 for column, _ in chosen} == {True}
    counts = np.histogram2d(*zip(*chosen, strict=True), bins=[[8, 12, 16], [0, 4, 8, 12, 16]])[0]
    assert counts.min() == counts.max() == 4
    assert len(places(mask, 3.9, 2.5, 32)) == 2  # of columns 0, 1, 2 the last is tissue; a rest is no tile
    for empty, across, cause in ((~mask & mask, 16.0, "no tissue"), (mask, 0.9, "smaller")):
        with pytest.raises(DataError, match=cause):
            places(empty, across, 16.0, 32)


@pytest.mark.parametrize("stains", [STAINS, OTHER])
def test_known_stains_are_found(stains: np.ndarray) -> None:
    picture, held = stained(stains)
    found = stain_vectors(picture)
    assert found is not None
    unit = stains / np.linalg.norm(stains, axis=1, keepdims=True)
    assert np.degrees(np.arccos(np.clip((found * unit).sum(axis=1), -1, 1))).max() < 2
    np.testing.assert_allclose(concentrations(picture, unit), held, atol=0.06)


def test_two_laboratories_become_alike_and_have_the_reference_stains() -> None:
    one, _ = stained(STAINS, strength=1.3)
    two, _ = stained(OTHER, strength=0.8)
    before = np.abs(one.astype(float) - two).mean()
    after = np.abs(normalised_stain(one).astype(float) - normalised_stain(two)).mean()
    assert before > 20 and after < 5
    found = stain_vectors(normalised_stain(one))
    assert found is not None
    np.testing.assert_allclose(found, REFERENCE / np.linalg.norm(REFERENCE, axis=1, keepdims=True), atol=0.03)
    densest = np.percentile(concentrations(normalised_stain(one), REFERENCE), 99, axis=1)
    np.testing.assert_allclose(densest, DENSEST, rtol=0.1)


def test_what_has_no_two_stains_stays_as_it_is() -> None:
    for picture in (np.full((32, 32, 3), 240, np.uint8), np.full((32, 32, 3), [120, 80, 140], np.uint8)):
        np.testing.assert_array_equal(VIEWS["macenko"](picture), picture)


def test_the_built_in_tissue() -> None:
    made, more = tissue(size=32, trained=4), tissue(size=32, trained=6)
    assert made["image"].shape == (len(LABORATORIES) * (TEST + 4) * TILES, 32, 32, 3)
    held, again = (
        {(name, tile.tobytes()) for name, tile in zip(each["patient"], each["image"], strict=True)}
        for each in (made, more)
    )
    assert held < again and not held & {("x", tile.tobytes()) for tile in tissue(1, 32, 4)["image"]}
    check_leaks(made, {split: np.flatnonzero(made["split"] == split) for split in ("train", "test")})
    np.testing.assert_array_equal(np.unique(made["label"]), [0, 1, 2])
    colour = [made["image"][made["site"] == name].mean(axis=(0, 1, 2)) for name in LABORATORIES]
    assert min(np.abs(a - b).max() for i, a in enumerate(colour) for b in colour[:i]) > 5
    for wrong in ({"size": 16}, {"trained": 0}):
        with pytest.raises(ConfigError, match="too small"):
            tissue(**wrong)


def test_a_made_slide_has_as_many_telling_tiles_as_asked_of_its_own_laboratory_and_split() -> None:
    label = np.arange(24) % 3
    columns = {
        "label": label,
        "site": np.repeat(["tissue-a", "tissue-b"], 12),
        "split": np.tile(["train", "train", "train", "test", "test", "test"], 4),
        "image": np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None], (24, 256, 256, 3)),
    }
    tiles = Examples(columns, tissue(size=32, trained=1).task)
    for telling in (0, 1, 12):
        slide = slides.drawn(tiles, "tissue-b", "test", telling, np.random.default_rng(0))
        assert slide.shape == (768, 1024, 3)
        shown = slide[::256, ::256, 0].ravel()
        assert set(shown) <= {15, 16, 17, 21, 22, 23}
        assert (label[shown] == 2).sum() == telling
