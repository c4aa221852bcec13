"""The record of one backbone: facts only, nothing here loads a library."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from medtl_core.config import Value

#: Seed of the weights of `random:ARCH` backbones.
RANDOM_SEED = 20261
#: How a tap ends that reads a transformer's class token alone, in place of its patches.
CLASS_TOKEN = ".cls"
#: Cells along a side of a map, of each of which the pooling "grid" reads the mean.
GRID = 6


@dataclass(frozen=True)
class Backbone:
    """One pretrained network and how to read features from it.

    Attributes:
        name: what a user writes, e.g. "lite0" or "torchvision:resnet18".
        library: whose parameter names and architecture it has, "timm" or "torchvision".
        arch: name of the architecture in that library.
        source: where its weights come from: "package" (a Python package), "hub" (the library's download cache),
            "file" (the user's own file), "random" (seeded, untrained) or "formula" (nothing is learnt).
        file: name of the file looked for there; of timm's, the repository on the hub; of a "file" backbone, its
            path; "" where its values are made here.
        taps: tap name -> path of the module whose output is read, from the shallowest to the deepest.
        channels: tap name -> number of channels of that output.
        size: side of the square input in pixels.
        mean, std: of the normalisation, per channel of an RGB image in [0, 1].
        rich: taps of the "rich" features.
        plain: tap of the "plain" features.
        arguments: of the architecture's constructor.
        inputs: channels of the image that its weights read: 3, or 1 = grey.
        pooling: of the "rich" features; "" = as the version of the features says.
        sha: SHA-256 of its file; "" = not known, or by the name alone.
        licence: of its weights, and `trained_on`: the public sets they learnt from; empty = not known.
    """

    name: str
    library: str
    arch: str
    source: str
    file: str
    taps: Mapping[str, str]
    channels: Mapping[str, int]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    rich: tuple[str, ...]
    plain: tuple[str, ...]
    arguments: Mapping[str, Value] = field(default_factory=dict)
    inputs: int = 3
    pooling: str = ""
    sha: str = ""
    licence: str = ""
    trained_on: tuple[str, ...] = ()

    @property
    def takes_weights(self) -> bool:
        """Whether the setting `weights` may say where its file is."""
        return bool(self.file) and self.source != "file"

    @property
    def identity(self) -> str:
        """Name of the network, the same for every way to name its weights, e.g. "timm:tf_efficientnet_lite0"."""
        grey = {"in_chans": 1} if self.inputs == 1 else {}
        words = [f"{name}={value}" for name, value in sorted({**self.arguments, **grey}.items())]
        return ":".join([self.library, self.arch, *words])


def features_of(tap: str, channels: int, pooling: str) -> int:
    """Returns how many features a tap gives under a pooling: a class token has no positions to pool."""
    kinds = GRID**2 if pooling == "grid" else len(pooling.split("+"))
    return channels if tap.endswith(CLASS_TOKEN) else channels * kinds
