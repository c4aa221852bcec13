"""Robustness figures by hand, corrupted cases, and that nothing else of a case changes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.dataset import Material
from medtl_core.values import Examples, Task
from simulations.corrupted_heads import CLEAN, Cell, cells, corrupted, robustness
from simulations.corruption import RELEVANT

OURS: dict[Cell, float] = {CLEAN: 0.9, ("jpeg", 1): 0.8, ("jpeg", 5): 0.6, ("stain", 1): 0.9, ("stain", 5): 0.7}
THEIRS: dict[Cell, float] = {CLEAN: 0.8, ("jpeg", 1): 0.6, ("jpeg", 5): 0.4, ("stain", 1): 0.8, ("stain", 5): 0.8}


def material(cases: int = 3, column: str = "image", folder: Path | None = None) -> Material:
    images = np.random.default_rng(0).integers(0, 256, (cases, 40, 36, 3), dtype=np.uint8)
    columns = {"label": np.arange(cases) % 2, "patient": np.array([f"p{number}" for number in range(cases)])}
    if column == "image":
        columns["image"] = images
    else:
        from PIL import Image

        assert folder is not None
        paths = [folder / f"{number}.png" for number in range(cases)]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        columns["path"] = np.array([str(path) for path in paths])
    chosen = Settings(backbone="random:squeezenet1_1", features="plain", image_size=32)
    return Material(Examples(columns, Task("t", ("x", "y"))), chosen, ("identity",), 0, "dermoscopy")


def test_the_figures_by_hand() -> None:
    found = robustness(OURS, THEIRS)
    assert found.clean == 0.9
    assert found.corrupted == pytest.approx((0.7 + 0.8) / 2)
    assert found.drop == pytest.approx(0.15 / 0.9)
    assert found.be == pytest.approx((0.3 / 0.5 + 0.2 / 0.2) / 2)
    assert found.rbe == pytest.approx((0.3 - 0.1 + 0.2 - 0.1) / (0.5 - 0.2 + 0.2 - 0.2))


def test_the_reference_is_one_and_a_reference_that_loses_nothing_has_no_ratio() -> None:
    same = robustness(THEIRS, THEIRS)
    assert (same.be, same.rbe) == pytest.approx((1.0, 1.0))
    unharmed = dict.fromkeys(OURS, 1.0)
    found = robustness(OURS, unharmed)
    assert np.isnan(found.be) and np.isnan(found.rbe) and found.corrupted == pytest.approx(0.75)


@pytest.mark.parametrize("other", [{CLEAN: 0.5}, {CLEAN: 0.5, ("jpeg", 1): 0.5}, {("jpeg", 1): 0.5}])
def test_only_the_same_cells_compare(other: dict[Cell, float]) -> None:
    with pytest.raises(DataError, match="same cells"):
        robustness(OURS, other)
    with pytest.raises(DataError, match="same cells"):
        robustness({CLEAN: 0.5}, {CLEAN: 0.5})


def test_cells_are_clean_and_every_relevant_corruption() -> None:
    found = cells("chest X-ray", (1, 3, 5))
    assert found[0] == CLEAN and len(found) == 1 + 3 * len(RELEVANT["chest X-ray"]) == len(set(found))
    for severities in ((), (0,), (6,), (1, 1)):
        with pytest.raises(ConfigError, match="severities"):
            cells("dermoscopy", severities)
    with pytest.raises(ConfigError, match="modality 'table'"):
        cells("table", (1,))


@pytest.mark.parametrize("column", ["image", "path"])
def test_corrupted_cases_are_the_same_cases_with_other_images(tmp_path: Path, column: str) -> None:
    cases = material(column=column, folder=tmp_path)
    made = corrupted(cases, ("gaussian-noise", 3), seed=0)
    assert made.examples["image"].shape == (3, 32, 32, 3) and "path" not in made.examples.columns
    assert made.examples["patient"].tolist() == cases.examples["patient"].tolist()
    assert made.settings.cache == "off" and made.features().fingerprint == cases.features().fingerprint
    difference = made.examples["image"].astype(float) - cases.pixels(32)
    assert 20 < difference.std() < 40  # 0.12 of 255, clipped at black and white
    again = corrupted(cases.take(np.array([2])), ("gaussian-noise", 3), seed=0)
    np.testing.assert_array_equal(again.examples["image"][0], made.examples["image"][2])
    other = corrupted(cases, ("gaussian-noise", 3), seed=1)
    assert (other.examples["image"] != made.examples["image"]).any()


def test_clean_cases_are_left_alone() -> None:
    cases = material()
    assert corrupted(cases, CLEAN, seed=0) is cases


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'jpeg'"):
        corrupted(material(), ("jpg", 1), seed=0)
    table = replace(material(), examples=Examples({"table": np.zeros((2, 3))}, Task("t", ("x", "y"))))
    with pytest.raises(DataError, match="no images"):
        corrupted(table, ("jpeg", 1), seed=0)
