"""What a classifier loses on corrupted images: corrupted cases, and the errors of MedMNIST-C over them.

Balanced error BE(c, s) = 1 - balanced accuracy on corruption c at severity s; BE(c) is its mean over severities. Beside
a reference classifier r (Di Salvo, Doerrich, Ledig 2024, arXiv:2406.17536; the paper's is an AlexNet, here it is
whichever classifier is named first):

    BE  = mean over c of BE(c) / BE_r(c)
    rBE = sum over c of (BE(c) - BE(clean)) / sum over c of (BE_r(c) - BE_r(clean))

Below 1 is better than the reference. The paper averages the ratios of rBE over c; here sums are divided: a corruption
that costs the reference nothing would else decide alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medtl_core.data.images import content_key, decode
from medtl_core.data.views import square
from medtl_core.errors import ConfigError, DataError
from medtl_core.features.dataset import Material
from medtl_core.features.extract import images_of
from medtl_core.features.spec import feature_spec
from medtl_core.rng import stream
from medtl_core.values import Examples
from simulations.corruption import SEVERITIES, corrupt, relevant

#: (corruption, severity); ("clean", 0) is the images as they are.
Cell = tuple[str, int]
CLEAN: Cell = ("clean", 0)


@dataclass(frozen=True)
class Robustness:
    """One classifier's figures.

    Attributes:
        clean: balanced accuracy on the images as they are.
        corrupted: mean balanced accuracy over corruptions and severities.
        drop: share of the clean balanced accuracy that is lost.
        be, rbe: see the module; 1 for the reference itself, NaN where the reference has no error to compare with.
    """

    clean: float
    corrupted: float
    drop: float
    be: float
    rbe: float


def cells(modality: str, severities: Sequence[int]) -> tuple[Cell, ...]:
    """Returns what a classifier of a modality is judged on: clean, then every relevant corruption and severity.

    Raises:
        ConfigError: the modality has no corruptions, or a severity is not in 1 to 5 or named twice.

    Example:
        >>> cells("retinal OCT", (1, 5))[:3]
        (('clean', 0), ('pixelate', 1), ('pixelate', 5))
    """
    if not severities or len(set(severities)) < len(severities) or not set(severities) <= set(SEVERITIES):
        raise ConfigError(f"severities {list(severities)} must be different numbers among {list(SEVERITIES)}")
    return (CLEAN, *((name, severity) for name in relevant(modality) for severity in severities))


def corrupted(material: Material, cell: Cell, *, seed: int) -> Material:
    """Returns the same cases with corrupted images, at the size the backbone reads, kept out of the feature cache.

    What is drawn depends on the seed, the corruption and the image: severities of one corruption differ in the amount
    only, and no case depends on another.

    Raises:
        ConfigError: no such corruption or severity.
        DataError: an image cannot be decoded, or the cases are a table.
    """
    if cell == CLEAN:
        return material
    name, severity = cell
    images = images_of(material.examples)
    spec = feature_spec(material.settings, material.views, material.columns)
    size = max(record.size for record, _ in spec.parts(material.settings))
    made = [
        corrupt(square(decode(image), size), name, severity, rng=stream(seed, "corrupt", name, content_key(image)))
        for image in images
    ]
    columns = {key: column for key, column in material.examples.columns.items() if key != "path"}
    columns["image"] = np.stack(made) if made else np.zeros((0, size, size, 3), np.uint8)
    return replace(
        material,
        examples=Examples(columns, material.examples.task),
        settings=material.settings.replace(cache="off"),
    )


def robustness(accuracy: Mapping[Cell, float], reference: Mapping[Cell, float]) -> Robustness:
    """Returns the figures of a classifier from its balanced accuracy in every cell, and the reference's in the same.

    Raises:
        DataError: the two were not judged on the same cells, or on no corruption.

    Example:
        >>> ours = {CLEAN: 0.8, ("jpeg", 1): 0.7, ("jpeg", 5): 0.5}
        >>> theirs = {CLEAN: 0.8, ("jpeg", 1): 0.6, ("jpeg", 5): 0.2}
        >>> found = robustness(ours, theirs)
        >>> round(found.corrupted, 3), round(found.drop, 3), round(found.be, 3), round(found.rbe, 3)
        (0.6, 0.25, 0.667, 0.5)
    """
    names = tuple(dict.fromkeys(name for name, _ in accuracy if (name, 0) != CLEAN))
    if accuracy.keys() != reference.keys() or CLEAN not in accuracy or not names:
        raise DataError("robustness compares two classifiers on the same cells: clean, and at least one corruption")
    ours, theirs = _errors(accuracy, names), _errors(reference, names)
    clean, left = accuracy[CLEAN], 1.0 - float(np.mean(list(ours.values())))
    be = float(np.mean([_over(ours[name], theirs[name]) for name in names]))
    lost = (reference[CLEAN] - 1.0) * len(names) + sum(theirs.values())
    mine = (clean - 1.0) * len(names) + sum(ours.values())
    return Robustness(clean, left, _over(clean - left, clean), be, _over(mine, lost))


def _errors(accuracy: Mapping[Cell, float], names: Sequence[str]) -> dict[str, float]:
    """Balanced error of each corruption, averaged over its severities."""
    return {
        name: 1.0 - float(np.mean([value for cell, value in accuracy.items() if cell[0] == name])) for name in names
    }


def _over(part: float, whole: float) -> float:
    """The ratio, or NaN where the whole is nothing but rounding."""
    return part / whole if abs(whole) > 1e-9 else float("nan")
