"""Why a head answers so, where no exact map is: what a table's columns add, and what covering a place takes away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.images import read_pictures
from medtl_core.data.views import Pixels, square
from medtl_core.features.dataset import Material
from medtl_core.federation.model import Classifier
from medtl_core.predict.attribution import ClassMap, contrast_of
from medtl_core.predict.cases import unlabelled
from medtl_core.values import Array, Head

#: Squares along a side that are covered, one at a time.
GRID = 8


def column_parts(head: Head, row: Array, name: str, columns: Sequence[str]) -> Mapping[str, float]:
    """Returns what each column of a table adds to the logit of a class less the mean of the others', largest first.

    The parts and the biases add up to it. A part counts from a value of 0; a missing cell adds what the head learnt of
    cells that are missing.

    Args:
        head: affine, on a table's columns alone.
        row: features of the case [2 k]: value and whether it is missing, column by column.
        name: of the class.
        columns: k names.
    """
    parts = (contrast_of(head.classes, name) @ head.weight * row).reshape(-1, 2).sum(axis=1)
    order = np.argsort(-np.abs(parts), kind="stable")
    return {columns[place]: float(parts[place]) for place in order.tolist()}


@final
@dataclass(frozen=True)
class Occluder:
    """Covers one square of a picture after the other and asks the head again (Zeiler and Fergus, ECCV 2014).

    It works for any head on images, takes 65 answers a picture, and sees nothing that is smaller than a square or shown
    twice.

    Attributes:
        classifier: what answers.
        settings, views: how its features are made.
        size: side of the map.
    """

    classifier: Classifier
    settings: Settings
    views: tuple[str, ...]
    size: int

    def explain(self, image: Any, name: str) -> list[ClassMap]:
        """Returns a map for each picture of a case: by how much the logit of a class, less the mean of the others',
        falls where a square is covered with the picture's mean colour, spread over the square.

        Raises:
            DataError: the image cannot be read.
        """
        return [ClassMap(picture, self._falls(picture, name)) for picture in read_pictures(image)]

    def _falls(self, picture: Pixels, name: str) -> Array:
        whole = square(picture, self.size)
        edges = np.linspace(0, self.size, GRID + 1).astype(int)
        squares = [(slice(*edges[y : y + 2]), slice(*edges[x : x + 2])) for y in range(GRID) for x in range(GRID)]
        covered = np.repeat(whole[None], len(squares) + 1, axis=0)
        for number, place in enumerate(squares):
            covered[number, *place] = whole.mean(axis=(0, 1))
        material = Material(unlabelled({"image": covered}), self.settings, self.views)
        logits = self.classifier.logits(material.features().values, material) @ contrast_of(
            self.classifier.classes, name
        )
        parts = np.zeros((self.size, self.size))
        for fall, place in zip(logits[-1] - logits[:-1], squares, strict=True):
            parts[place] = fall / parts[place].size
        return parts
