"""Images as a worse machine, hand or cable would have made them: what a classifier should survive.

After MedMNIST-C (Di Salvo, Doerrich, Ledig 2024, arXiv:2406.17536) and ImageNet-C (Hendrycks, Dietterich, ICLR 2019):
corruptions that occur in a modality, each in five severities. Written anew from those papers, with one scale of
severities for all data sets and lengths as shares of the image's side, so figures are comparable with each other and
not with the papers'.
"""

import io
from collections.abc import Callable, Mapping

import numpy as np

from medtl_core.data.views import Pixels
from medtl_core.errors import ConfigError, DataError, did_you_mean
from medtl_core.heads.statistics import Float

#: From slight to severe; 0 is the image itself.
SEVERITIES = (1, 2, 3, 4, 5)

#: Image float [h, w, 3] in 0..255, amount, draws -> the changed image, not yet rounded or clipped.
Change = Callable[[Float, float, np.random.Generator], Float]


def corrupt(image: Pixels, name: str, severity: int, *, rng: np.random.Generator) -> Pixels:
    """Returns a corrupted image of the same shape; with equal draws, higher severities differ only in the amount.

    Raises:
        ConfigError: no such corruption or severity.
        DataError: the image is not uint8 [h, w, 3].
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"corruption {name!r} is not known; {did_you_mean(name, CORRUPTIONS)}")
    if severity not in (0, *SEVERITIES):
        raise ConfigError(f"severity={severity} must be a whole number from 0 to {SEVERITIES[-1]}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise DataError(f"a corruption needs an image uint8 [h, w, 3], not {image.dtype} {image.shape}")
    if not severity:
        return image.copy()
    change, amounts = CORRUPTIONS[name]
    changed = change(image.astype(np.float64), amounts[severity - 1], rng)
    return np.asarray(np.clip(np.rint(changed), 0, 255), np.uint8)


def relevant(modality: str) -> tuple[str, ...]:
    """Returns the corruptions that occur in a modality, as the catalog names it.

    Raises:
        ConfigError: the modality is a table or unknown.
    """
    if modality not in RELEVANT:
        raise ConfigError(f"no corruption is known for modality {modality!r}; {did_you_mean(modality, RELEVANT)}")
    return RELEVANT[modality]


def _channels(image: Float) -> int:
    """A grey image stays grey: one draw for its three equal channels."""
    return 1 if (image == image[:, :, :1]).all() else 3


def _gaussian_noise(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Electronic noise; amount = standard deviation as a share of white."""
    return image + 255 * amount * rng.standard_normal((*image.shape[:2], _channels(image)))


def _speckle(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Noise in proportion to the signal; amount = its relative standard deviation."""
    return image * (1 + amount * rng.standard_normal((*image.shape[:2], _channels(image))))


def _shot(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Too few photons; amount = 1 / photons at white."""
    return rng.poisson(image[:, :, : _channels(image)] / (255 * amount)) * (255 * amount) + np.zeros_like(image)


def _impulse(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Dead and saturated pixels; amount = their share."""
    shape = (*image.shape[:2], _channels(image))
    return np.where(rng.random(shape) < amount, 255.0 * rng.integers(0, 2, shape), image)


def _stripes(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Detector columns of unequal gain; amount = the gain's relative standard deviation."""
    return image * (1 + amount * rng.standard_normal((1, image.shape[1], 1)))


def _gaussian_blur(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Unsharp detector; amount = standard deviation as a share of the side."""
    from scipy.ndimage import gaussian_filter

    sigma = amount * max(image.shape[:2])
    return np.asarray(gaussian_filter(image, (sigma, sigma, 0), mode="reflect"))


def _defocus(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Lens out of focus; amount = radius of the disc a point becomes, as a share of the side."""
    radius = amount * max(image.shape[:2])
    reach = int(np.ceil(radius))
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return _spread(image, np.clip(radius + 0.5 - distance, 0, 1))


def _motion(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """A hand that moves during exposure, in any direction; amount = length of the path as a share of the side."""
    reach = amount * max(image.shape[:2]) / 2
    angle = rng.uniform(0, np.pi)
    half = int(np.ceil(reach))
    path = np.linspace(-reach, reach, 8 * half + 1)
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    places = np.rint(half + np.outer([np.sin(angle), np.cos(angle)], path)).astype(int)
    np.add.at(kernel, (places[0], places[1]), 1.0)
    return _spread(image, kernel)


def _spread(image: Float, kernel: Float) -> Float:
    """The image convolved with a kernel [2 r + 1, 2 r + 1], mirrored at its border."""
    from scipy.signal import fftconvolve

    reach = len(kernel) // 2
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    return np.asarray(fftconvolve(wide, (kernel / kernel.sum())[:, :, None], mode="valid", axes=(0, 1)))


def _pixelate(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Stored too small; amount = share of the side that is lost."""
    from PIL import Image

    height, width = image.shape[:2]
    small = (max(round(width * (1 - amount)), 1), max(round(height * (1 - amount)), 1))
    stored = Image.fromarray(image.astype(np.uint8)).resize(small, Image.Resampling.BOX)
    return np.asarray(stored.resize((width, height), Image.Resampling.NEAREST), np.float64)


def _jpeg(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Compressed too far; amount = 100 - quality."""
    from PIL import Image

    with io.BytesIO() as file:
        Image.fromarray(image.astype(np.uint8)).save(file, format="JPEG", quality=round(100 - amount))
        with Image.open(file) as stored:
            return np.asarray(stored.convert("RGB"), np.float64)


def _brightness(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Wrong exposure; amount = factor."""
    return image * amount


def _contrast(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Wrong window; amount = factor on the distance from the mean."""
    return np.asarray(image.mean() + amount * (image - image.mean()))


def _gamma(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Wrong display curve; amount = exponent."""
    return np.asarray(255 * (image / 255) ** amount)


def _saturate(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Stain or film of stronger colour; amount = factor on the distance from grey."""
    grey = image.mean(axis=2, keepdims=True)
    return np.asarray(grey + amount * (image - grey))


def _black_corner(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """The dermatoscope's rim; amount = share of the half diagonal that is lost."""
    rows, columns = (np.linspace(-1, 1, extent) for extent in image.shape[:2])
    distance = np.hypot(rows[:, None], columns[None]) / np.sqrt(2)
    return np.asarray(image * (distance <= 1 - amount)[:, :, None])


def _characters(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Letters burnt into the picture; amount = how many."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = image.shape[:2]
    size = max(round(0.14 * height), 6)
    canvas = Image.new("L", (width, height), 0)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size)
    for _ in range(round(amount)):
        letter = chr(int(rng.integers(ord("A"), ord("Z") + 1)))
        pen.text((rng.uniform(0, 0.9) * width, rng.uniform(0, 0.85) * height), letter, fill=255, font=font)
    return image * (1 - np.asarray(canvas, np.float64)[:, :, None] / 255)


def _bubbles(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Air under the cover glass: bright rings; amount = how many."""
    ring = np.zeros(image.shape[:2])
    for _ in range(round(amount)):
        distance, radius = _distance(image, rng), rng.uniform(0.05, 0.15)
        ring = np.maximum(ring, np.clip(1.5 - np.abs(distance - radius) * max(image.shape[:2]) / 1.5, 0, 1))
    return image + 0.8 * ring[:, :, None] * (255 - image)


def _stain(image: Float, amount: float, rng: np.random.Generator) -> Float:
    """Deposits of dye: dark blots; amount = how many."""
    cover = np.zeros(image.shape[:2])
    for _ in range(round(amount)):
        distance, radius = _distance(image, rng), rng.uniform(0.03, 0.1)
        cover = np.maximum(cover, np.exp(-((distance / radius) ** 4)))
    return image + 0.9 * cover[:, :, None] * (np.array([60.0, 20.0, 80.0]) - image)


def _distance(image: Float, rng: np.random.Generator) -> Float:
    """Distance of every pixel from a random place, as a share of the side."""
    height, width = image.shape[:2]
    rows, columns = np.arange(height) - rng.uniform(0, height), np.arange(width) - rng.uniform(0, width)
    return np.asarray(np.hypot(rows[:, None], columns[None]) / max(height, width))


#: Name -> what it does, and how much at severities 1 to 5, in the unit of the function.
CORRUPTIONS: Mapping[str, tuple[Change, tuple[float, float, float, float, float]]] = {
    "gaussian-noise": (_gaussian_noise, (0.04, 0.08, 0.12, 0.18, 0.26)),
    "speckle-noise": (_speckle, (0.1, 0.15, 0.2, 0.3, 0.45)),
    "shot-noise": (_shot, (1 / 100, 1 / 50, 1 / 25, 1 / 12, 1 / 6)),
    "impulse-noise": (_impulse, (0.01, 0.03, 0.06, 0.1, 0.17)),
    "stripes": (_stripes, (0.03, 0.06, 0.1, 0.15, 0.2)),
    "gaussian-blur": (_gaussian_blur, (0.006, 0.01, 0.014, 0.02, 0.028)),
    "defocus-blur": (_defocus, (0.008, 0.014, 0.02, 0.028, 0.036)),
    "motion-blur": (_motion, (0.03, 0.05, 0.08, 0.11, 0.15)),
    "pixelate": (_pixelate, (0.4, 0.55, 0.65, 0.75, 0.82)),
    "jpeg": (_jpeg, (50, 70, 85, 90, 93)),
    "brightness-up": (_brightness, (1.1, 1.2, 1.3, 1.4, 1.5)),
    "brightness-down": (_brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "contrast-up": (_contrast, (1.1, 1.2, 1.3, 1.4, 1.6)),
    "contrast-down": (_contrast, (0.85, 0.75, 0.65, 0.55, 0.4)),
    "gamma-up": (_gamma, (1.1, 1.2, 1.35, 1.5, 1.8)),
    "gamma-down": (_gamma, (0.9, 0.8, 0.7, 0.6, 0.45)),
    "saturate": (_saturate, (1.2, 1.4, 1.7, 2.0, 2.5)),
    "black-corner": (_black_corner, (0.1, 0.17, 0.24, 0.3, 0.36)),
    "characters": (_characters, (1, 2, 4, 6, 9)),
    "bubbles": (_bubbles, (2, 4, 7, 11, 16)),
    "stain": (_stain, (1, 2, 4, 7, 11)),
}

_DIGITAL = ("pixelate", "jpeg")
_NOISE = ("gaussian-noise", "speckle-noise", "shot-noise", "impulse-noise")
_LIGHT = ("brightness-up", "brightness-down", "contrast-up", "contrast-down")
_GREY = (*_DIGITAL, *_NOISE, "stripes", "gaussian-blur", *_LIGHT, "gamma-up", "gamma-down")
_SLIDE = (*_DIGITAL, "defocus-blur", "motion-blur", *_LIGHT, "saturate", "stain", "bubbles")

#: Modality, as the catalog names it -> corruptions that occur there (MedMNIST-C, table 1; stripes are ours).
RELEVANT: Mapping[str, tuple[str, ...]] = {
    "synthetic chest X-ray": _GREY,
    "chest X-ray": _GREY,
    "abdominal CT, axial": _GREY,
    "abdominal CT, coronal": _GREY,
    "abdominal CT, sagittal": _GREY,
    "chest CT": _GREY,
    "abdominal CT": _GREY,
    "brain MR angiography": _GREY,
    "electron microscopy": _GREY,
    "MRI, T1-weighted": _GREY,
    "dermoscopy": (*_DIGITAL, *_NOISE, "defocus-blur", "motion-blur", *_LIGHT, "black-corner", "characters"),
    "histology": _SLIDE,
    "synthetic histology": _SLIDE,
    "blood microscopy": _SLIDE,
    "kidney cell microscopy": (*_DIGITAL, "impulse-noise", "gaussian-blur", *_LIGHT),
    "retinal OCT": (*_DIGITAL, "speckle-noise", "defocus-blur", "motion-blur", "contrast-down"),
    "fundus photograph": (
        *_DIGITAL, "gaussian-noise", "speckle-noise", "defocus-blur", "motion-blur", "brightness-down", "contrast-down",
    ),
    "breast ultrasound": (
        *_DIGITAL, "speckle-noise", "motion-blur", "brightness-up", "brightness-down", "contrast-down",
    ),
    "not stated": (*_DIGITAL, "gaussian-noise", "gaussian-blur", *_LIGHT),
}  # fmt: skip
