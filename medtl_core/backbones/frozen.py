"""BatchNorm becomes constants, so that no mode and no image can change a frozen network.

A frozen BatchNorm left in training mode takes un-noised averages of private images into its buffers, and Opacus, which
looks at what is trained, does not see it (tests/privacy/test_pitfalls.py shows it). Here its statistics are folded into
the convolution before it, which also halves the passes over memory, or kept as the constants of a plain affine map
where folding is not exact.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

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
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a BatchNorm without running statistics cannot be frozen")
        self.eps = norm.eps
        self.act = behind(norm)
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
    with torch.no_grad():  # not inference mode: its tensors could never be differentiated through
        expected = network(example)
        pairs = _pairs(network, example)
        folded = _replaced(network, pairs)
        if pairs and not _close(folded(example), expected):
            folded = _replaced(network, {})
    return folded


def _pairs(network: nn.Module, example: Tensor) -> dict[str, str]:
    """Returns norm path -> path of the convolution whose output tensor it reads; only modules that ran once."""
    made: dict[int, tuple[str, Tensor]] = {}
    pairs: dict[str, str] = {}
    runs: dict[str, int] = {}

    def after_convolution(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def remember(module: nn.Module, inputs: Any, output: Tensor) -> None:
            made[id(output)] = (path, output)  # the tensor is kept, so that its id stays its own
            runs[path] = runs.get(path, 0) + 1

        return remember

    def before_norm(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            runs[path] = runs.get(path, 0) + 1
            if id(inputs[0]) in made:
                pairs[path] = made[id(inputs[0])][0]

        return look

    hooks = []
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution(path)))
        elif isinstance(module, _BatchNorm):
            hooks.append(module.register_forward_pre_hook(before_norm(path)))
    network(example)
    for hook in hooks:
        hook.remove()
    return {norm: conv for norm, conv in pairs.items() if runs[norm] == runs[conv] == 1}


def _replaced(network: nn.Module, pairs: dict[str, str]) -> nn.Module:
    copied = copy.deepcopy(network)
    for path, norm in list(copied.named_modules()):
        if not isinstance(norm, _BatchNorm):
            continue
        if path in pairs:
            _fold(copied.get_submodule(pairs[path]), norm)
            copied.set_submodule(path, behind(norm))
        else:
            copied.set_submodule(path, FrozenNorm(norm))
    return copied.eval().requires_grad_(False)


def _fold(conv: nn.Module, norm: _BatchNorm) -> None:
    """Folds in double precision and rounds once."""
    values = [conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.weight, norm.bias]
    weight, bias, mean, variance, scale, shift = (
        value.detach().double() if isinstance(value, Tensor) else None for value in values
    )
    if weight is None or mean is None or variance is None:
        raise ValueError("a BatchNorm without running statistics cannot be frozen")
    folded, offset = fuse_conv_bn_weights(weight, bias, mean, variance, norm.eps, scale, shift)
    conv.weight = nn.Parameter(folded.float(), requires_grad=False)
    conv.bias = nn.Parameter(offset.float(), requires_grad=False)


def behind(norm: _BatchNorm) -> nn.Module:
    """Returns the activation that some libraries put into their BatchNorm."""
    act = getattr(norm, "act", None)
    return act if isinstance(act, nn.Module) else nn.Identity()


def _close(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() <= _TOLERANCE * second.abs().max())
