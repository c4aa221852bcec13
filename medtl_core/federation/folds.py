"""Named arrays of replies, added as they come: memory holds one total, never a list of all updates.

Replies come in order of hospital name, so the floating-point sum, and with it every head, has the same bytes on every
road and for every number of workers.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from medtl_core.errors import RunError
from medtl_core.values import Array

Arrays = Mapping[str, Array]


def total(updates: Iterable[Arrays]) -> dict[str, Array]:
    """Returns the sum of named arrays in float64.

    Raises:
        RunError: there was nothing to add.
    """
    return _fold((arrays, 1.0) for arrays in updates)[0]


def weighted_mean(updates: Iterable[tuple[Arrays, float]]) -> dict[str, Array]:
    """Returns the mean of named arrays, each update weighted by the agreed number of its cases.

    Raises:
        RunError: there was nothing to add, as in `total`.

    Example:
        >>> weighted_mean([({"a": np.array([1.0])}, 1), ({"a": np.array([4.0])}, 2)])["a"].tolist()
        [3.0]
    """
    running, weight = _fold(updates)
    return {name: array / weight for name, array in running.items()}


def _fold(updates: Iterable[tuple[Arrays, float]]) -> tuple[dict[str, Array], float]:
    running: dict[str, Array] = {}
    weight = 0.0
    for arrays, share in updates:
        weight += share
        for name, array in arrays.items():
            part = np.multiply(array, share, dtype=np.float64)
            running[name] = np.add(running[name], part, out=running[name]) if name in running else part
    if weight <= 0:
        raise RunError("no usable reply to aggregate; see the failures in events.jsonl")
    return running, weight


def parted(vector: Array, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """Returns named arrays of a vector in which they lie one behind the other, in the order of `shapes`.

    Example:
        >>> parted(np.arange(3.0), {"weight": (1, 2), "bias": (1,)})
        {'weight': array([[0., 1.]]), 'bias': array([2.])}
    """
    stops = np.cumsum([int(np.prod(shape)) for shape in shapes.values()])[:-1]
    parts = zip(shapes.items(), np.split(vector, stops), strict=True)
    return {name: part.reshape(shape) for (name, shape), part in parts}
