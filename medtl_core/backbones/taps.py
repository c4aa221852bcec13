"""Taps: what is read inside a network, pooled over its positions; what lies behind the deepest one need not run."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn


class EnoughRead(Exception):  # noqa: N818 - a signal, not an error
    """All that was wanted has been read: the rest of the network need not run."""


@final
class TapReader:
    """Pools what some modules of a network give, pass by pass. Threads may share one: each reads its own pass.

    Args:
        modules: tap -> module whose output is read.
        pool: makes rows [n, channels] of an output; see `pooling_of`.
        stops: whether a pass ends when every tap has been read; else `EnoughRead` may be raised by another hook.
    """

    def __init__(self, modules: Mapping[str, nn.Module], pool: Callable[[Tensor], Tensor], *, stops: bool) -> None:
        self._pass = threading.local()
        self._pool, self._taps, self._stops = pool, len(modules), stops
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
            rows[tap] = self._pool(output)
            if self._stops and len(rows) == self._taps:
                raise EnoughRead

        return read


def pooling_of(network: nn.Module, pooling: str, floor: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Returns what makes rows [n, channels] of a tap's output, or [n, 2 channels] where deviations stand behind.

    An output is a map [n, c, h, w] ([n, h, w, c] where the network says so), tokens [n, tokens, c] or rows [n, c].

    Args:
        network: says how its maps lie and which tokens are no positions.
        pooling: "mean" over positions, or "mean+std" with the population standard deviation behind.
        floor: smallest variance; above 0, a deviation's slope stays finite where a map is constant.
    """
    tokens = int(getattr(network, "num_prefix_tokens", 0) or 0)
    channels_last = getattr(network, "output_fmt", None) == "NHWC"

    def pool(output: Tensor) -> Tensor:
        places = _positions(output, tokens, channels_last)
        if pooling == "mean":
            return places.mean(dim=2)
        mean = places.mean(dim=2, keepdim=True)
        variance = (places - mean).square().mean(dim=2)  # torch.var_mean is four times slower in this layout
        if floor:
            variance = variance.clamp_min(floor)
        return torch.cat([mean[:, :, 0], variance.sqrt()], dim=1)

    return pool


def _positions(output: Tensor, tokens: int, channels_last: bool) -> Tensor:
    """Returns [n, channels, positions]."""
    if output.ndim == 3:
        return output[:, tokens:].transpose(1, 2)
    if output.ndim == 4:
        return (output.permute(0, 3, 1, 2) if channels_last else output).flatten(2)
    return output.flatten(1)[:, :, None]
