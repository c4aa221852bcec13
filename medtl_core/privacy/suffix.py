"""The last blocks of a backbone and a head as one network: what private training differentiates, case by case."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import final

from torch import Tensor, cat, nn
from torch.nn import functional

from medtl_core.backbones.taps import Pool

#: Keeps a row of zeros finite.
_TINY = 1e-12


@final
class Suffix(nn.Module):
    """Maps one vector a case, the first unit's input and the taps read before it, to logits of a head on unit rows.

    Units and head can be trained; the map from features to rows (see `methods.private.public_pca`) is constant.

    Args:
        units: in the order they run.
        shape: of what the first unit reads of one case.
        pools: position of a unit whose output is read -> ways from that output to [n, channels], the shallowest first;
            no case may touch another.
        constants: "mean" [d], "scale" [d] and "basis" [d, k] of the map.
        classes: number C.
    """

    mean: Tensor
    scale: Tensor
    basis: Tensor

    def __init__(
        self,
        units: Sequence[nn.Module],
        shape: tuple[int, ...],
        pools: Mapping[int, Sequence[Pool]],
        constants: Mapping[str, Tensor],
        classes: int,
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(units)
        self.head = nn.Linear(constants["basis"].shape[1], classes)
        for name in ("mean", "scale", "basis"):
            self.register_buffer(name, constants[name])
        self._shape, self._pools = shape, pools

    def forward(self, values: Tensor) -> Tensor:
        """Returns logits [n, C] for values [n, prod(shape) + shallow]; the head reads shallow taps, then the units'."""
        size = prod(self._shape)
        read, features = values[:, :size].reshape(-1, *self._shape), [values[:, size:]]
        for place, unit in enumerate(self.units):
            read = unit(read)
            features += [pool(read) for pool in self._pools.get(place, ())]
        rows = ((cat(features, dim=1) - self.mean) / self.scale) @ self.basis
        logits: Tensor = self.head(functional.normalize(rows, dim=1, eps=_TINY))
        return logits


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
