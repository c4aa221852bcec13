"""The built-in synthetic data set: computed chest radiographs of five invented hospitals; no patient stands behind it.

It exists so that everything runs without data. Results on it say nothing about medicine.
"""

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import catalog
from medtl_core.data.synthetic.anatomy import Canvas, canvas, draw, traits
from medtl_core.data.synthetic.scanner import SCANNERS, Scanner, expose
from medtl_core.errors import ConfigError
from medtl_core.rng import stream
from medtl_core.values import Array, Examples

DEFAULT_PATIENTS = 480
DEFAULT_SIZE = 128
SHARES = {name: scanner.share for name, scanner in SCANNERS.items()}

_TEST_SHARE = 0.3
#: The test set stops growing here, so that runs with more training patients are judged on the same images.
_TEST_PATIENTS = 144
#: Patients are drawn in blocks of their own random stream: a larger phantom begins with the smaller one.
_BLOCK = 16
#: Images drawn together: so few that a step's arrays stay in the processor's cache.
_AT_ONCE = 4


def phantom(seed: int = 0, size: int = DEFAULT_SIZE, patients: int = DEFAULT_PATIENTS) -> Examples:
    """Returns synthetic frontal chest radiographs: normal, consolidation (one lobe), interstitial (both lungs).

    Sites differ in class mix and in how their equipment renders. Three patients in ten, at most 144, are test patients.
    Every fourth patient has two images, uint8 [size, size, 1]. A phantom with more patients holds the images of one
    with fewer, and from 480 on has the same test set.

    Raises:
        ConfigError: `size` is below 32 or `patients` below 2 a site.
    """
    fewest = 2 * len(SCANNERS)
    if size < 32 or patients < fewest:
        raise ConfigError(f"a phantom of {patients} patients at {size} px is too small: at least {fewest} and 32 px")
    page = canvas(size)
    parts = [
        _site(page, name, scanner, split, count, seed)
        for split, counts in _counts(patients).items()
        for (name, scanner), count in zip(SCANNERS.items(), counts, strict=True)
        if count
    ]
    columns = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    return Examples(columns, catalog()["phantom"].task)


def train_images(patients: int) -> dict[str, int]:
    """Returns how many training images each site of a phantom holds."""
    return {name: len(_owners(count)) for name, count in zip(SCANNERS, _counts(patients)["train"], strict=True)}


def _counts(patients: int) -> dict[str, list[int]]:
    """Returns the patients of each site by split; cumulative rounding, so that the counts add up."""
    test, bounds = min(round(patients * _TEST_SHARE), _TEST_PATIENTS), np.cumsum([0.0, *SHARES.values()])
    sizes = {"train": patients - test, "test": test}
    return {split: np.diff(np.rint(bounds * total).astype(int)).tolist() for split, total in sizes.items()}


def _owners(patients: int) -> NDArray[np.int64]:
    """Returns each image's patient number; every fourth patient has a second image."""
    return np.repeat(np.arange(patients), np.where(np.arange(patients) % 4 == 0, 2, 1))


def _site(page: Canvas, name: str, scanner: Scanner, split: str, patients: int, seed: int) -> dict[str, Array]:
    owners = _owners(patients)
    streams = (stream(seed, "phantom", name, split, start) for start in range(0, patients, _BLOCK))
    blocks = [_block(page, scanner, rng) for rng in streams]
    images, labels = (np.concatenate(part)[: len(owners)] for part in zip(*blocks, strict=True))
    ids = np.asarray([f"{name}-{split}-{number:05d}" for number in owners])
    return {
        "label": labels, "patient": ids, "site": np.full(len(owners), name), "split": np.full(len(owners), split),
        "image": images[..., None],
    }  # fmt: skip


def _block(page: Canvas, scanner: Scanner, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws one whole block, also where only its beginning is needed: its stream stays in step."""
    owners = _owners(_BLOCK)
    label = rng.choice(len(scanner.mix), size=_BLOCK, p=scanner.mix).astype(np.int64)[owners]
    body = {key: values[owners] for key, values in traits(rng, _BLOCK).items()}
    body["width"], body["height"] = body["width"] * scanner.zoom, body["height"] * scanner.zoom
    body["heart"] = body["heart"] * scanner.heart
    films = []
    for some in np.split(np.arange(len(label)), range(_AT_ONCE, len(label), _AT_ONCE)):
        picture = draw(page, {key: values[some] for key, values in body.items()}, label[some], rng)
        films.append(expose(page, picture, scanner, rng))
    return np.concatenate(films), label
