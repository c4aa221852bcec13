"""How cases of several modalities become rows: side by side a part for each, of length one under its own public map.

What a case lacks is a part of zeros; no map gives such a part for what is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import absent_row
from medtl_core.heads.statistics import Float
from medtl_core.methods.models.fused import Modality
from medtl_core.privacy.patients import PublicMap, unit
from medtl_core.values import Array


@dataclass(frozen=True)
class JointMap:
    """Public maps of several modalities.

    Attributes:
        mean, scale: float64 [d], of public features.
        basis: float64 [d, k], zero where a direction is of another modality than the feature.
        of: float64 [d], the number of each feature's modality.
        absent: float64 [d], what the features of a modality are that a case lacks.
        part: float64 [k], the number of each direction's modality.

    Guarantee:
        Whatever the map is, each of the M parts of a row has length at most one, and so the row times `share` at most
        one: nothing rests on the map's being well chosen.
    """

    mean: Float
    scale: Float
    basis: Float
    of: Float
    absent: Float
    part: Float

    @property
    def arrays(self) -> dict[str, Array]:
        """As they are sent."""
        return {name: getattr(self, name) for name in ("mean", "scale", "basis", "of", "absent", "part")}

    @classmethod
    def received(cls, arrays: Mapping[str, Array]) -> Self:
        """Returns the map in a message."""
        names = ("mean", "scale", "basis", "of", "absent", "part")
        return cls(*(arrays[name].astype(np.float64) for name in names))

    @classmethod
    def of_parts(cls, parts: Sequence[Modality], maps: Sequence[PublicMap]) -> Self:
        """Returns the maps of modalities, each of its own columns, as one."""
        wide = [np.zeros((parts[-1].stop, one.basis.shape[1])) for one in maps]
        for part, one, columns in zip(parts, maps, wide, strict=True):
            columns[part.start : part.stop] = one.basis
        absent = [absent_row(part.stop - part.start, part.table) for part in parts]
        return cls(
            np.concatenate([one.mean for one in maps]),
            np.concatenate([one.scale for one in maps]),
            np.concatenate(wide, axis=1),
            np.repeat(np.arange(float(len(parts))), [part.stop - part.start for part in parts]),
            np.concatenate(absent),
            np.repeat(np.arange(float(len(parts))), [one.basis.shape[1] for one in maps]),
        )

    @property
    def numbers(self) -> Float:
        """The numbers of the modalities, M of them."""
        return np.unique(self.part)

    @property
    def share(self) -> float:
        """1 / sqrt M."""
        return float(1.0 / np.sqrt(len(self.numbers)))

    def rows(self, values: NDArray[np.floating]) -> Float:
        """Returns rows [n, k] of features [n, d], whose parts have length one, or zero where a case lacks them."""
        wide, rows = np.asarray(values, np.float64), np.zeros((len(values), len(self.part)))
        for number in self.numbers:
            mine, directions = self.of == number, self.part == number
            there = (wide[:, mine] != self.absent[mine]).any(axis=1)
            with np.errstate(all="ignore"):
                read = ((wide[:, mine] - self.mean[mine]) / self.scale[mine]) @ self.basis[np.ix_(mine, directions)]
                rows[:, directions] = np.where(there[:, None], unit(read), 0.0)
        return rows

    def there(self, rows: Float) -> NDArray[np.bool_]:
        """Returns which directions are of a modality that each row [n, k] has, bool [n, k]."""
        found = np.zeros(rows.shape, bool)
        for number in self.numbers:
            directions = self.part == number
            found[:, directions] = (rows[:, directions] != 0).any(axis=1, keepdims=True)
        return found
