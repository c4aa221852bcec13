"""Random pictures of the same finding: what may be changed in an image of each modality, and how.

The pixels are moved by the kernels of torchvision v2, the numbers are drawn here: v2's own transforms draw from torch's
global generator, which threads share, so that one hospital's augmentation would change another's dropout.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.images import decode
from medtl_core.data.views import VIEWS, Pixels, square
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.features.cache import Row
from medtl_core.features.dataset import Material
from medtl_core.features.extract import ImageReader, pixel_reader, rows_by_content
from medtl_core.features.spec import FeatureSpec, feature_spec
from medtl_core.rng import stream
from medtl_core.values import Features

if TYPE_CHECKING:
    from torch import Tensor

#: Raised when the same recipe begins to give other pixels; it is part of every key of augmented features.
_VERSION = 1


@dataclass(frozen=True)
class Augmentation:
    """What may be done to an image without changing its label. The default does nothing.

    Attributes:
        mirrors: names of `views.VIEWS`, each applied half of the time.
        crop: largest share of the side that is cropped away, anywhere, before the rest is enlarged again.
        angle: largest rotation, degrees, either way; corners show the image mirrored at its border.
        brightness, contrast, saturation: largest relative change, either way.
        hue: largest shift, as a share of the colour circle, either way.
    """

    mirrors: tuple[str, ...] = ()
    crop: float = 0.0
    angle: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0


#: Nothing at all.
OFF = Augmentation()

# Grey values of a radiograph or a CT carry meaning: no colour change there. Stain and skin vary in colour, a lamp in
# brightness. Beams and probes have an upright, so rotations stay small; on skin and glass, mirrors give every turn.
_RADIOGRAPH = Augmentation(crop=0.1, angle=7.0)
_CT = Augmentation(crop=0.1, angle=5.0)

#: Modality, as the catalog names it -> what may be done; mirrors are the catalog's label-preserving views.
RECIPES: Mapping[str, Augmentation] = {
    "synthetic chest X-ray": _RADIOGRAPH,
    "chest X-ray": _RADIOGRAPH,
    "abdominal CT, axial": _CT,
    "abdominal CT, coronal": _CT,
    "abdominal CT, sagittal": _CT,
    "dermoscopy": Augmentation(crop=0.2, brightness=0.15, contrast=0.15, saturation=0.15, hue=0.02),
    "histology": Augmentation(crop=0.2, brightness=0.15, contrast=0.15, saturation=0.2, hue=0.04),
    "blood microscopy": Augmentation(crop=0.1, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
    "kidney cell microscopy": Augmentation(crop=0.1, brightness=0.1, contrast=0.1),
    "retinal OCT": Augmentation(crop=0.1, angle=5.0, contrast=0.1),
    "fundus photograph": Augmentation(crop=0.1, angle=10.0, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.02),
    "breast ultrasound": Augmentation(crop=0.1, brightness=0.1, contrast=0.1),
    "not stated": Augmentation(crop=0.05),  # own data: a smaller field of view is all that is safe to assume
}


def recipe_for(modality: str, views: tuple[str, ...]) -> Augmentation:
    """Returns what may be done to images of a modality whose label-preserving views are known.

    Args:
        modality: as the catalog has it; "not stated" for own data.
        views: the entry's label-preserving views.

    Raises:
        ConfigError: the modality is a table or unknown, or a view is.

    Example:
        >>> recipe_for("chest X-ray", ("identity", "flip-h")).mirrors
        ('flip-h',)
    """
    if modality not in RECIPES:
        raise ConfigError(f"no augmentation is known for modality {modality!r}; {did_you_mean(modality, RECIPES)}")
    for view in views:
        if view not in VIEWS:
            raise ConfigError(f"view {view!r} is not known; {did_you_mean(view, VIEWS)}")
    return replace(RECIPES[modality], mirrors=tuple(view for view in views if view != "identity"))


def augment(image: Pixels, recipe: Augmentation, *, rng: np.random.Generator) -> Pixels:
    """Returns one random picture of the same finding.

    Args:
        image: square, uint8 [s, s, 3].
        recipe: what may be done.
        rng: of what is done; nothing else is drawn from, so the process's random state stays as it was.

    Returns:
        uint8 [s, s, 3], its own memory.
    """
    # The same number of draws for every recipe: switching one change off leaves the others as they were.
    chance = rng.random(len(VIEWS))
    amount = rng.uniform(-1.0, 1.0, 8)
    for (name, view), drawn in zip(VIEWS.items(), chance, strict=True):
        if name in recipe.mirrors and drawn < 0.5:
            image = view(image)
    image = np.array(image)
    if recipe.crop or recipe.angle:
        image = _moved(image, recipe, amount[:4])
    if recipe.brightness or recipe.contrast or recipe.saturation or recipe.hue:
        image = _coloured(image, recipe, amount[4:])
    return image


def augment_many(images: Pixels, recipe: Augmentation, *, rng: np.random.Generator) -> Pixels:
    """Returns each image [n, s, s, 3] augmented with draws of its own."""
    return np.stack([augment(image, recipe, rng=rng) for image in images]) if len(images) else images


def augmented_features(
    material: Material, copies: int, *, seed: int, workers: int = 1, recipe: Augmentation | None = None
) -> Features:
    """Returns the mean features of `copies` random pictures of each case, in the space of the agreed features.

    For training cases: a classifier fitted on them reads the agreed features, so they carry that fingerprint. What is
    drawn depends on the seed and the image, never on the other cases. Rows are kept in the feature cache.

    Args:
        material: the cases.
        copies: pictures of each.
        seed: of the draws.
        workers: images worked on at the same time.
        recipe: what may be done; None = the modality's.

    Raises:
        ConfigError: no copy is asked for, or the modality has no recipe.
        DataError: an image cannot be decoded, or the cases are a table.
    """
    if copies < 1:
        raise ConfigError(f"copies={copies} must be at least 1")
    chosen = recipe_for(material.modality, material.views) if recipe is None else recipe
    agreed = feature_spec(material.settings, material.views, material.columns)
    images = material.keyed_images()
    parts = [
        np.mean([_copy(images, record, own, (chosen, seed, number), workers) for number in range(copies)], axis=0)
        for record, own in agreed.parts(material.settings)
    ]
    return Features(np.concatenate(parts, axis=1).astype(np.float32), agreed.fingerprint, agreed.groups)


def _copy(
    images: Sequence[tuple[str, Any]],
    spec: FeatureSpec,
    settings: Settings,
    what: tuple[Augmentation, int, int],
    workers: int,
) -> Row:
    """The features of one random picture of each image under one backbone, float32 [n, d]."""
    recipe, seed, number = what
    plain = replace(spec, views=("identity",))
    recorded = {"features": plain.fingerprint, "recipe": vars(recipe), "seed": seed, "copy": number, "is": _VERSION}

    def opened() -> ImageReader:
        read = pixel_reader(plain, settings)

        def drawn(key: str, image: Any) -> Row:
            picture = square(decode(image), spec.size)
            return read(augment(picture, recipe, rng=stream(seed, "augment", key, number))[None])

        return drawn

    return rows_by_content(images, recorded, spec.width, settings.cache, opened, workers=workers)


def _moved(image: Pixels, recipe: Augmentation, amount: NDArray[np.float64]) -> Pixels:
    """Cropped and rotated in one resampling."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    zoom = 1.0 / (1.0 - recipe.crop * abs(amount[0]))
    reach = (zoom - 1.0) * len(image) / 2  # how far the enlarged image may move and still cover the square
    margin = math.ceil(len(image) * math.tan(math.radians(recipe.angle)) / 2)  # what a rotation brings in
    wide = functional.pad(_tensor(image), [margin], padding_mode="reflect")
    moved = functional.affine(
        wide, angle=recipe.angle * amount[3], translate=[reach * amount[1], reach * amount[2]], scale=zoom,
        shear=[0.0, 0.0], interpolation=InterpolationMode.BILINEAR,
    )  # fmt: skip
    return _pixels(functional.center_crop(moved, [len(image)]))


def _coloured(image: Pixels, recipe: Augmentation, amount: NDArray[np.float64]) -> Pixels:
    """Brightness, contrast, saturation and hue, in this order."""
    from torchvision.transforms.v2 import functional

    changed = _tensor(image)
    if recipe.brightness:
        changed = functional.adjust_brightness(changed, 1.0 + recipe.brightness * amount[0])
    if recipe.contrast:
        changed = functional.adjust_contrast(changed, 1.0 + recipe.contrast * amount[1])
    if recipe.saturation:
        changed = functional.adjust_saturation(changed, 1.0 + recipe.saturation * amount[2])
    if recipe.hue:
        changed = functional.adjust_hue(changed, recipe.hue * amount[3])
    return _pixels(changed)


def _tensor(image: Pixels) -> "Tensor":
    import torch

    return torch.from_numpy(image).permute(2, 0, 1)


def _pixels(image: "Tensor") -> Pixels:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())
