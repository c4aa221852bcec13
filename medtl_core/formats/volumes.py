"""From a volume or a stack of slices to the few pictures that stand for it, each seen from the same side.

Axes are those of DICOM: x grows to the patient's left, y to the back, z to the head.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import DataError
from medtl_core.formats.windows import robust_window
from medtl_core.values import Array

#: Pictures of a stack: slices or frames, evenly spaced.
SLICES = 12
#: Pictures of a volume in each of the three planes.
IN_PLANE = 4
#: Voxels of a volume: 512 x 512 x 512.
MAX_VOXELS = 1 << 27
#: A plane that is thinner than this shows nothing.
THINNEST = 8
#: Which way rows and columns run in every picture: to the left, to the back, and down from the head.
_SIGNS = (1.0, 1.0, -1.0)


def chosen(count: int, most: int = SLICES) -> list[int]:
    """Returns the places of at most so many slices, each in the middle of an equal share.

    Example:
        >>> chosen(8, 4), chosen(3)
        ([1, 3, 5, 7], [0, 1, 2])
    """
    return list(range(count)) if count <= most else [int((place + 0.5) * count / most) for place in range(most)]


def canonical(values: Array, axes: Array) -> Array:
    """Returns a volume as [z, y, x, ...], from head to feet, front to back and the patient's right to left.

    Slices that lie aslant go to the nearest axis; nothing is interpolated.

    Args:
        values: [a, b, c, ...].
        axes: float [3, 3]; row d is the direction in which index d grows.

    Raises:
        DataError: the directions are no axes.
    """
    turned, dims = _turns(tuple(np.asarray(axes, np.float64).reshape(-1).tolist()))
    return values[turned].transpose(*dims, *range(3, values.ndim))


@lru_cache(maxsize=64)
def _turns(axes: tuple[float, ...]) -> tuple[tuple[slice, ...], tuple[int, ...]]:
    """Which indices of a volume are turned round, and the order of its indices."""
    rows = np.reshape(axes, (3, 3))
    if not np.isfinite(rows).all() or (np.linalg.norm(rows, axis=1) == 0).any():
        raise DataError("its orientation is damaged")
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    order = max(permutations(range(3)), key=lambda place: sum(abs(rows[d, place[d]]) for d in range(3)))
    turned = tuple(slice(None, None, -1 if rows[d, order[d]] * _SIGNS[order[d]] < 0 else 1) for d in range(3))
    return turned, tuple(order.index(axis) for axis in (2, 1, 0))


def planes(volume: Array, mask: NDArray[np.bool_]) -> list[NDArray[np.uint8]]:
    """Returns `IN_PLANE` pictures of each plane, uint8 [h, w, 3]: a slice between its two neighbours.

    The grey runs between two percentiles of the values in the mask, so that it depends on this volume alone and on no
    scanner's unit. Planes in which the volume is thin are left out.

    Args:
        volume: numbers [z, y, x], as `canonical` returns them.
        mask: bool [z, y, x], where there is something to see.

    Raises:
        DataError: the volume is thin in every plane, or its values are all alike.
    """
    window = robust_window(volume, mask)
    if window is None:
        raise DataError("its values are all alike")
    return [np.moveaxis(window.grey(three), 0, -1) for three in _threes(volume)]


def grey_planes(volume: Array) -> list[NDArray[np.uint8]]:
    """Returns the same pictures of a volume [z, y, x] whose values are grey levels already, uint8.

    Raises:
        DataError: they are of another type, or the volume is thin in every plane.
    """
    if volume.dtype != np.uint8:
        raise DataError(f"shape {volume.shape} is a volume, whose type {volume.dtype} states no grey levels")
    return [np.ascontiguousarray(np.moveaxis(three, 0, -1)) for three in _threes(volume)]


def _threes(volume: Array) -> Iterator[Array]:
    if sorted(volume.shape)[1] < THINNEST:
        raise DataError(f"its {' x '.join(map(str, volume.shape))} voxels are too few for a picture")
    for axis in range(3):
        along = np.moveaxis(volume, axis, 0)
        if min(along.shape[1:]) < THINNEST:
            continue
        for place in chosen(len(along), IN_PLANE):
            near = np.clip([place - 1, place, place + 1], 0, len(along) - 1)
            three = along[near]
            # what is no number (outside the brain, in some tools' files) is as dark as can be
            yield np.where(np.isfinite(three), three, -np.inf) if three.dtype.kind == "f" else three
