"""A folder with one sub-folder a class, optionally below train, val and test."""

import logging
from pathlib import Path

import numpy as np

from medtl_core.data.images import SUFFIXES
from medtl_core.data.table import SPLITS, USABLE
from medtl_core.errors import DataError, did_you_mean
from medtl_core.values import Examples, Task

_LOG = logging.getLogger("medtl")


def read_folder(folder: Path, task: Task | None = None, *, lenient: bool = False) -> Examples:
    """Returns the images of class folders; files are looked at by `check_images`, not here.

    Nothing says whose image it is, so every file counts as one patient, and all are one site. Give a `manifest.csv`
    where a patient has several images.

    Args:
        folder: holds CLASS/*.png or SPLIT/CLASS/*.png, split being train, val or test.
        task: the agreed classes; None takes the class folders, sorted (those of train where there are splits).
        lenient: whether folders without images, or of no known class, are left out; the rest is marked as usable.

    Raises:
        DataError: no class folder, an empty one, a class that train does not know, or files of another format.
    """
    levels = [name for name in SPLITS if (folder / name).is_dir()]
    if levels and "train" not in levels:
        raise DataError(f"{folder} has {', '.join(levels)} but no train folder")
    roots = {name: folder / name for name in levels} or {"train": folder}
    folders = {split: _class_folders(root) for split, root in roots.items()}
    if not folders["train"]:
        raise DataError(
            f"{roots['train']} is no known data set: no manifest.csv, no .npz of a known set and no class folders in it"
        )
    task = task or Task(folder.name, tuple(sorted(folders["train"])))
    rows: list[tuple[str, int, str]] = []
    for split, classes in folders.items():
        for name, place in classes.items():
            if name not in task.classes and not lenient:
                raise DataError(f"{place}: class {name!r} is not known; {did_you_mean(name, task.classes)}")
            if name in task.classes:
                rows += [(str(path), task.classes.index(name), split) for path in _images(place, lenient)]
            else:
                _LOG.warning("%s: class %r is not known; left out", place, name)
    columns = {
        "label": np.asarray([label for _, label, _ in rows], dtype=np.int64),
        "path": np.asarray([path for path, _, _ in rows], dtype=np.str_),
        "split": np.asarray([split for _, _, split in rows], dtype=np.str_),
        "patient": np.asarray([str(Path(path).relative_to(folder)) for path, _, _ in rows], dtype=np.str_),
        "site": np.full(len(rows), "site"),
    }
    return Examples(columns | ({USABLE: np.ones(len(rows), dtype=bool)} if lenient else {}), task)


def _class_folders(root: Path) -> dict[str, Path]:
    places = sorted(root.iterdir())
    return {place.name: place for place in places if place.is_dir() and not place.name.startswith(".")}


def _images(place: Path, lenient: bool) -> list[Path]:
    files = sorted(path for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not images and not lenient:
        kinds = ", ".join(sorted({path.suffix or path.name for path in files})[:5]) or "nothing"
        raise DataError(f"{place} holds no image ({', '.join(SUFFIXES)}); found {kinds}")
    return images
