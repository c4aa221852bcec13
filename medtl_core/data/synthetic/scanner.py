"""What a hospital's equipment and habits do to a synthetic radiograph."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.synthetic.anatomy import Canvas, Image


@dataclass(frozen=True)
class Scanner:
    """One hospital's look.

    Attributes:
        share, mix: of all phantom patients, and the odds of their three classes.
        blur: Gaussian, in hundredths of the image side.
        grain: standard deviation of the quantum noise.
        heart: magnification of the heart; above 1 for films taken from the front (AP).
        marker: (x, y) of the laterality marker, and its brightness.
    """

    share: float
    mix: tuple[float, float, float]
    contrast: float
    brightness: float
    gamma: float
    blur: float
    grain: float
    vignette: float
    zoom: float
    heart: float
    marker: tuple[float, float, float]


#: Invented hospitals; none stands for a real one.
SCANNERS: Mapping[str, Scanner] = {
    "phantom-a": Scanner(0.27, (0.66, 0.24, 0.10), 1.00, 0.00, 1.00, 0.35, 0.030, 0.10, 1.00, 1.00, (0.84, -0.84, 1.0)),
    "phantom-b": Scanner(0.23, (0.18, 0.66, 0.16), 0.80, 0.10, 0.80, 0.80, 0.022, 0.00, 0.92, 1.16, (0.82, -0.72, 0.8)),
    "phantom-c": Scanner(0.20, (0.24, 0.12, 0.64), 1.15, 0.02, 1.20, 0.25, 0.055, 0.25, 1.06, 1.00, (0.86, 0.66, 0.9)),
    "phantom-d": Scanner(0.17, (0.46, 0.08, 0.46), 0.88, -0.06, 1.10, 0.60, 0.04, 0.35, 0.96, 1.10, (0.78, -0.84, 0.6)),
    "phantom-e": Scanner(0.13, (0.12, 0.48, 0.40), 1.10, 0.06, 0.90, 0.45, 0.028, 0.05, 1.10, 1.05, (0.0, 0.0, 0.0)),
}  # fmt: skip


def expose(page: Canvas, picture: Image, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns finished radiographs, uint8 [n, s, s], of pictures as drawn, float32 [n, s, s]."""
    images = len(picture)
    film = _blurred(picture + _marker(page, scanner), scanner.blur / 100 * page.size)
    contrast = scanner.contrast * np.exp(rng.normal(0, 0.06, (images, 1, 1))).astype(np.float32)
    lift = scanner.brightness + rng.normal(0, 0.025, (images, 1, 1)).astype(np.float32)
    film *= contrast
    film += 0.45 - 0.45 * contrast + lift
    np.clip(film, 0, 1, out=film)
    film **= np.float32(scanner.gamma)
    film *= 1 - scanner.vignette * (np.square(page.x) + np.square(page.y)) / 2
    film += rng.standard_normal(film.shape, dtype=np.float32) * np.float32(scanner.grain)
    film *= 255
    return np.rint(np.clip(film, 0, 255, out=film), out=film).astype(np.uint8)


def _marker(page: Canvas, scanner: Scanner) -> Image:
    """A small lead letter: an upright and a foot."""
    x, y, bright = scanner.marker
    upright = (np.abs(page.x - x) < 0.018) & (np.abs(page.y - y) < 0.06)
    foot = (np.abs(page.x - x - 0.03) < 0.04) & (np.abs(page.y - y - 0.05) < 0.018)
    return np.asarray((upright | foot) * np.float32(bright), dtype=np.float32)


def _blurred(picture: Image, sigma: float) -> Image:
    """Returns the pictures under a Gaussian of `sigma` pixels, edges repeated; sums of shifts, free of BLAS."""
    reach = max(int(2.5 * sigma + 0.5), 1)
    taps = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / max(sigma, 0.1)))
    weights = (taps / taps.sum()).astype(np.float32)
    size = picture.shape[1]
    for axis in (1, 2):
        wide = picture.take(np.arange(-reach, size + reach).clip(0, size - 1), axis=axis)
        shifts = (wide[:, at : at + size] if axis == 1 else wide[..., at : at + size] for at in range(len(weights)))
        picture = np.asarray(sum(weight * shift for weight, shift in zip(weights, shifts, strict=True)))
    return picture
