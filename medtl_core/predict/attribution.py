"""Where in a picture an answer comes from: exact class activation maps of a linear head on pooled maps.

A feature is a mean over the positions of a map, so a linear head's logit is a sum over positions (Zhou et al., CVPR
2016). The same holds of the mean weighted at the centre, and of the standard deviation, which is the mean of
(x - mean)^2 / deviation. So the terms of all taps and views add up to the logit less its bias, whatever the network.

Much of such a map is what every picture has at that place. Less the mean maps of cases of the other classes it says
what this one has beyond them; the parts then add up to the difference of the logits (a baseline, as in Sundararajan et
al., ICML 2017). It is drawn in what each term deviates by over these cases, lest the loudest term drown the others.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.images import read_pictures
from medtl_core.data.views import VIEWS, Pixels, square
from medtl_core.features.extract import FeatureSpec, images_of
from medtl_core.predict.tap_maps import Read
from medtl_core.values import Array, Examples, Head

Float = NDArray[np.float64]

#: View -> what undoes it, where it does not undo itself.
_BACK = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}
#: Maps of heads whose columns were shuffled that a map is compared with.
SHUFFLED = 8
#: Cases at most that a map is compared with: as many of each class, spread over all; and fewest of a class that have a
#: deviation.
COMPARED, _FEWEST = 96, 2
#: Width of the Gaussian that smooths a difference of maps, in cells of the coarsest one (docs/predict.md), and how
#: coarse that counts at most: a map of a single cell says nothing of places, and would smooth the others away.
_SMOOTH, _COARSEST = 0.75, 4


@dataclass(frozen=True)
class ClassMap:
    """What every position of a picture adds to a class against the others.

    Attributes:
        picture: uint8 [h, w, 3], as the case was decoded.
        parts: float64 [s, s]; their sum is the logit of the class less the mean of the others', without their biases,
            where the map is exact. Where cases were compared, the others are the classes of these, and the sum is less
            the mean over them of what it is for their cases.
        deviations: the same in deviations over the cases compared, [s, s]; None = none were.
    """

    picture: Pixels
    parts: Float
    deviations: Float | None = None

    @property
    def strength(self) -> Float:
        """The parts as they are drawn and pointed with: in deviations where cases were compared."""
        return self.parts if self.deviations is None else self.deviations

    def shown(self) -> Pixels:
        """Returns the picture in grey, uint8 [s, s, 3], red where it speaks for the class and blue where against."""
        side = len(self.parts)
        grey = square(self.picture, side).astype(np.float64).mean(axis=2)
        drawn = self.strength
        depth = _sharpened(np.abs(drawn))[..., None] * 0.6
        colour = np.where(drawn[..., None] > 0, [214.0, 39.0, 40.0], [31.0, 119.0, 180.0])
        return np.asarray((1 - depth) * grey[..., None] + depth * colour).astype(np.uint8)


@final
class Attributor:
    """Explains the answers of an affine head on images.

    Args:
        head: affine, on features of images.
        records: of these features; see `TapMaps.records`.
        maps: what reads a picture's maps under them.
    """

    def __init__(self, head: Head, records: Sequence[FeatureSpec], maps: Callable[[Pixels], Read]) -> None:
        self._head, self._records, self._maps = head, records, maps
        self._known = dict[int, list[NDArray[np.float32]]]()
        self.size = max(record.size for record in records)

    def against(self, cases: Examples) -> Self:
        """Returns one whose maps tell what a case has beyond others: cases of the other classes.

        Args:
            cases: labelled images, of which `COMPARED` at most are read; of a class with a single one none is.

        Raises:
            DataError: an image cannot be read.
        """
        other = copy(self)
        other._known = {}
        for rows in some_of_each(cases["label"], COMPARED):
            name = cases.task.classes[int(cases["label"][rows[0]])]
            if name in self._head.classes and len(rows) >= _FEWEST:
                read = [[self._smoothed(one) for one in self._pictures(case)] for case in images_of(cases.take(rows))]
                terms = [[np.mean(term, axis=0) for term in zip(*pictures, strict=True)] for pictures in read]
                every = [np.asarray(term, np.float32) for term in zip(*terms, strict=True)]
                other._known[self._head.classes.index(name)] = every
        return other

    def explain(self, image: Any, name: str) -> list[ClassMap]:
        """Returns a map for each picture of a case, of what speaks for the class `name`.

        Raises:
            ConfigError: the network's taps give no maps.
            DataError: the image cannot be read.
        """
        return [self._map(picture, name) for picture in self._pictures(image)]

    def likeness(self, image: Any, name: str, *, rng: np.random.Generator) -> float:
        """Returns how alike the map is to those of a meaningless head: the mean correlation with such maps.

        A map that stays the same when the head's columns are shuffled shows the network's picture and not what the head
        learnt (Adebayo et al., NeurIPS 2018).
        """
        contrast, (picture, *_) = contrast_of(self._head.classes, name), self._pictures(image)
        row, read, widths = contrast @ self._head.weight, self._maps(picture), [one.width for one in self._records]
        own, found = self._sum(self._terms(read, row[None])), []
        for _ in range(SHUFFLED):
            parts = np.split(row, np.cumsum(widths)[:-1])
            shuffled = np.concatenate([part[rng.permutation(len(part))] for part in parts])
            found.append(correlation(own, self._sum(self._terms(read, shuffled[None]))))
        return float(np.mean(found))

    def _map(self, picture: Pixels, name: str) -> ClassMap:
        place = self._head.classes.index(name)
        others = {number: terms for number, terms in self._known.items() if number != place}
        if not others:
            row = contrast_of(self._head.classes, name) @ self._head.weight
            return ClassMap(picture, self._sum(self._terms(self._maps(picture), row[None])))
        seen = self._smoothed(picture)
        parts, deviations = np.zeros((self.size, self.size)), np.zeros((self.size, self.size))
        for number, terms in others.items():
            for own, known in zip(seen, terms, strict=True):
                usual = (known[:, place] - known[:, number]).astype(np.float64)
                beyond, scale = own[place] - own[number] - usual.mean(axis=0), usual.std(axis=0)
                parts += spread(beyond, self.size) / len(others)
                # The mean deviation is added to each, lest a place where all cases are alike outshine the rest.
                deviations += enlarged(beyond / np.maximum(scale + scale.mean(), 1e-12), self.size) / len(others)
        return ClassMap(picture, parts, deviations)

    def _smoothed(self, picture: Pixels) -> list[Float]:
        """The terms of every class's logit, smoothed over as much of the picture in each."""
        from scipy.ndimage import gaussian_filter

        terms = self._terms(self._maps(picture), self._head.weight)
        coarsest = max(min(len(term[0]) for term in terms), _COARSEST)
        widths = [_SMOOTH * len(term[0]) / coarsest for term in terms]  # mirrored edges keep the sum
        return [gaussian_filter(one, (0, wide, wide), mode="reflect") for one, wide in zip(terms, widths, strict=True)]

    def _pictures(self, image: Any) -> Sequence[Pixels]:
        return read_pictures(image, robust=self._records[0].version > 2)

    def _terms(self, read: Read, weight: Float) -> list[Float]:
        """What each position adds to some sums [k, d] of the features: a map [k, h, w] of every tap's means, of its
        deviations and of its centres, meaned over the views.
        """
        whole, start = list[Float](), 0
        for record, views in zip(self._records, read, strict=True):
            for tap, first, last in record.groups:
                rows = weight[:, start + first : start + last]
                told = [_of_tap(maps[tap], rows, record.pooling) for maps in views]
                seen = [turned_back(one, view) for view, one in zip(record.views, told, strict=True)]
                whole += [*np.mean(seen, axis=0).transpose(2, 3, 0, 1)]
            start += record.width
        return whole

    def _sum(self, terms: Sequence[Float]) -> Float:
        """A single sum's terms [1, h, w] as one map of the picture."""
        return np.asarray(sum(spread(term[0], self.size) for term in terms))


def some_of_each(label: Array, most: int) -> list[Array]:
    """Returns rows of each class that is there, int64 [k], together at most about `most`, spread evenly over its own.

    Example:
        >>> [rows.tolist() for rows in some_of_each(np.array([0, 1, 0, 0, 0, 0]), 4)]
        [[0, 5], [1]]
    """
    classes = np.unique(label)
    every = [np.flatnonzero(label == one) for one in classes]
    share = max(most // max(len(classes), 1), 1)
    return [rows[np.unique(np.linspace(0, len(rows) - 1, min(share, len(rows))).astype(np.int64))] for rows in every]


def png_of(pixels: Pixels) -> bytes:
    """Returns a picture, uint8 [h, w, 3], as a PNG file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def contrast_of(classes: Sequence[str], name: str) -> Float:
    """Returns one for the class, and for the others shares that sum to minus one, [C]."""
    row = np.full(len(classes), -1.0 / max(len(classes) - 1, 1))
    row[classes.index(name)] = 1.0
    return row


def _of_tap(maps: NDArray[np.float32], rows: Float, pooling: str) -> Float:
    """What each position adds to k sums, [h, w, kinds, k], from maps [c, h, w] and the sums' weights [k, kinds * c] of
    means, deviations and centres; [k, c * cells] of the pooling "grid".
    """
    from medtl_core.backbones.libraries.gabor import cell_weights
    from medtl_core.backbones.taps import centre_weights

    (count, height, width), total = maps.shape, len(rows)
    places = maps.reshape(count, -1).astype(np.float64)
    if pooling == "grid":
        spread_out = rows.reshape(total, count, -1) @ cell_weights(height, width).T.astype(np.float64)
        return np.asarray((spread_out * places).sum(axis=1).T.reshape(height, width, 1, total))
    centred = np.square(places - places.mean(axis=1, keepdims=True)) / places.shape[1]
    scale = np.sqrt(centred.sum(axis=1, keepdims=True))
    weights = rows.reshape(total, -1, count).transpose(1, 0, 2)
    parts = [weights[0] @ places / places.shape[1]]
    if len(weights) > 1:
        parts.append(weights[1] @ np.divide(centred, scale, out=np.zeros_like(centred), where=scale > 0))
    if len(weights) > 2:
        parts.append((weights[2] @ places) * centre_weights(height, width).astype(np.float64))
    return np.asarray(parts).transpose(2, 0, 1).reshape(height, width, len(parts), total)


def turned_back(parts: Float, view: str) -> Float:
    """Returns a map [s, s, ...] of a view where it lies in the picture."""
    turned: Any = parts
    return parts if view == "macenko" else np.asarray(VIEWS[_BACK.get(view, view)](turned))


def correlation(one: Float, other: Float) -> float:
    """Returns how alike two maps are, from 0 to 1; a map that is the same everywhere is like any other."""
    if not (np.ptp(one) and np.ptp(other)):
        return 1.0
    return abs(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))


def enlarged(parts: Float, size: int) -> Float:
    """Returns the same map for the pixels of a picture, smoothly, [size, size]."""
    from PIL import Image

    return np.asarray(Image.fromarray(parts.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC), float)


def spread(parts: Float, size: int) -> Float:
    """Returns the same sum over the pixels of a picture, smoothly, [size, size]."""
    fine = enlarged(parts, size) * (parts.size / size**2)
    return np.asarray(fine + (parts.sum() - fine.sum()) / size**2)


def _sharpened(strength: Float) -> Float:
    """From 0 to 1, where the strongest hundredth is 1 and half of that is already pale."""
    top = np.quantile(strength, 0.99)
    return np.asarray(np.clip(strength / top, 0, 1) ** 2 if top > 0 else np.zeros_like(strength))
