"""The frozen feature extractor: a backbone run only as deep as its deepest tap, each tap pooled over its positions."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medtl_core.backbones.backbone import Backbone, features_of
from medtl_core.backbones.frozen import freeze
from medtl_core.backbones.networks import load_network
from medtl_core.backbones.pointwise import hasten
from medtl_core.backbones.taps import TapReader, pooling_of
from medtl_core.errors import ConfigError


class Extractor(nn.Module):
    """Reads pooled features of a frozen network.

    It holds no BatchNorm and stays in evaluation mode: `train()` changes neither its buffers nor its output. Threads
    may share one extractor.

    Attributes:
        width: number of features.
        sha: SHA-256 that names the weights; "" if they are random.
    """

    def __init__(self, network: nn.Module, taps: Mapping[str, str], pooling: str, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.network = hasten(network).to(memory_format=torch.channels_last)
        self.taps = tuple(taps)
        self.width = sum(features_of(tap, channels[tap], pooling) for tap in taps)
        self.sha = ""
        modules = {tap: network.get_submodule(path) for tap, path in taps.items()}
        self._reader = TapReader(modules, {tap: pooling_of(network, tap, pooling) for tap in taps}, stops=True)
        super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns float32 [n, width] for normalised images, float32 [n, 3, h, w].

        Raises:
            ConfigError: the network cannot read images of this size.
        """
        try:
            with self._reader.reading() as rows:
                self.network(images)
        except torch.OutOfMemoryError:  # says nothing of the network
            raise
        except (RuntimeError, AssertionError, ValueError) as error:
            size = "x".join(map(str, images.shape[2:]))
            raise ConfigError(f"the backbone failed on images of {size} pixels: {error}") from error
        if len(rows) < len(self.taps):
            raise ConfigError(f"the network never ran its tap {next(tap for tap in self.taps if tap not in rows)!r}")
        features = torch.cat([rows[tap] for tap in self.taps], dim=1)
        if features.shape[1] != self.width:
            raise ConfigError(f"the taps gave {features.shape[1]} features where {self.width} were announced")
        return features

    def train(self, mode: bool = True) -> "Extractor":
        """Does nothing: a frozen extractor has no training mode."""
        return self


def load_extractor(backbone: Backbone, weights: str, taps: tuple[str, ...], pooling: str) -> Extractor:
    """Returns the frozen extractor of a backbone.

    Args:
        backbone: from `find_backbone`.
        weights: file or folder; "" = where the backbone's record says.
        taps: names of `backbone.taps`, each once.
        pooling: "mean" over the positions of each tap, "mean+std" or "mean+std+centre"; see `taps.pooling_of`.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    network, sha = load_network(backbone, weights)
    side = torch.linspace(-1, 1, backbone.size)
    example = torch.sin(9.0 * (side[:, None] * side[None, :]) + torch.arange(3)[:, None, None])[None]
    places = {tap: backbone.taps[tap] for tap in taps}
    extractor = Extractor(freeze(network, example), places, pooling, backbone.channels)
    extractor.sha = sha
    return extractor
