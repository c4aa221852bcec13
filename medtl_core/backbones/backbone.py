"""The record of one backbone: facts only, nothing here loads a library."""

from collections.abc import Mapping
from dataclasses import dataclass

#: Seed of the weights of `random:ARCH` backbones.
RANDOM_SEED = 20261


@dataclass(frozen=True)
class Backbone:
    """One pretrained network and how to read features from it.

    Attributes:
        name: what a user writes, e.g. "lite0" or "torchvision:resnet18".
        library: whose parameter names and architecture it has, "timm" or "torchvision".
        arch: name of the architecture in that library.
        source: where its weights come from: "package" (a Python package), "hub" (the library's download cache),
            "file" (the user's own file) or "random" (seeded, untrained).
        file: name of the file looked for there; of timm's, the repository on the hub; of a "file" backbone, its path.
        taps: tap name -> path of the module whose output is read, from the shallowest to the deepest.
        channels: tap name -> number of channels of that output.
        size: side of the square input in pixels.
        mean, std: of the normalisation, per channel of an RGB image in [0, 1].
        rich: taps of the "rich" features.
        plain: tap of the "plain" features.
    """

    name: str
    library: str
    arch: str
    source: str
    file: str
    taps: Mapping[str, str]
    channels: Mapping[str, int]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    rich: tuple[str, ...]
    plain: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Name of the architecture, the same for every way to name its weights, e.g. "timm:tf_efficientnet_lite0"."""
        return f"{self.library}:{self.arch}"
