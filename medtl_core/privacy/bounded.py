"""A sum that carries its sensitivity: what a private task hands to the gate, which alone adds noise."""

from collections.abc import Mapping
from dataclasses import dataclass

from medtl_core.values import Update


@dataclass(frozen=True)
class Bounded:
    """Named sums over one hospital's patients, each clipped so that one patient moves it by a known length at most.

    Attributes:
        update: float64 arrays by name.
        sensitivity: by the same names, the largest L2 norm by which adding or removing one patient changes the array.

    Guarantee:
        None by itself: it holds private values and never leaves the process. `privacy.gate` adds the noise.
    """

    update: Update
    sensitivity: Mapping[str, float]

    def __post_init__(self) -> None:
        if self.update.arrays.keys() != self.sensitivity.keys():
            names = sorted(self.update.arrays)
            raise ValueError(f"sensitivities are for {sorted(self.sensitivity)}, arrays are {names}")
