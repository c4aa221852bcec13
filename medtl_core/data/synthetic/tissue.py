"""Synthetic tiles of stained tissue from invented laboratories; no patient stands behind them.

A cartoon of haematoxylin and eosin: nuclei and ground take light by the law of Beer and Lambert. Results on it say
nothing about medicine.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import catalog
from medtl_core.data.synthetic.anatomy import Canvas, Image, canvas
from medtl_core.errors import ConfigError
from medtl_core.rng import stream
from medtl_core.values import Examples

#: Tiles of a patient, and test patients of a laboratory.
TILES, TEST = 2, 15
#: Nuclei of each class: bumps of a smooth field a side, and how far above its mean a nucleus begins.
_NUCLEI = ((13.0, 1.15), (9.0, 0.55), (21.0, 0.85))


@dataclass(frozen=True)
class Laboratory:
    """How one laboratory stains and scans.

    Attributes:
        mix: odds of the three classes.
        stains: optical densities (red, green, blue) of haematoxylin and of eosin.
        strength: of both stains.
        light: of the lamp, by colour.
        grain: standard deviation of the noise, of 255.
    """

    mix: tuple[float, float, float]
    stains: tuple[tuple[float, float, float], tuple[float, float, float]]
    strength: tuple[float, float]
    light: tuple[float, float, float]
    grain: float


#: Invented laboratories; none stands for a real one.
LABORATORIES: Mapping[str, Laboratory] = {
    "tissue-a": Laboratory((0.5, 0.3, 0.2), ((0.65, 0.70, 0.29), (0.07, 0.99, 0.11)), (1.3, 0.7), (243, 241, 244), 3.0),
    "tissue-b": Laboratory((0.2, 0.5, 0.3), ((0.55, 0.75, 0.36), (0.20, 0.92, 0.33)), (1.0, 1.0), (236, 230, 240), 5.0),
    "tissue-c": Laboratory((0.3, 0.2, 0.5), ((0.74, 0.61, 0.27), (0.05, 0.95, 0.30)), (1.6, 0.5), (248, 246, 238), 2.0),
    "tissue-d": Laboratory((0.3, 0.4, 0.3), ((0.60, 0.72, 0.34), (0.13, 0.90, 0.42)), (0.8, 1.2), (230, 236, 238), 7.0),
}


def tissue(seed: int = 0, size: int = 128, trained: int = 40) -> Examples:
    """Returns synthetic tiles: quiet (few nuclei), crowded (large ones, close together), inflamed (many small ones).

    Every patient has `TILES` tiles, uint8 [size, size, 3], of one class. A set with more patients holds the
    smaller one, and has the same test patients.

    Args:
        seed: of everything drawn.
        size: pixels a side.
        trained: training patients of each laboratory.

    Raises:
        ConfigError: `size` is below 32, or there is no patient.
    """
    if size < 32 or trained < 1:
        raise ConfigError(f"{trained} patients and {size} px are too small for tissue: at least 1 and 32 px")
    page, splits = canvas(size), ["test"] * TEST + ["train"] * trained
    owners = [(name, number) for name in LABORATORIES for number in range(len(splits))]
    drawn = [_patient(page, LABORATORIES[name], stream(seed, "tissue", name, number)) for name, number in owners]
    columns = {
        "label": np.repeat([label for label, _ in drawn], TILES).astype(np.int64),
        "patient": np.repeat([f"{name}-{number:05d}" for name, number in owners], TILES),
        "site": np.repeat([name for name, _ in owners], TILES),
        "split": np.repeat([splits[number] for _, number in owners], TILES),
        "image": np.concatenate([tiles for _, tiles in drawn]),
    }
    return Examples(columns, catalog()["tissue"].task)


def _patient(page: Canvas, place: Laboratory, rng: np.random.Generator) -> tuple[int, NDArray[np.uint8]]:
    """A patient's class and tiles."""
    label = int(rng.choice(len(place.mix), p=place.mix))
    cells, level = _NUCLEI[label]
    cells, level = cells * np.exp(rng.normal(0, 0.18)), level + rng.normal(0, 0.22)
    nuclei = _step(2.5 * (page.noise(rng, TILES, round(cells)) - level)) * (1 + 0.25 * page.noise(rng, TILES, 40))
    ground = 0.75 + 0.2 * page.noise(rng, TILES, 5) + 0.5 * np.maximum(1 - 2 * np.abs(page.noise(rng, TILES, 11)), 0)
    empty = _step(4 * (page.noise(rng, TILES, 4) - 1.5))  # vessels and tears
    held = np.stack([nuclei + 0.08, ground * (1 - 0.6 * np.minimum(nuclei, 1))], axis=-1) * (1 - empty)[..., None]
    dye = np.asarray(place.strength) * np.exp(rng.normal(0, 0.08, 2))
    light = np.asarray(place.light) * np.exp(-(np.maximum(held, 0) * dye) @ np.asarray(place.stains))
    light += rng.normal(0, place.grain, light.shape)
    return label, np.clip(np.rint(light), 0, 255).astype(np.uint8)


def _step(value: Image) -> Image:
    return np.clip(value + 0.5, 0, 1)
