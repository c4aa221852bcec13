"""BatchNorm becomes constants, so that no mode and no image can change a frozen network.

A frozen BatchNorm left in training mode takes un-noised averages of private images into its buffers, and Opacus, which
looks at what is trained, does not see it (tests/privacy/test_pitfalls.py shows it). Here its statistics are folded into
the convolution before it, which also halves the passes over memory, or kept as the constants of a plain affine map
where folding is not exact.
"""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from medtl_core.backbones.trace import ModuleRun, trace

#: Largest deviation of the folded network, as a share of its largest output; rounding stays two orders below.
_TOLERANCE = 1e-3


class FrozenNorm(nn.Module):
    """BatchNorm in evaluation mode for good: float32 in, same shape out, whatever `train()` says."""

    mean: Tensor
    variance: Tensor
    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps = norm.eps
        self.act = _activation(norm)
        for name, value in (
            ("mean", norm.running_mean), ("variance", norm.running_var), ("weight", norm.weight), ("bias", norm.bias)
        ):  # fmt: skip
            self.register_buffer(name, None if value is None else value.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised map, through the activation that the norm carried."""
        out = functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps)
        return self.act(out)  # type: ignore[no-any-return]


def freeze(network: nn.Module, example: Tensor) -> nn.Module:
    """Returns a copy of a network without any BatchNorm.

    Which convolution feeds which norm is seen in one pass over `example`; a fold that would change the output (the
    convolution also feeds something else) is given up.

    Args:
        network: in evaluation mode.
        example: float32 [n, 3, h, w], any image-like input the network accepts.

    Raises:
        ValueError: a BatchNorm has no running statistics.
    """
    runs = trace(network, example)
    pairs = _pairs(network, runs)
    folded = _replaced(network, pairs)
    if pairs and not _close(folded, example, runs[""].gave):
        return _replaced(network, {})
    return folded


def _pairs(network: nn.Module, runs: Mapping[str, ModuleRun]) -> dict[str, str]:
    """Returns norm path -> path of the convolution whose output tensor it reads; only modules that ran once."""
    modules = {path: module for path, module in network.named_modules() if path in runs and runs[path].times == 1}
    convolutions = {id(runs[path].gave): path for path, module in modules.items() if isinstance(module, nn.Conv2d)}
    norms = {path: id(runs[path].read) for path, module in modules.items() if isinstance(module, _BatchNorm)}
    return {path: convolutions[tensor] for path, tensor in norms.items() if tensor in convolutions}


def _replaced(network: nn.Module, pairs: Mapping[str, str]) -> nn.Module:
    """A copy whose norms are folded into their convolutions, in double precision and rounded once, or constants."""
    copied = copy.deepcopy(network)
    for path, norm in list(copied.named_modules()):
        if not isinstance(norm, _BatchNorm):
            continue
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a BatchNorm without running statistics cannot be frozen")
        if path in pairs:
            conv: Any = copied.get_submodule(pairs[path])
            read = (conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            weight, bias, mean, variance, *affine = (None if value is None else value.double() for value in read)
            fused = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, *affine)  # type: ignore[arg-type]
            conv.weight, conv.bias = (nn.Parameter(value.float()) for value in fused)
            copied.set_submodule(path, _activation(norm))
        else:
            copied.set_submodule(path, FrozenNorm(norm))
    return copied.eval().requires_grad_(False)


def _activation(norm: _BatchNorm) -> nn.Module:
    """The activation that some libraries put into their BatchNorm."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()


def _close(folded: nn.Module, example: Tensor, expected: Tensor | None) -> bool:
    if expected is None:  # the network's output is no tensor: nothing to compare
        return False
    with torch.no_grad():
        deviation = (folded(example) - expected).abs().max()
    return bool(deviation <= _TOLERANCE * expected.abs().max())
