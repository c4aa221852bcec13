"""Classifiers beyond the affine head: arrays that travel and are saved, and a way to answer from them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.values import Packed

__all__ = ["Classifier", "Model", "Packed"]


class Classifier(Protocol):
    """Whatever turns cases into logits: a `Head` (affine on the agreed features) or a `Model`."""

    @property
    def kind(self) -> str:
        """The method that made it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In order."""

    @property
    def fingerprint(self) -> str:
        """Of the agreed features."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON-able remarks."""

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """Returns float64 [n, C] for the agreed features [n, d] and the cases behind them."""


class Model(ABC):
    """A classifier that needs more than one matrix. Subclasses are frozen dataclasses, listed in `MODELS` tables."""

    #: Names the class in manifests and messages.
    kind: ClassVar[str]
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any]

    @abstractmethod
    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """Returns float64 [n, C].

        Args:
            values: the agreed features, float [n, d].
            material: the n cases themselves; a model that reads images raises DataError without them.
        """

    @abstractmethod
    def pack(self) -> Packed:
        """Returns the model as arrays and flat values."""

    @classmethod
    @abstractmethod
    def unpack(cls, packed: Packed) -> Self:
        """Returns the model that `pack` took apart.

        Raises:
            WeightsError: arrays are missing or do not fit together.
        """
