"""The 1x1 convolutions of a frozen network through oneDNN, which torch passes over where it has one thread."""

import torch
from torch import Tensor, nn


class Pointwise(nn.Conv2d):
    """A 1x1 convolution that always takes oneDNN's kernel on a processor.

    With one torch thread, torch chooses a plain matrix product instead: twice as slow on maps that lie "channels
    last" in memory, as the extractor's do. The sums agree to the rounding of float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the convolved map, float32 [n, out, h, w]."""
        if x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        out: Tensor = torch.mkldnn_convolution(x, self.weight, self.bias, (0, 0), (1, 1), (1, 1), self.groups)
        return out


def hasten(network: nn.Module) -> nn.Module:
    """Replaces every plain 1x1 convolution of a network, in place; the tensors and their names stay.

    Subclasses stay as they are: their own forward pass may do more than convolve.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return network
    for path, conv in list(network.named_modules()):
        if type(conv) is nn.Conv2d and _plain(conv):
            network.set_submodule(path, _of(conv))
    return network


def _plain(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.stride == (1, 1) and conv.padding in ((0, 0), "valid")


def _of(conv: nn.Conv2d) -> Pointwise:
    fast = Pointwise(conv.in_channels, conv.out_channels, 1, groups=conv.groups, bias=False, device="meta")
    fast.weight, fast.bias = conv.weight, conv.bias
    return fast.train(conv.training)
