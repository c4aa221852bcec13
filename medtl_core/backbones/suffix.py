"""The last blocks of a backbone and a head as one network: what private training differentiates, case by case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import final

from torch import Tensor, cat, nn
from torch.nn import functional

#: Keeps a row of zeros finite.
_TINY = 1e-12


@dataclass(frozen=True)
class Reading:
    """How a suffix is fed and read.

    Attributes:
        shape: of what the first unit reads of one case.
        taps: positions of the units whose output is read, from the shallowest.
        pool: from a unit's output to [n, channels]; no case may touch another.
    """

    shape: tuple[int, ...]
    taps: tuple[int, ...]
    pool: Callable[[Tensor], Tensor]


@final
class Suffix(nn.Module):
    """Maps one vector a case, the first unit's input and the taps read before it, to logits of a head on unit rows.

    Units and head can be trained; the map from features to rows (see `methods.private.public_pca`) is constant.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor

    def __init__(
        self, units: Sequence[nn.Module], reading: Reading, constants: Mapping[str, Tensor], classes: int
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.head = nn.Linear(constants["basis"].shape[1], classes)
        for name in ("mean", "scale", "basis"):
            self.register_buffer(name, constants[name])
        self._reading = reading

    def forward(self, values: Tensor) -> Tensor:
        """Returns logits [n, C] for values [n, prod(shape) + shallow]."""
        rows = ((self.features(values) - self.mean) / self.scale) @ self.basis
        logits: Tensor = self.head(functional.normalize(rows, dim=1, eps=_TINY))
        return logits

    def features(self, values: Tensor) -> Tensor:
        """Returns the features [n, d]: the shallow taps, then those of the units."""
        size = prod(self._reading.shape)
        read, found = values[:, :size].reshape(-1, *self._reading.shape), [values[:, size:]]
        for place, unit in enumerate(self.units):
            read = unit(read)
            if place in self._reading.taps:
                found.append(self._reading.pool(read))
        return cat(found, dim=1)
