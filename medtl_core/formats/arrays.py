"""Image sets kept in one .npz file: MedMNIST's layout, and images with labels and patients."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.data.catalog import Entry, Layout
from medtl_core.data.faults import Faults
from medtl_core.data.names import hospital_names, one_patient_each, plain_names
from medtl_core.data.readers import NO_PATIENTS, Facts, Reader
from medtl_core.errors import DataError
from medtl_core.formats.needs import SPLITS
from medtl_core.formats.volumes import THINNEST
from medtl_core.values import MULTI_LABEL, Array, Examples, Task, any_finding

#: An archive that declares more is refused before anything is read: take a smaller file of the set.
MAX_BYTES = 4 << 30
#: So is one that declares more than this and unpacks to over ten times its size, as images do not.
MAX_SHRUNK_BYTES = 1 << 30

_MEDMNIST = tuple(f"{split}_{what}" for split in SPLITS for what in ("images", "labels"))


class MedMnist(Reader):
    """One .npz file as MedMNIST has it; every image counts as one patient, for no ids are published.

    Without a task, the classes are the numbers that occur.
    """

    name = "arrays"

    def matches(self, path: Path) -> bool:
        """See `Reader`."""
        return path.suffix.lower() == ".npz" and path.is_file()

    def read(self, path: Path, task: Task | None, faults: Faults) -> tuple[Examples, Facts]:
        """See `Reader`; of volumes see `volumes.grey_planes`. Several labels an image need a multi-label task."""
        arrays = load_npz(path, _MEDMNIST)
        parts = [_told(path, arrays[f"{split}_labels"], task) for split in SPLITS]
        told = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        notes = [NO_PATIENTS]
        if task is None:
            numbers, told["label"] = np.unique(told["label"], return_inverse=True)
            task = Task(path.stem, tuple(map(str, numbers.tolist())))
            if len(numbers) and not np.array_equal(numbers, np.arange(len(numbers))):
                notes.append(f"The labels have gaps; the classes are {', '.join(task.classes)}.")
        shapes = {arrays[f"{split}_images"].shape[1:] for split in SPLITS}
        if len(shapes) > 1:
            raise DataError(f"{path}: the splits hold images of different shapes {sorted(shapes)}")
        images = _images(path, np.concatenate([arrays[f"{split}_images"] for split in SPLITS]))
        counts = [len(arrays[f"{split}_images"]) for split in SPLITS]
        patient = np.asarray([f"image-{number}" for number in range(len(images))])
        columns = {**told, "patient": patient, "split": np.repeat(np.asarray(SPLITS), counts), "image": images}
        return _examples(path, task, columns, faults), Facts(notes=tuple(notes), has_patients=False)


def read_arrays(path: Path, entry: Entry, faults: Faults) -> Examples:
    """Returns the cases of a file with images [n, h, w(, c)], labels [n], and what the layout names: whose each is [n],
    and whether it is a test case [n].

    Raises:
        DataError: the file is damaged, too large, or its arrays do not fit together.
    """
    arrays = load_npz(path, ("images", "labels", *filter(None, (entry.layout.patient, entry.layout.split))))
    label, images = _labels(path, arrays["labels"]), _images(path, arrays["images"])
    told = roles(path, arrays, entry.layout, len(label))
    return _examples(path, entry.task, {"label": label, **told, "image": images}, faults)


def roles(path: Path, arrays: Mapping[str, Array], layout: Layout, count: int) -> dict[str, Array]:
    """Returns whose each case is, its hospital and its split, by the arrays that a layout names, where they are there.

    Raises:
        DataError: a split is no word for one, nor whether a case is held out.
    """

    def words(name: str, otherwise: Array) -> Array:
        return plain_names(np.asarray([*map(str, arrays.get(name, otherwise).tolist())], np.str_))

    held = {"True": "test", "False": "train", "1": "test", "0": "train", **{word: word for word in SPLITS}}
    split = words(layout.split, np.full(count, SPLITS[0])).tolist()
    if not {*split} <= held.keys():
        raise DataError(f"{path}: the split is one of {', '.join(SPLITS)}, or whether a case is held out")
    return {
        "patient": one_patient_each(words(layout.patient, np.arange(count))),
        "site": hospital_names(words(layout.site, np.full(count, path.stem.split("_")[0]))),
        "split": np.asarray([held[word] for word in split], np.str_),
    }


def _examples(path: Path, task: Task, columns: Mapping[str, Array], faults: Faults) -> Examples:
    label = columns["label"]
    if len({len(column) for column in columns.values()}) > 1:
        lengths = ", ".join(f"{len(column)} of {name}" for name, column in columns.items())
        raise DataError(f"{path}: arrays of other lengths do not match: {lengths}")
    wrong = (label < 0) | (label >= len(task.classes))
    cause = f"{path.name}: the label is no class of task {task.name!r}"
    faults.case(np.flatnonzero(wrong), cause, f"expected 0..{len(task.classes) - 1}")
    site = np.full(len(label), path.stem.split("_")[0])
    return Examples({"site": site, **columns, "label": np.where(wrong, 0, label)}, task)


def _images(path: Path, images: Array) -> Array:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == np.uint8 and images.ndim == 4 and min(images.shape[1:]) >= THINNEST:
        return images  # volumes
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        expected = "expected uint8 [n, h, w], [n, h, w, 1|3] or volumes [n, d, h, w]"
        raise DataError(f"{path}: images are {images.dtype} {images.shape}; {expected}")
    return images


def _told(path: Path, labels: Array, task: Task | None) -> dict[str, Array]:
    """The columns of `Examples` that say what images show, from class numbers [n] or findings [n, L], each 0 or 1."""
    if task is None or task.kind != MULTI_LABEL:
        return {"label": _labels(path, labels)}
    if labels.shape[1:] != (len(task.classes),) or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{path}: labels of shape {labels.shape} are no 0 or 1 for {len(task.classes)} findings")
    return {"labels": labels.astype(np.int8), "label": any_finding(labels)}


def _labels(path: Path, labels: Array) -> Array:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(
            f"{path}: labels of shape {labels.shape} give an image several labels; name them in task.json, "
            '"kind": "multi-label"'
        )
    if labels.dtype.kind not in "biu":
        raise DataError(f"{path}: labels are {labels.dtype}; class numbers are needed")
    return labels.astype(np.int64)


def array_names(path: Path) -> list[str]:
    """Returns the names of a file's arrays; none where it cannot be read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):
        return []


def load_npz(path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> Mapping[str, Array]:
    """Returns the arrays of a file, those that need not be there where they are.

    Raises:
        DataError: the file is damaged or too large, or an array is missing.
    """
    try:
        declared = _declared_bytes(path)
        if declared > min(MAX_BYTES, max(MAX_SHRUNK_BYTES, 10 * path.stat().st_size)):
            raise DataError(f"{path}: {declared / 2**30:.1f} GiB unpacked is too much; take a smaller image size")
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in names if name not in archive]
            if missing:
                raise DataError(f"{path}: array {missing[0]!r} is missing; found {', '.join(sorted(archive))}")
            return {name: np.asarray(archive[name]) for name in (*names, *(set(optional) & {*archive}))}
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


READERS = (MedMnist(),)
