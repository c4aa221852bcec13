"""A bank of Gabor filters: how strongly a grey picture wavers in each direction and at each scale, and where.

Its values follow from formulas and nothing was learnt, so it errs otherwise than a network trained on photographs, and
needs no file. Filters: Daugman, J. Opt. Soc. Am. A 2:1160 (1985), without the share that even grey would answer (Lee,
IEEE PAMI 18:959, 1996). The magnitude of a filter's complex answer does not hang on where in the wave a position lies.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medtl_core.backbones.backbone import GRID

#: Directions of a scale, scales (each half as fine as the one before), and side of a filter in pixels.
_DIRECTIONS, _SCALES, _SIDE = 6, 4, 9
#: Of a filter: radians a pixel along its wave, and standard deviation in pixels along it and across.
_FREQUENCY, _ALONG, _ACROSS = 2.0, 1.3, 2.6
#: Smallest deviation of a picture's grey, in units of pixels over 127.5; an even picture stays even.
_EVEN = 2e-3


class Gabor(nn.Module):
    """Maps normalised pictures, float32 [n, 3, h, w], to the coarsest magnitudes, float32 [n, 6, h / 8, w / 8].

    Each picture's grey is first brought to mean 0 and deviation 1, for brightness and contrast are the device's.

    Attributes:
        levels: from the finest scale to the coarsest; each gives magnitudes [n, 6, its height, its width].
    """

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_Level() for _ in range(_SCALES))

    def forward(self, image: Tensor) -> Tensor:
        """Returns the magnitudes of the coarsest scale."""
        grey = image.mean(dim=1, keepdim=True)
        grey = grey - grey.mean(dim=(2, 3), keepdim=True)
        grey = grey / (grey.square().mean(dim=(2, 3), keepdim=True).sqrt() + _EVEN)
        for level in self.levels[:-1]:
            level(grey)
            grey = functional.avg_pool2d(grey, 2)
        coarsest: Tensor = self.levels[-1](grey)
        return coarsest


class _Level(nn.Module):
    """Grey [n, 1, h, w] to the magnitude of each direction's answer, [n, 6, h, w]; edges go on as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.from_numpy(_bank()))

    def forward(self, grey: Tensor) -> Tensor:
        wider = functional.pad(grey, (_SIDE // 2,) * 4, mode="replicate")
        answers = functional.conv2d(wider, self.bank)  # type: ignore[arg-type]
        return (answers[:, :_DIRECTIONS].square() + answers[:, _DIRECTIONS:].square() + 1e-12).sqrt()


def _bank() -> NDArray[np.float32]:
    """The filters' real parts and then their imaginary ones, float32 [12, 1, 9, 9]; magnitudes of each sum to one."""
    y, x = np.mgrid[:_SIDE, :_SIDE] - float(_SIDE // 2)
    filters = []
    for turn in np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS:
        along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        envelope = np.exp(-0.5 * ((along / _ALONG) ** 2 + (across / _ACROSS) ** 2))
        wave = np.exp(1j * _FREQUENCY * along)
        wave = envelope * (wave - (envelope * wave).sum() / envelope.sum())
        filters.append(wave / np.abs(wave).sum())
    return np.concatenate([np.real(filters), np.imag(filters)])[:, None].astype(np.float32)


@lru_cache(maxsize=64)
def cell_weights(height: int, width: int) -> NDArray[np.float32]:
    """Returns the weights of a map's positions in the cells of a grid, float32 [height * width, cells].

    Example:
        >>> cell_weights(12, 6)[:, 0].reshape(12, 6)[:3, :2].tolist()
        [[0.5, 0.0], [0.5, 0.0], [0.0, 0.0]]
    """
    shares = []
    for length in (height, width):
        edges, low = np.linspace(0, length, GRID + 1), np.arange(length)[:, None]
        shares.append(np.clip(np.minimum(low + 1, edges[1:]) - np.maximum(low, edges[:-1]), 0, None) * GRID / length)
    return np.asarray(np.kron(*shares), np.float32)
