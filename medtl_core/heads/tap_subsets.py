"""Which feature columns a head may read: runs of neighbouring taps, and backbones side by side."""

from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.closed_form import Family
from medtl_core.heads.statistics import Float, Statistics

Groups = tuple[tuple[str, int, int], ...]


def column_choices(groups: Groups) -> dict[str, NDArray[np.int64]]:
    """Returns every run of neighbouring taps of one backbone, and every union of whole backbones, with its columns.

    Args:
        groups: (tap, start, stop) of the feature columns; of several backbones, taps are named "BACKBONE:TAP".

    Example:
        >>> list(column_choices((("4", 0, 2), ("7", 2, 4), ("10", 4, 6))))
        ['4', '4+7', '4+7+10', '7', '7+10', '10']
        >>> list(column_choices((("a:1", 0, 2), ("a:2", 2, 4), ("b:1", 4, 6))))
        ['a:1', 'a:1+a:2', 'a:2', 'b:1', 'a:1+a:2+b:1']
    """
    backbones: dict[str, list[tuple[str, int, int]]] = {}
    for group in groups:
        backbones.setdefault(group[0].rpartition(":")[0], []).append(group)
    chosen = [
        taps[first:last]
        for taps in backbones.values()
        for first in range(len(taps))
        for last in range(first + 1, len(taps) + 1)
    ]
    for size in range(2, len(backbones) + 1):
        chosen += [list(chain.from_iterable(union)) for union in combinations(backbones.values(), size)]
    return {
        "+".join(name for name, _, _ in taps): np.concatenate([np.arange(start, stop) for _, start, stop in taps])
        for taps in chosen
    }


@dataclass(frozen=True)
class OnColumns(Family):
    """A family that reads some feature columns only; its heads are as wide as all features, zero elsewhere.

    Attributes:
        strengths: the family's.
        family: of the heads.
        columns: int64 [k], that it reads.
    """

    family: Family
    columns: NDArray[np.int64]

    def heads(self, statistics: Statistics) -> Float:
        """See Family."""
        narrow = self.family.heads(statistics.select(self.columns))
        wide = np.zeros((*narrow.shape[:2], statistics.sums.shape[1] + 1))
        wide[:, :, self.columns], wide[:, :, -1] = narrow[:, :, :-1], narrow[:, :, -1]
        return wide
