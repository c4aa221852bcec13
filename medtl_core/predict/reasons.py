"""Why a head answers so, where no exact map is: what a table's columns add, and what covering a place takes away."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, final, runtime_checkable

import numpy as np

from medtl_core.config import Settings
from medtl_core.data.images import read_pictures
from medtl_core.data.views import Pixels, square
from medtl_core.errors import ConfigError
from medtl_core.features.dataset import Material, absent_row
from medtl_core.features.spec import Spec
from medtl_core.federation.model import Classifier
from medtl_core.predict.attribution import ClassMap, contrast_of
from medtl_core.predict.cases import unlabelled
from medtl_core.values import Array, Head

#: Share of the largest weight below which one is what rounding left of none.
_ROUNDING = 1e-7
#: Squares along a side that are covered, one at a time.
GRID = 8


@runtime_checkable
class Fusing(Protocol):
    """A model that knows what each kind of a case, such as its image or its note, adds to an answer.

    Attributes:
        members: names of the kinds, M of them.
    """

    members: tuple[str, ...]

    def shares(self, values: Array) -> Array:
        """Returns what each kind adds to the logits of cases [n, d], float64 [M, n, C]: zeros where a case lacks it."""


def check_explained(classifier: Classifier, settings: Settings) -> None:
    """Refuses to explain what tells no parts.

    Raises:
        ConfigError: it reads one kind, and is no affine head on a table.
    """
    if len(settings.kinds) == 1 and (not isinstance(classifier, Head) or settings.backbone != "table"):
        raise ConfigError("parts of columns are told of affine heads on tables; of images draw maps (--maps)")


def spans_of(spec: Spec, settings: Settings) -> Mapping[str, tuple[int, int]]:
    """Returns the columns of each backbone that a head reads, by its name, from the first to behind the last."""
    spans, start = dict[str, tuple[int, int]](), 0
    for record, chosen in spec.parts(settings):
        spans[chosen.backbone] = start, start + record.width
        start += record.width
    return spans


def lacking(classifier: Classifier, row: Array, columns: Sequence[str] = ()) -> str:
    """Returns in words why a case (features [d]) has no answer: it has none of the kinds, or lacks one of a table's
    columns, which no case did that the head learnt from; "" = it has one.
    """
    if isinstance(classifier, Head):  # asked first: telling a protocol takes a hundred times as long
        size = np.abs(classifier.weight[:, : 2 * len(columns)]).max(axis=0)  # of each column, and of its being empty
        used = size > _ROUNDING * size.max(initial=0.0)
        gone = np.flatnonzero(row[1 : 2 * len(columns) : 2].astype(bool) & used[::2] & ~used[1::2])
        if len(gone):
            return f"column {columns[gone[0]]!r} is empty, and no case that the head learnt from lacked it"
        return ""
    nothing = isinstance(classifier, Fusing) and not classifier.shares(row[None]).any()
    return "it has none of the kinds that the head reads" if nothing else ""


def parts_of_case(
    classifier: Classifier,
    row: Array,
    name: str,
    columns: Sequence[str] = (),
    spans: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> Mapping[str, float]:
    """Returns what each kind of a case adds to the logit of a class less the mean of the others', largest first.

    Of a model of several kinds that knows it, it is what each kind's own head adds; of an affine head that knows the
    means of its training cases, what it adds beyond these; of any other what is lost where the case lacks the kind. Of
    a head on a table alone they are `column_parts`.

    Args:
        classifier: for which `check_explained` holds.
        row: features of the case [d].
        name: of the class.
        columns: of the table, where there is one.
        spans: of several kinds; see `spans_of`.
    """
    contrast = contrast_of(classifier.classes, name)
    if isinstance(classifier, Fusing):
        shares = classifier.shares(row[None])[:, 0] @ contrast
        parts = dict(zip(classifier.members, shares.tolist(), strict=True))
    elif isinstance(classifier, Head) and (kinds := classifier.facts.get("kinds")):
        told = {kind: classifier.weight[:, start:stop] @ row[start:stop] for kind, (start, stop, _) in kinds.items()}
        parts = {kind: float(contrast @ (told[kind] - np.asarray(mean))) for kind, (_, _, mean) in kinds.items()}
    elif spans:
        rows = np.repeat(row[None], len(spans) + 1, axis=0)
        for lacking, (kind, (start, stop)) in zip(rows[1:], spans.items(), strict=True):
            lacking[start:stop] = absent_row(stop - start, kind == "table")
        whole, *less = (classifier.logits(rows) @ contrast).tolist()
        parts = {kind: whole - one for kind, one in zip(spans, less, strict=True)}
    else:
        assert isinstance(classifier, Head), "see `check_explained`"
        return column_parts(classifier, row, name, columns)
    return dict(sorted(parts.items(), key=lambda part: -abs(part[1])))


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
