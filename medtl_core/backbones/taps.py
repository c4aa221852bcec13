"""Taps: what is read inside a network, pooled over its positions; what lies behind the deepest one need not run."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medtl_core.backbones.backbone import CLASS_TOKEN
from medtl_core.backbones.libraries.gabor import cell_weights
from medtl_core.errors import ConfigError

Pool = Callable[[Tensor], Tensor]

#: Width of the centre's Gaussian, as a share of the side (docs/methods.md).
_CENTRE = 0.12


class EnoughRead(Exception):  # noqa: N818 - a signal, not an error
    """All that was wanted has been read: the rest of the network need not run."""


@final
class TapReader:
    """Pools what some modules of a network give, pass by pass. Threads may share one: each reads its own pass.

    Args:
        modules: tap -> module whose output is read.
        pools: tap -> what makes rows [n, channels] of its output; see `pooling_of`.
        stops: whether a pass ends when every tap has been read; else `EnoughRead` may be raised by another hook.
    """

    def __init__(self, modules: Mapping[str, nn.Module], pools: Mapping[str, Pool], *, stops: bool) -> None:
        self._pass = threading.local()
        self._pools, self._stops = pools, stops
        for tap, module in modules.items():
            module.register_forward_hook(self._hook(tap))

    @contextmanager
    def reading(self) -> Iterator[dict[str, Tensor]]:
        """Yields what fills with the rows of each tap while the network runs inside; ends when enough is read."""
        self._pass.rows = rows = dict[str, Tensor]()
        try:
            yield rows
        except EnoughRead:
            pass
        finally:
            self._pass.rows = {}

    def _hook(self, tap: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def read(module: nn.Module, inputs: Any, output: Tensor) -> None:
            rows: dict[str, Tensor] = self._pass.rows
            rows[tap] = self._pools[tap](output)
            if self._stops and len(rows) == len(self._pools):
                raise EnoughRead

        return read


def pooling_of(network: nn.Module, tap: str, pooling: str, floor: float = 0.0) -> Pool:
    """Returns what makes rows of a tap's output: [n, channels], or [n, 2 or 3 channels] where more stands behind.

    An output is a map [n, c, h, w] ([n, h, w, c] where the network says so), tokens [n, tokens, c] or rows [n, c]. Of a
    class token's tap, the token itself is read.

    Args:
        network: says how its maps lie and which tokens are no positions.
        tap: its name.
        pooling: "mean" over positions; "mean+std", with the population standard deviation behind; "mean+std+centre",
            behind these the mean weighted by a Gaussian at the image's centre, where what an image was taken of lies.
            Its weights are a constant of the map's shape; "grid", each channel's mean in every cell, row by row.
        floor: smallest variance; above 0, a deviation's slope stays finite where a map is constant.
    """
    tokens = int(getattr(network, "num_prefix_tokens", 0) or 0)
    channels_last = getattr(network, "output_fmt", None) == "NHWC"
    if tap.endswith(CLASS_TOKEN):
        return lambda output: output[:, 0]

    def pool(output: Tensor) -> Tensor:
        places, grid = _positions(output, tokens, channels_last)
        if pooling == "mean":
            return places.mean(dim=2)
        if pooling == "grid":
            return (places @ torch.from_numpy(cell_weights(*grid)).to(places)).flatten(1)
        mean = places.mean(dim=2, keepdim=True)
        variance = (places - mean).square().mean(dim=2)  # torch.var_mean is four times slower in this layout
        if floor:
            variance = variance.clamp_min(floor)
        rows = [mean[:, :, 0], variance.sqrt()]
        if pooling == "mean+std+centre":
            rows.append(places @ torch.from_numpy(centre_weights(*grid)).to(places))
        return torch.cat(rows, dim=1)

    return pool


@lru_cache(maxsize=64)
def centre_weights(height: int, width: int) -> NDArray[np.float32]:
    """Returns the weights of a map's positions, row by row, float32 [height * width], summing to one.

    Example:
        >>> [round(float(weight), 2) for weight in centre_weights(3, 1)]
        [0.02, 0.96, 0.02]
    """
    y, x = ((np.arange(length) + 0.5) / length - 0.5 for length in (height, width))
    weights = np.exp(-(y[:, None] ** 2 + x**2) / (2 * _CENTRE**2)).ravel()
    return np.asarray(weights / weights.sum(), np.float32)


def _positions(output: Tensor, tokens: int, channels_last: bool) -> tuple[Tensor, tuple[int, int]]:
    """Returns [n, channels, positions], and height and width of the grid in which they lie.

    Raises:
        ConfigError: tokens are not those of a square grid of patches.
    """
    if output.ndim == 3:
        patches = output[:, tokens:].transpose(1, 2)
        side = math.isqrt(patches.shape[2])
        if side**2 != patches.shape[2]:
            raise ConfigError(f"a tap gives {patches.shape[2]} tokens, which is no square grid; set features=plain")
        return patches, (side, side)
    if output.ndim == 4:
        maps = output.permute(0, 3, 1, 2) if channels_last else output
        return maps.flatten(2), (maps.shape[2], maps.shape[3])
    return output.flatten(1)[:, :, None], (1, 1)
