"""The most similar cases among the hospital's own: found on this machine, shown to who asked, never sent."""

from dataclasses import dataclass
from typing import Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.data.source import Source
from medtl_core.errors import ConfigError
from medtl_core.features.dataset import Material
from medtl_core.values import Array, Examples

#: Cases that are named.
NAMED = 3


@dataclass(frozen=True)
class Near:
    """A case of the hospital's own.

    Attributes:
        name: its file, or its place among the cases that were read.
        label: its class.
        cosine: of the angle between its features and those asked about, each column standardised over the own cases.
    """

    name: str
    label: str
    cosine: float


@final
@dataclass(frozen=True)
class OwnCases:
    """A hospital's own cases in the features that a head reads.

    Attributes:
        names, labels: of each case.
        mean, scale: of each column [d].
        rows: unit vectors of the standardised features [n, d].
        examples: the cases themselves.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    rows: NDArray[np.float64]
    examples: Examples

    @classmethod
    def of(cls, source: Source, settings: Settings, views: tuple[str, ...], workers: int = 1) -> Self:
        """Returns a hospital's cases, read as a head reads them; their features are kept where the settings say.

        Raises:
            ConfigError: the cases have several findings each, or other columns than the head reads.
            DataError, WeightsError: see `Material.features`.
        """
        source.examples.task.tell_classes("--alike")
        material = Material(source.examples, settings, views, source.columns)
        values = material.features(workers).values.astype(np.float64)
        paths = source.examples.columns.get("path")
        names = [f"case {row + 1}" for row in range(len(values))] if paths is None else list(map(str, paths))
        labels = [source.examples.task.classes[label] for label in source.examples["label"].tolist()]
        spread = values.std(axis=0)
        mean, scale = values.mean(axis=0), np.where(spread > 0, spread, 1.0)
        return cls(tuple(names), tuple(labels), mean, scale, _unit((values - mean) / scale), source.examples)

    def nearest(self, values: Array) -> list[tuple[Near, ...]]:
        """Returns the most similar own cases of each row of features [m, d], the most similar first.

        Raises:
            ConfigError: the rows have other columns.
        """
        if values.shape[1] != len(self.mean):
            raise ConfigError("the cases of --alike have other columns than the head reads")
        cosines = _unit((values.astype(np.float64) - self.mean) / self.scale) @ self.rows.T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :NAMED]
        return [
            tuple(Near(self.names[place], self.labels[place], float(row[place])) for place in places.tolist())
            for row, places in zip(cosines, order, strict=True)
        ]


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1.0))
