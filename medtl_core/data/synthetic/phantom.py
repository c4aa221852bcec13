"""The built-in synthetic data set: computed chest radiographs of five invented hospitals; no patient stands behind it.

It exists so that everything runs without data. Results on it say nothing about medicine.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.catalog import catalog
from medtl_core.data.synthetic.anatomy import Canvas, canvas, draw, traits
from medtl_core.data.synthetic.scanner import SCANNERS, Scanner, expose
from medtl_core.errors import ConfigError, DataError
from medtl_core.rng import stream
from medtl_core.store import ArrayStore
from medtl_core.values import Array, Examples

DEFAULT_PATIENTS = 480
DEFAULT_SIZE = 128
SHARES = {name: scanner.share for name, scanner in SCANNERS.items()}
#: Raised when a pixel moves, so that no older drawing is read.
DRAWING = 1

_TEST_SHARE = 0.3
#: The test set stops growing here, so that runs with more training patients are judged on the same images.
_TEST_PATIENTS = 144
#: Patients are drawn in blocks of their own random stream: a larger phantom begins with the smaller one.
_BLOCK = 16
#: Images drawn together: so few that a step's arrays stay in the processor's cache.
_AT_ONCE = 4
#: Bytes that are taken and given back once: glibc then keeps what a step frees for the next one (mallopt(3)), and does
#: not ask the kernel for zeroed pages every time, which was a quarter of drawing.
_GIVEN_BACK = 32_000_000

_DRAWINGS = ArrayStore("phantom", error=DataError)


def phantom(
    seed: int = 0, size: int = DEFAULT_SIZE, patients: int = DEFAULT_PATIENTS, folder: Path | None = None
) -> Examples:
    """Returns synthetic frontal chest radiographs: normal, consolidation (one lobe), interstitial (both lungs).

    Sites differ in class mix and in how their equipment renders. Three patients in ten, at most 144, are test patients.
    Every fourth patient has two images, uint8 [size, size, 1]. A phantom with more patients holds the images of one
    with fewer, and from 480 on has the same test set.

    Args:
        seed: of everything drawn.
        size: pixels a side.
        patients: over all sites.
        folder: where drawings are kept for the next time; None = nowhere. One that cannot be read is drawn again.

    Raises:
        ConfigError: `size` is below 32 or `patients` below 2 a site.
    """
    fewest = 2 * len(SCANNERS)
    if size < 32 or patients < fewest:
        raise ConfigError(f"a phantom of {patients} patients at {size} px is too small: at least {fewest} and 32 px")
    seats = [
        (name, split, count)
        for split, counts in _counts(patients).items()
        for name, count in zip(SCANNERS, counts, strict=True)
        if count
    ]
    drawn = _drawing(seats, size, seed, folder and drawing_of(folder, seed, size, patients))
    owners = [(name, split, owner) for name, split, count in seats for owner in _owners(count)]
    columns = {
        "label": drawn["label"],
        "patient": np.asarray([f"{name}-{split}-{owner:05d}" for name, split, owner in owners]),
        "site": np.asarray([name for name, _, _ in owners]),
        "split": np.asarray([split for _, split, _ in owners]),
        "image": drawn["image"],
    }
    return Examples(columns, catalog()["phantom"].task)


def drawing_of(folder: Path, seed: int, size: int, patients: int) -> Path:
    """Returns the common name of the two files in which a folder keeps a drawing."""
    return folder / "phantom" / f"{DRAWING}-{seed}-{size}-{patients}"


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


def _drawing(seats: Sequence[tuple[str, str, int]], size: int, seed: int, kept: Path | None) -> dict[str, Array]:
    """The images and labels of (site, split, patients), one seat behind the other; drawn unless they are kept."""
    if kept:
        with contextlib.suppress(DataError):  # none there, or a damaged one
            return _DRAWINGS.read(kept)[1]
    page = canvas(size)
    np.empty(_GIVEN_BACK, np.uint8)
    parts = [_drawn(page, *seat, seed) for seat in seats]
    drawn = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    if kept:
        with contextlib.suppress(DataError):  # without a place to keep it, it is drawn every time
            _DRAWINGS.write(kept, drawn, {})
    return drawn


def _drawn(page: Canvas, name: str, split: str, patients: int, seed: int) -> dict[str, Array]:
    """Draws the images and labels of a site; the last block no further than it is needed."""
    scanner, images = SCANNERS[name], len(_owners(patients))
    blocks: list[tuple[Array, Array]] = []
    for start in range(0, patients, _BLOCK):
        rng = stream(seed, "phantom", name, split, start)
        blocks.append(_block(page, scanner, images - sum(len(films) for films, _ in blocks), rng))
    films, labels = (np.concatenate(part)[:images] for part in zip(*blocks, strict=True))
    return {"label": labels, "image": films[..., None]}


def _block(
    page: Canvas, scanner: Scanner, images: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draws the first images of a block, in whole steps, and all of its labels."""
    owners = _owners(_BLOCK)
    label = rng.choice(len(scanner.mix), size=_BLOCK, p=scanner.mix).astype(np.int64)[owners]
    body = {key: values[owners] for key, values in traits(rng, _BLOCK).items()}
    body["width"], body["height"] = body["width"] * scanner.zoom, body["height"] * scanner.zoom
    body["heart"] = body["heart"] * scanner.heart
    films = []
    for some in np.split(np.arange(len(label)), range(_AT_ONCE, len(label), _AT_ONCE)):
        if some[0] < images:
            picture = draw(page, {key: values[some] for key, values in body.items()}, label[some], rng)
            films.append(expose(page, picture, scanner, rng))
    return np.concatenate(films), label
