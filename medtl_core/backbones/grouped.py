"""Layers that train case by case: GroupNorm in the place of BatchNorm, and nothing that works in place.

BatchNorm averages over patients, so it cannot be trained under privacy. Opacus' own exchange (`ModuleValidator.fix`)
drops what the norm has learnt. Here its running statistics stay as constants, and a GroupNorm stands behind them: a
channel standardised so has mean 0 and variance 1 over the images of pretraining, and a group of channels nearly so
over one image, so that GroupNorm changes little at the start; the norm's scale and shift become GroupNorm's.
"""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medtl_core.backbones.frozen import behind

#: Fewest channels of a group (Wu and He, "Group Normalization", ECCV 2018, table 3).
_CHANNELS = 16


def groups_of(channels: int) -> int:
    """Returns into how many groups channels fall: as many as there can be of 16 channels or more.

    Example:
        >>> groups_of(112), groups_of(40), groups_of(8)
        (7, 2, 1)
    """
    most = max(channels // _CHANNELS, 1)
    return max(groups for groups in range(1, most + 1) if channels % groups == 0)


class Grouped(nn.Module):
    """GroupNorm behind a BatchNorm's statistics: no case sees another one, and no mode changes a constant.

    Attributes:
        norm: the GroupNorm, which may be trained.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a BatchNorm without running statistics has none to keep")
        self.register_buffer("mean", norm.running_mean.detach().clone())
        self.register_buffer("deviation", (norm.running_var.detach() + norm.eps).sqrt())
        self.norm = nn.GroupNorm(groups_of(norm.num_features), norm.num_features)
        if norm.affine:
            self.norm.load_state_dict({"weight": norm.weight.detach(), "bias": norm.bias.detach()})
        self.act = behind(norm)

    def forward(self, x: Tensor) -> Tensor:
        """Returns [n, c, ...], through the activation that the norm carried."""
        one = (1, -1, *[1] * (x.ndim - 2))
        out: Tensor = self.act(self.norm((x - self.mean.reshape(one)) / self.deviation.reshape(one)))
        return out


def grouped(module: nn.Module) -> nn.Module:
    """Returns a module with `Grouped` in the place of every BatchNorm below it, in place; it may be one itself.

    Raises:
        ValueError: a BatchNorm has no running statistics.
    """
    for path, norm in list(module.named_modules()):
        if isinstance(norm, _BatchNorm):
            if not path:
                return Grouped(norm)
            module.set_submodule(path, Grouped(norm))
    return module


class _Fresh(nn.Module):
    """The same numbers in a tensor of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def separate(module: nn.Module) -> nn.Module:
    """Returns a module without layers that overwrite their input, in place: Opacus' hooks would lose it.

    A network may also add to what an identity gives on (torchvision's residual blocks do, where a norm was folded), so
    an identity gives a copy.
    """
    for path, layer in list(module.named_modules()):
        if getattr(layer, "inplace", False):
            layer.inplace = False
        if type(layer) is nn.Identity:
            if not path:
                return _Fresh()
            module.set_submodule(path, _Fresh())
    return module
