"""Scanner styles: real images made to look as if every hospital had its own equipment.

For experiments on unseen hospitals where the data come from one hospital (docs/results.md): contrast, brightness,
gamma, blur and noise are drawn for each hospital by its name, and the test cases come from scanners no hospital has.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.images import content_key, decode, images_of
from medtl_core.data.synthetic.scanner import blurred
from medtl_core.data.views import Pixels, square
from medtl_core.errors import DataError
from medtl_core.rng import bucket, stream
from medtl_core.values import Examples

#: Scanners of the test cases; no hospital is called so.
UNSEEN = ("unseen-1", "unseen-2", "unseen-3", "unseen-4")

#: Pixels a side at which scanners work when the settings name no image size.
SIZE = 128

#: Standard deviation of the blur, in shares of the image side, for a scanner that blurs.
_BLUR = 0.018


@dataclass(frozen=True)
class Style:
    """One scanner's look, on intensities in [0, 1].

    Attributes:
        contrast: factor about the middle grey.
        brightness: added after the contrast.
        gamma: exponent of the display curve, before the contrast.
        noise: standard deviation of the noise, alike in all colours.
        blur: standard deviation of a Gaussian, in shares of the image side; 0 = sharp.
    """

    contrast: float
    brightness: float
    gamma: float
    noise: float
    blur: float


def style(name: str, seed: int) -> Style:
    """Returns the look of the scanner called `name` under a seed.

    Example:
        >>> style("hospital-1", 0) == style("hospital-1", 0) != style("hospital-2", 0)
        True
    """
    rng = stream(seed, "scanner-style", name)
    return Style(
        contrast=float(rng.uniform(0.5, 1.4)),
        brightness=float(rng.uniform(-0.2, 0.2)),
        gamma=float(np.exp(rng.uniform(-0.6, 0.6))),
        noise=float(rng.uniform(0.0, 0.08)),
        blur=_BLUR * int(rng.integers(0, 2)),
    )


def rendered(image: Pixels, look: Style, *, rng: np.random.Generator) -> Pixels:
    """Returns an image [s, s, 3] as a scanner would have shown it.

    Example:
        >>> grey = np.full((2, 2, 3), 51, dtype=np.uint8)
        >>> rendered(grey, Style(0.5, 0.1, 1.0, 0.0, 0.0), rng=stream(0))[0, 0].tolist()
        [115, 115, 115]
    """
    film = (np.asarray(image, dtype=np.float32) / np.float32(255.0)) ** np.float32(look.gamma)
    film = np.clip((film - 0.5) * np.float32(look.contrast) + np.float32(0.5 + look.brightness), 0.0, 1.0)
    if look.blur:
        film = np.moveaxis(blurred(np.moveaxis(film, 2, 0), look.blur * len(film)), 0, 2)
    film = film + np.float32(look.noise) * rng.standard_normal((*film.shape[:2], 1), dtype=np.float32)
    shown: Pixels = np.rint(np.clip(film * 255.0, 0.0, 255.0)).astype(np.uint8)
    return shown


def of_hospital(examples: Examples, name: str, settings: Settings) -> Examples:
    """Returns a hospital's cases as its own scanner shows them, or as they are without `settings.shift`."""
    return _restyled(examples, [name] * len(examples), settings) if settings.shift else examples


def of_server(examples: Examples, settings: Settings) -> Examples:
    """Returns the server's test cases as unseen scanners show them, or as they are without `settings.shift`.

    A patient has one scanner, dealt by hash; its name becomes the case's site.
    """
    if not settings.shift:
        return examples
    patients = examples["patient"]
    scanners = [UNSEEN[bucket(settings.seed, f"scanner/{patient}", len(UNSEEN))] for patient in patients]
    return _restyled(examples, scanners, settings)


def _restyled(examples: Examples, scanners: Sequence[str], settings: Settings) -> Examples:
    """An image's noise depends on the seed, the scanner and the image alone, so that features are cached as ever."""
    images = images_of(examples)
    if images is None:
        raise DataError("the cases hold a table; shift=scanner needs images")
    size, seed = settings.image_size or SIZE, settings.seed
    films = np.zeros((len(examples), size, size, 3), dtype=np.uint8)
    for index, (image, name) in enumerate(zip(images, scanners, strict=True)):
        rng = stream(seed, "scanner-noise", name, content_key(image))
        films[index] = rendered(square(decode(image), size), style(name, seed), rng=rng)
    kept = {name: values for name, values in examples.columns.items() if name not in ("path", "image")}
    return Examples({**kept, "site": np.asarray(scanners, dtype=str), "image": films}, examples.task)
