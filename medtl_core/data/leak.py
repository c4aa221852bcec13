"""No patient and no picture on two sides of a partition."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.images import content_key
from medtl_core.errors import DataError
from medtl_core.values import Examples


def check_leaks(examples: Examples, parts_of: Mapping[str, NDArray[np.int64]]) -> None:
    """Refuses sides (train and test, or two hospitals) that share a patient or a byte-equal image.

    Files are only hashed where two have the same length, so a check costs one `stat` a file. Rows of a table are
    compared by patient only: two patients may well have equal values.

    Args:
        examples: the cases.
        parts_of: side name -> rows (int64). Rows on no side are not looked at.

    Raises:
        DataError: names the patient id, or the two images, and the two sides. This text stays in the building.
    """
    sides = list(parts_of)
    rows = np.concatenate([np.asarray(parts_of[side], dtype=np.int64) for side in sides]) if sides else np.empty(0, int)
    side = np.repeat(np.arange(len(sides)), [len(parts_of[name]) for name in sides])
    found = _shared(examples["patient"][rows], side)
    if found is not None:
        raise DataError(
            f"patient {str(examples['patient'][rows[found[0]]])!r} is in {_both(sides, side, found)}: keep all of a "
            "patient's cases on one side; if these are different people, make their ids unique"
        )
    keep, keys = _content_keys(examples, rows)
    found = _shared(keys, side[keep])
    if found is not None:
        names = [_name(examples, int(rows[keep[position]])) for position in found]
        raise DataError(
            f"{names[0]} and {names[1]} are byte-equal images in {_both(sides, side[keep], found)}: remove one of them"
        )


def _shared(keys: NDArray[np.str_], side: NDArray[np.int64]) -> tuple[int, int] | None:
    """Returns two positions with one key on different sides, or None."""
    order = np.lexsort((side, keys))
    for one, other in pairwise(order.tolist()):
        if keys[one] == keys[other] and side[one] != side[other]:
            return one, other
    return None


def _content_keys(examples: Examples, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Returns the positions in `rows` whose image may have a twin, and the keys of those images."""
    if "image" in examples.columns:
        return np.arange(len(rows)), np.asarray([content_key(examples["image"][row]) for row in rows], dtype=np.str_)
    if "path" not in examples.columns:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.str_)
    paths = examples["path"][rows]
    sizes = np.asarray([_size(Path(path)) for path in paths], dtype=np.int64)
    _, code, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    keep = np.flatnonzero(counts[code] > 1)
    return keep, np.asarray([content_key(path) for path in paths[keep]], dtype=np.str_)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: no such image file") from error


def _name(examples: Examples, row: int) -> str:
    return str(examples["path"][row]) if "path" in examples.columns else f"image {row}"


def _both(sides: list[str], side: NDArray[np.int64], found: tuple[int, int]) -> str:
    return " and ".join(repr(sides[int(side[position])]) for position in found)
