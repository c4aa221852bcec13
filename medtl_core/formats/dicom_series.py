"""DICOM files as one case: a file with its frames, or a folder with the slices of one series."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from medtl_core.errors import DataError
from medtl_core.formats.dicom_identity import check_identity
from medtl_core.formats.dicom_pixels import (
    Pixels,
    check_image,
    picture,
    read_dataset,
    stored_frame,
    upright,
)
from medtl_core.formats.dicom_scale import frame_facts, scale_of
from medtl_core.formats.volumes import MAX_VOXELS, canonical, chosen, planes
from medtl_core.values import Array

#: Modalities whose slices make a volume.
VOLUMES = ("CT", "MR", "PT")
#: Files of one folder.
_MOST = 4096
#: Names of what lies beside slices and is none.
BESIDE = re.compile(r"^\.|^DICOMDIR$|\.(db|ini|txt|xml|json|csv)$", re.IGNORECASE)
#: What stands for one number in a header.
_ONE = (int, float, str, bytes)
#: Two slices whose distance is more than this many times the least one lack a slice between them.
_GAP = 1.5


@dataclass(frozen=True)
class Slice:
    """One frame of one file, by its header alone.

    Attributes:
        path, frame: where it is.
        series, patient: ids as the header has them; they are compared and never leave this room.
        modality: the standard's word, e.g. "CT".
        size: rows, columns.
        number: its place, where it has no position.
        orientation: directions of a row and of a column, float [6]; empty = not stated.
        position: of its first pixel in mm, float [3]; empty = not stated.
    """

    path: Path
    frame: int
    series: str
    patient: str
    modality: str
    size: tuple[int, int]
    number: float
    orientation: tuple[float, ...] = ()
    position: tuple[float, ...] = ()

    @property
    def axes(self) -> Array:
        """Directions in which the index of slices, rows and columns grows, float [3, 3]; unknown is upright."""
        return _axes(self.orientation or (1, 0, 0, 0, 1, 0))

    @property
    def depth(self) -> float:
        """Its place along the direction in which slices lie one behind another."""
        return float(np.dot(self.axes[0], self.position or (0, 0, 0)))


@dataclass
class Files:
    """The file that is being read, whole: frames of one file come one after another, and no second one is kept."""

    read: dict[Path, Any]

    def whole(self, path: Path) -> Any:
        """Returns the Dataset of a file with its pixels."""
        if path not in self.read:
            self.read = {path: _read(path)}
        return self.read[path]

    def header(self, path: Path) -> Any:
        """Returns the Dataset of a file, with or without its pixels."""
        return self.read[path] if path in self.read else _read(path, pixels=False)


def pictures_of_dicom(path: Path) -> list[Pixels]:
    """Returns the pictures that stand for a file, or for a folder with one series; uint8 [h, w, 1 or 3].

    CT: slices through three windows. MR and PET: `volumes.planes`. Anything else: files and their frames in order.

    Raises:
        DataError: see `slices_of`, `ordered`, `picture` and `planes`.
    """
    files = Files({} if path.is_dir() else {path: _read(path)})
    slices = ordered(slices_of(path, files))
    if slices[0].modality in ("MR", "PT"):
        return _planes(slices, files, path)
    pictures = []
    for one in (slices[place] for place in chosen(len(slices))):
        with _naming(one.path, path):
            dataset = files.whole(one.path)
            flat = picture(dataset, one.frame)
            pictures.append(_turned(flat, one) if one.modality in VOLUMES else upright(flat, dataset))
    return pictures


def slices_of(path: Path, files: Files) -> list[Slice]:
    """Returns the frames of a file, or of all files in a folder.

    Raises:
        DataError: a file is no DICOM file or no picture, or identifies a patient; or the folder is empty or holds
            folders.
    """
    if path in files.read or not path.is_dir():
        return list(_frames(path, files))
    inside = sorted(file for file in path.iterdir() if not BESIDE.search(file.name))
    if not 0 < len(inside) <= _MOST:
        raise DataError(f"{len(inside)} files are none, or more than {_MOST:,}, for one series")
    slices: list[Slice] = []
    for file in inside:
        with _naming(file, path):
            slices += _frames(file, files)
    return slices


def ordered(slices: Sequence[Slice]) -> list[Slice]:
    """Returns the slices of one series in order: by position, or by number where the modality makes no volumes.

    Raises:
        DataError: there are two series or patients, sizes or orientations differ, a slice is missing, stands twice or
            has no position.
    """
    first = slices[0]
    for name, text in (
        ("series", "holds two series, where each needs its own folder"),
        ("patient", "holds slices of two patients, where each needs an own folder"),
        ("modality", "holds two modalities, where each needs its own folder"),
    ):
        if any(getattr(one, name) != getattr(first, name) for one in slices):
            raise DataError(text)
    if first.modality not in VOLUMES or len(slices) == 1:
        return sorted(slices, key=lambda one: (one.number, one.frame))
    for one in slices:
        if (
            len(one.position) != 3
            or len(one.orientation) != 6
            or not np.isfinite([*one.position, *one.orientation]).all()
        ):
            raise DataError(f"{one.path.name}: a slice without position or orientation")
        if one.size != first.size:
            raise DataError(f"{one.path.name}: a slice of another size than the others in its series")
        if not np.allclose(one.orientation, first.orientation, atol=1e-3):
            raise DataError(f"{one.path.name}: a slice of another orientation than the others in its series")
    return _stacked(slices)


def _stacked(slices: Sequence[Slice]) -> list[Slice]:
    """Slices of one size and orientation by position, none missing and none twice."""
    slices = sorted(slices, key=lambda one: one.depth)
    steps = np.diff([one.depth for one in slices])
    if steps.min() < 1e-3:
        twice = slices[int(np.argmin(steps)) + 1]
        raise DataError(f"{twice.path.name}: lies where another slice does (an echo, phase or reconstruction too many)")
    if steps.max() > _GAP * steps.min():
        before = slices[int(np.argmax(steps))]
        raise DataError(f"{before.path.name}: a slice is missing after this one, of which {len(slices)} are there")
    return slices


def _frames(path: Path, files: Files) -> Iterator[Slice]:
    if path not in files.read and path.is_dir():
        raise DataError("a folder inside a series; a case's folder holds its slices, without folders between")
    dataset = files.header(path)
    ids = (str(dataset.get(name) or "") for name in ("SeriesInstanceUID", "PatientID", "Modality"))
    series, patient, modality = ids
    size, number = (int(dataset.Rows), int(dataset.Columns)), next(iter(_floats(dataset, "InstanceNumber")), 0.0)
    for frame in range(int(dataset.get("NumberOfFrames") or 1)):
        position = frame_facts(dataset, frame, "PlanePositionSequence")
        orientation = frame_facts(dataset, frame, "PlaneOrientationSequence")
        places = _floats(orientation, "ImageOrientationPatient"), _floats(position, "ImagePositionPatient")
        yield Slice(path, frame, series, patient, modality, size, number, *places)


@contextmanager
def _naming(file: Path, case: Path) -> Iterator[None]:
    """Puts the file's name before an error, where the case is a folder and so would not tell which one."""
    try:
        yield
    except DataError as error:
        raise (error if file == case else DataError(f"{file.name}: {error}")) from error


def _read(path: Path, *, pixels: bool = True) -> Any:
    dataset = read_dataset(path, pixels=pixels)
    check_image(dataset)
    check_identity(dataset, path.parent)
    return dataset


def _floats(facts: Any, name: str) -> tuple[float, ...]:
    value = facts.get(name)
    try:
        return () if value is None else (float(value),) if isinstance(value, _ONE) else tuple(map(float, value))
    except (TypeError, ValueError):
        return ()


@lru_cache(maxsize=64)
def _axes(orientation: tuple[float, ...]) -> Array:
    across, down = np.asarray(orientation, np.float64).reshape(2, 3)
    return np.stack([np.cross(across, down), down, across])


def _turned(flat: Pixels, one: Slice) -> Pixels:
    """A slice turned as all others are, whatever way it was stored."""
    turned = canonical(flat[None], one.axes)
    return np.squeeze(turned, axis=turned.shape.index(1))


def _planes(slices: Sequence[Slice], files: Files, path: Path) -> list[Pixels]:
    rows, columns = slices[0].size
    if len(slices) * rows * columns > MAX_VOXELS:
        raise DataError(f"{len(slices)} slices of {columns} x {rows} voxels are more than {MAX_VOXELS:,}")
    volume = np.empty((len(slices), rows, columns), np.float32)
    mask = np.empty(volume.shape, bool)
    for place, one in enumerate(slices):
        with _naming(one.path, path):
            dataset = files.whole(one.path)
            stored, scale = stored_frame(dataset, one.frame), scale_of(dataset, one.frame)
        volume[place] = scale.measure(stored)
        mask[place] = ~scale.is_padding(stored) & (volume[place] != 0)
    axes = slices[0].axes
    return planes(canonical(volume, axes), canonical(mask, axes))
