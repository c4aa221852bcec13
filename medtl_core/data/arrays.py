"""Image sets kept in one .npz file: MedMNIST's layout, and images with labels and patients."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.table import SPLITS, USABLE
from medtl_core.errors import DataError
from medtl_core.values import Array, Examples, Task

#: An archive that declares more is refused before anything is read: take a smaller file of the set.
MAX_BYTES = 4 << 30
#: So is one that declares more than this and unpacks to over ten times its size, as images do not.
MAX_SHRUNK_BYTES = 1 << 30

_LOG = logging.getLogger("medtl")
_MEDMNIST = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))


def read_medmnist(path: Path, task: Task | None = None, *, lenient: bool = False) -> Examples:
    """Returns the cases of a MedMNIST 2-D file; every image counts as one patient, for no ids are published.

    Without a task, classes are called by their numbers. A lenient reader marks usable cases, see `read_manifest`.

    Raises:
        DataError: the file is damaged, too large, three-dimensional, or has several labels an image.
    """
    arrays = _load(path, _MEDMNIST)
    label = np.concatenate([_labels(path, arrays[f"{split}_labels"]) for split in SPLITS])
    if task is None:
        task = Task(path.stem, tuple(str(number) for number in range(int(label.max(initial=0)) + 1)))
    shapes = {arrays[f"{split}_images"].shape[1:] for split in SPLITS}
    if len(shapes) > 1:
        raise DataError(f"{path}: the splits hold images of different shapes {sorted(shapes)}")
    images = _images(path, np.concatenate([arrays[f"{split}_images"] for split in SPLITS]))
    counts = [len(arrays[f"{split}_images"]) for split in SPLITS]
    patient = np.asarray([f"image-{number}" for number in range(len(images))])
    return _examples(path, task, images, label, (patient, np.repeat(np.asarray(SPLITS), counts)), lenient)


def read_arrays(path: Path, task: Task, *, lenient: bool = False) -> Examples:
    """Returns the cases of a file with images [n, h, w(, c)], labels [n], patient [n] and is_test [n].

    A lenient reader marks usable cases, see `read_manifest`.

    Raises:
        DataError: the file is damaged, too large, or its arrays do not fit together.
    """
    arrays = _load(path, ("images", "labels", "patient", "is_test"))
    split = np.where(arrays["is_test"].astype(bool), "test", "train")
    images, label = _images(path, arrays["images"]), _labels(path, arrays["labels"])
    return _examples(path, task, images, label, (arrays["patient"].astype(str), split), lenient)


def _examples(
    path: Path, task: Task, images: Array, label: Array, known: tuple[Array, Array], lenient: bool
) -> Examples:
    patient, split = known
    if not len(images) == len(label) == len(patient) == len(split):
        raise DataError(f"{path}: {len(images)} images, {len(label)} labels and {len(patient)} patients do not match")
    if not len(images) and not lenient:
        raise DataError(f"{path} holds no image")
    wrong = (label < 0) | (label >= len(task.classes))
    if wrong.any():
        text = (
            f"{path}: the label is no class of task {task.name!r} (0..{len(task.classes) - 1}) in {int(wrong.sum())} "
            f"cases, first in case {int(np.flatnonzero(wrong)[0]) + 1}"
        )
        if not lenient:
            raise DataError(text)
        _LOG.warning("%s; left out", text)
    site = np.full(len(label), path.stem.split("_")[0])
    columns = {"label": label, "patient": patient, "site": site, "split": split, "image": images}
    return Examples(columns | ({USABLE: ~wrong} if lenient else {}), task)


def _images(path: Path, images: Array) -> Array:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise DataError(f"{path}: images are {images.dtype} {images.shape}; expected uint8 [n, h, w] or [n, h, w, 1|3]")
    return images


def _labels(path: Path, labels: Array) -> Array:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{path}: labels of shape {labels.shape} give an image several labels; one is needed")
    if labels.dtype.kind not in "biu":
        raise DataError(f"{path}: labels are {labels.dtype}; class numbers are needed")
    return labels.astype(np.int64)


def _load(path: Path, names: tuple[str, ...]) -> Mapping[str, Array]:
    try:
        declared = _declared_bytes(path)
        if declared > min(MAX_BYTES, max(MAX_SHRUNK_BYTES, 10 * path.stat().st_size)):
            raise DataError(f"{path}: {declared / 2**30:.1f} GiB unpacked is too much; take a smaller image size")
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise DataError(f"{path}: array {missing[0]!r} is missing; found {', '.join(sorted(archive))}")
            return {name: np.asarray(archive[name]) for name in names}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise DataError(f"{path} is not a readable .npz file: {error}") from error


def _declared_bytes(path: Path) -> int:
    """Returns the larger of what the archive's directory and its array headers say; no pixel is unpacked."""
    with zipfile.ZipFile(path) as archive:
        total = sum(item.file_size for item in archive.infolist())
        return max(total, sum(_header_bytes(archive, item) for item in archive.infolist()))


def _header_bytes(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> int:
    read: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with archive.open(item) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in read:
            raise ValueError(f"unknown array format {version}")
        shape, _, dtype = read[version](stream)
    return int(np.prod(shape, dtype=np.float64)) * int(dtype.itemsize)
