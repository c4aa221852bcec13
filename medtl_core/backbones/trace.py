"""One pass through a network, watched: which module read and gave which tensor, and in which order."""

from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class ModuleRun:
    """One module in one pass; its tensors are kept, so that the identity of each stays its own.

    Attributes:
        began, ended: places in the order of all beginnings and ends.
        read, gave: first input and output; None where they are no tensor.
        times: how often the module ran; all else is of its last run.
    """

    began: int
    read: Tensor | None
    ended: int = -1
    gave: Tensor | None = None
    times: int = 1


def trace(network: nn.Module, example: Tensor) -> dict[str, ModuleRun]:
    """Returns what every module did in one pass without gradients, by path, in the order in which they first began.

    Args:
        network: stays as it is.
        example: float32 [n, 3, h, w], any image-like input the network accepts.
    """
    runs: dict[str, ModuleRun] = {}
    clock = count()

    def begin(path: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        times = runs[path].times + 1 if path in runs else 1
        runs[path] = ModuleRun(next(clock), _tensor(inputs[0]) if inputs else None, times=times)

    def end(path: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        runs[path].ended, runs[path].gave = next(clock), _tensor(output)

    hooks = []
    for path, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(partial(begin, path)))
        hooks.append(module.register_forward_hook(partial(end, path)))
    try:
        with torch.no_grad():  # not inference mode: its tensors could never be differentiated through
            network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return runs


def _tensor(value: Any) -> Tensor | None:
    return value if isinstance(value, Tensor) else None
