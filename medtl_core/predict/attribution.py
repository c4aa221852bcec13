"""Where in a picture an answer comes from: exact class activation maps of a linear head on pooled maps.

A feature is a mean over the positions of a map, so a linear head's logit is a sum over positions (Zhou et al., CVPR
2016). The same holds of the mean weighted at the centre, and of the standard deviation, which is the mean of
(x - mean)^2 / deviation. So the parts of all taps and views add up to the logit less its bias, whatever the network.

Much of such a map is what every picture has at that place. Less the mean map of cases of the next likeliest class it
says what this one has beyond them; the parts then add up to the difference of the logits (a baseline, as in
Sundararajan et al., ICML 2017).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings, kind_of
from medtl_core.data.images import read_pictures
from medtl_core.data.views import VIEWS, Pixels, normalised, square
from medtl_core.errors import ConfigError
from medtl_core.features.extract import FeatureSpec, Spec, images_of
from medtl_core.values import Array, Examples, Head

if TYPE_CHECKING:
    from torch import Tensor

Float = NDArray[np.float64]

#: View -> what undoes it, where it does not undo itself.
_BACK = {"rotate-90": "rotate-270", "rotate-270": "rotate-90"}
#: Maps of heads whose columns were shuffled that a map is compared with.
SHUFFLED = 8
#: Cases at most that a map is compared with: as many of each class, spread over all.
COMPARED = 96
#: Width of the Gaussian that smooths a difference of maps, in cells of the finest one (docs/predict.md).
_SMOOTH = 0.5


@dataclass(frozen=True)
class ClassMap:
    """What every position of a picture adds to a class against the others.

    Attributes:
        picture: uint8 [h, w, 3], as the case was decoded.
        parts: float64 [s, s]; their sum is the logit of the class less the mean of the others', without their biases,
            where the map is exact. Where there is a rival, it is the logit less the rival's, and that less its mean
            over cases of the rival.
        usual: their standard deviation over these cases; None = none were compared.
        rival: the class they are of; "" = none.
    """

    picture: Pixels
    parts: Float
    usual: Float | None = None
    rival: str = ""

    @property
    def strength(self) -> Float:
        """The parts as they are drawn: in deviations where cases were compared.

        The mean deviation is added to each, lest a place where all cases are alike outshine the rest.
        """
        return self.parts if self.usual is None else self.parts / np.maximum(self.usual + self.usual.mean(), 1e-12)

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
        spec: of these features.
        settings: under which they are made.

    Raises:
        ConfigError: the features are not pooled from maps of a single or several networks.
    """

    def __init__(self, head: Head, spec: Spec, settings: Settings) -> None:
        self._head, self._parts, start = head, list[tuple[FeatureSpec, _Maps, Array]](), 0
        self._known = dict[int, NDArray[np.float32]]()
        for record, chosen in spec.parts(settings):
            if kind_of(record.backbone) != "image" or record.pooling not in ("mean", "mean+std", "mean+std+centre"):
                raise ConfigError("maps are made of heads on images; a table's columns have none")
            weight = head.weight[:, start : start + record.width]
            self._parts.append((record, _Maps(record, chosen), weight))
            start += record.width
        self.size = max(record.size for record, *_ in self._parts)

    def against(self, cases: Examples) -> Self:
        """Returns one whose maps tell what a case has beyond others: of the class that is the next likeliest for it.

        Args:
            cases: labelled images, of which `COMPARED` at most are read.

        Raises:
            DataError: an image cannot be read.
        """
        other = copy(self)
        other._known = {}
        for rows in some_of_each(cases["label"], COMPARED):
            name = cases.task.classes[int(cases["label"][rows[0]])]
            if name in self._head.classes:
                images = images_of(cases.take(rows))
                maps = [np.mean([*map(self._of_classes, self._pictures(one))], axis=0) for one in images]
                other._known[self._head.classes.index(name)] = np.asarray(maps, np.float32)
        return other

    def explain(self, image: Any, name: str) -> list[ClassMap]:
        """Returns a map for each picture of a case, of what speaks for the class `name`.

        Raises:
            DataError: the image cannot be read.
        """
        return [self._map(picture, name) for picture in self._pictures(image)]

    def likeness(self, image: Any, name: str, *, rng: np.random.Generator) -> float:
        """Returns how alike the map is to those of a meaningless head: the mean correlation with such maps.

        A map that stays the same when the head's columns are shuffled shows the network's picture and not what the head
        learnt (Adebayo et al., NeurIPS 2018).
        """
        contrast, (picture, *_) = contrast_of(self._head.classes, name), self._pictures(image)
        read = self._read(picture)
        own, found = self._sum(read, contrast), []
        for _ in range(SHUFFLED):
            other = self._sum(read, contrast, [rng.permutation(record.width) for record, *_ in self._parts])
            found.append(correlation(own, other))
        return float(np.mean(found))

    def _map(self, picture: Pixels, name: str) -> ClassMap:
        place = self._head.classes.index(name)
        rivals = [number for number in self._known if number != place]
        if not rivals:
            return ClassMap(picture, self._sum(self._read(picture), contrast_of(self._head.classes, name)))
        own = self._of_classes(picture)
        rival = max(rivals, key=lambda number: float(own[number].sum() + self._head.bias[number]))
        others = self._known[rival][:, place] - self._known[rival][:, rival]
        usual: Float = others.std(axis=0).astype(np.float64)
        return ClassMap(picture, own[place] - own[rival] - others.mean(axis=0), usual, self._head.classes[rival])

    def _of_classes(self, picture: Pixels) -> Float:
        """The smoothed map of every class's logit, [C, s, s]."""
        from scipy.ndimage import gaussian_filter

        read = self._read(picture)
        width = _SMOOTH * min(self.size / maps.shape[-1] for every in read for view in every for maps in view.values())
        raw = [self._sum(read, row) for row in np.eye(len(self._head.classes))]
        return np.asarray([gaussian_filter(one, width, mode="reflect") for one in raw])  # mirrored edges keep the sum

    def _pictures(self, image: Any) -> Sequence[Pixels]:
        return read_pictures(image, robust=self._parts[0][0].version > 2)

    def _read(self, picture: Pixels) -> "list[list[Mapping[str, Tensor]]]":
        """The maps of every view under every record."""
        return [
            [maps(VIEWS[view](square(picture, record.size))) for view in record.views]
            for record, maps, _ in self._parts
        ]

    def _sum(
        self, read: "list[list[Mapping[str, Tensor]]]", contrast: Float, order: Sequence[Array] | None = None
    ) -> Float:
        whole: Any = np.zeros((self.size, self.size))
        for number, (record, _, weight) in enumerate(self._parts):
            row = contrast @ weight
            row = row if order is None else row[order[number]]
            for view, maps in zip(record.views, read[number], strict=True):
                parts: Any = _parts_of(maps, row, record, self.size)
                whole += turned_back(parts, view) / len(record.views)
        return np.asarray(whole)


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


def save_picture(pixels: Pixels, path: Path) -> None:
    """Writes a picture, uint8 [h, w, 3], as a new PNG file."""
    from PIL import Image

    with path.open("xb") as file:
        Image.fromarray(pixels).save(file, format="PNG")


def contrast_of(classes: Sequence[str], name: str) -> Float:
    """Returns one for the class, and for the others shares that sum to minus one, [C]."""
    row = np.full(len(classes), -1.0 / max(len(classes) - 1, 1))
    row[classes.index(name)] = 1.0
    return row


@final
class _Maps:
    """The maps of a frozen network's taps as they are, before they are pooled."""

    def __init__(self, record: FeatureSpec, settings: Settings) -> None:
        from medtl_core.backbones.zoo import find_backbone
        from medtl_core.features.forward import load_agreed

        backbone, self._record = find_backbone(settings.backbone), record
        self._run = load_agreed(settings.backbone, settings.weights, record.weights_sha, record.taps, record.pooling)
        self._modules = {tap: self._run.network.get_submodule(backbone.taps[tap]) for tap in record.taps}
        self._turn = Lock()

    def __call__(self, pixels: Pixels) -> "Mapping[str, Tensor]":
        """Returns the maps [1, c, h, w] of a square picture, uint8 [s, s, 3]."""
        import torch

        maps = dict[str, "Tensor"]()

        def read(tap: str) -> Any:
            return lambda module, inputs, output: maps.__setitem__(tap, output)

        batch = normalised(torch.from_numpy(pixels.copy())[None], self._record.mean, self._record.std)
        with self._turn, ExitStack() as hooks, torch.inference_mode():
            for tap, module in self._modules.items():  # before the extractor's own hook, which ends the pass
                hooks.callback(module.register_forward_hook(read(tap), prepend=True).remove)
            self._run(batch)
        return maps


def _parts_of(maps: "Mapping[str, Tensor]", row: Float, record: FeatureSpec, size: int) -> Float:
    whole = np.zeros((size, size))
    for tap, first, last in record.groups:
        channels = maps[tap][0].double().numpy()
        if channels.ndim != 3:
            raise ConfigError(f"the tap {tap!r} gives no map; maps are made of convolutional networks")
        whole += spread(_of_tap(channels, row[first:last]), size)
    return whole


def _of_tap(channels: Float, row: Float) -> Float:
    """What each position adds, [h, w], from maps [c, h, w] and the row's weights of means, deviations and centres."""
    from medtl_core.backbones.taps import centre_weights

    count, height, width = channels.shape
    places = channels.reshape(count, -1)
    weights: Iterator[Float] = iter(row.reshape(-1, count))
    parts = next(weights) @ places / places.shape[1]
    for deviation in weights:
        centred = np.square(places - places.mean(axis=1, keepdims=True)) / places.shape[1]
        spread = np.sqrt(centred.sum(axis=1, keepdims=True))
        parts += deviation @ np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
        for centre in weights:
            parts += (centre @ places) * centre_weights(height, width).astype(np.float64)
    return np.asarray(parts.reshape(height, width))


def turned_back(parts: Float, view: str) -> Float:
    """Returns a map [s, s] of a view where it lies in the picture."""
    turned: Any = parts[..., None]
    return parts if view == "macenko" else np.asarray(VIEWS[_BACK.get(view, view)](turned)[..., 0])


def correlation(one: Float, other: Float) -> float:
    """Returns how alike two maps are, from 0 to 1; a map that is the same everywhere is like any other."""
    if not (np.ptp(one) and np.ptp(other)):
        return 1.0
    return abs(float(np.corrcoef(one.ravel(), other.ravel())[0, 1]))


def spread(parts: Float, size: int) -> Float:
    """Returns the same sum over the pixels of a picture, smoothly, [size, size]."""
    from PIL import Image

    fine = np.asarray(Image.fromarray(parts.astype(np.float32)).resize((size, size), Image.Resampling.BICUBIC), float)
    fine *= parts.size / size**2
    return np.asarray(fine + (parts.sum() - fine.sum()) / size**2)


def _sharpened(strength: Float) -> Float:
    """From 0 to 1, where the strongest hundredth is 1 and half of that is already pale."""
    top = np.quantile(strength, 0.99)
    return np.asarray(np.clip(strength / top, 0, 1) ** 2 if top > 0 else np.zeros_like(strength))
