"""What of a backbone is trained: its tensors themselves, or a few numbers beside them.

Every adapter is affine in what travels: effective tensors = frozen tensors + a linear map of the trained ones. So the
mean of the hospitals' trained arrays gives exactly the mean of their networks' weights, which averaging both factors
of plain LoRA does not (mean(B) mean(A) is not mean(B A)). All start as the identity.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.methods.finetune.split_backbone import SplitBackbone
from medtl_core.rng import stream
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Rank of LoRA's factors.
RANK = 8
#: Seed of LoRA's frozen factor, agreed by everybody, so that it never travels.
_SHARED_SEED = 20261


class Adapter(ABC):
    """Turns what is trained into the tensors of a backbone's suffix.

    Attributes:
        rate: factor on the backbone's learning rate: small beside weights that were pretrained, larger where training
            starts from nothing.
    """

    name: ClassVar[str]
    rate: ClassVar[float]

    def __init__(self, backbone: SplitBackbone) -> None:
        self.backbone = backbone

    @abstractmethod
    def start(self) -> dict[str, Array]:
        """Returns what travels, by name, as float32 arrays at the identity.

        Raises:
            ConfigError: nothing in the scope can be adapted.
        """

    @abstractmethod
    def effective(self, trained: Mapping[str, "Tensor"]) -> "dict[str, Tensor]":
        """Returns the tensors to place into a part, differentiable in the trained ones."""


@final
class Whole(Adapter):
    """Fine-tuning proper: the tensors themselves are trained and travel."""

    name = "finetune"
    rate = 0.1

    def start(self) -> dict[str, Array]:
        """See Adapter."""
        return {name: tensor.numpy().copy() for name, tensor in self.backbone.tensors.items()}

    def effective(self, trained: Mapping[str, "Tensor"]) -> "dict[str, Tensor]":
        """See Adapter."""
        return dict(trained)


@final
class LowRank(Adapter):
    """FFA-LoRA (Sun et al., ICLR 2024): W + B A with A frozen and known to all; only B is trained and travels.

    A is drawn from a shared seed with rows of unit expected length; B starts at zero. Dense convolutions of any kernel
    (A spans channels and kernel) and linear layers are adapted; grouped convolutions, norms and bare parameters stay
    frozen, since a low rank saves nothing there.
    """

    name = "lora"
    rate = 1.0

    def __init__(self, backbone: SplitBackbone) -> None:
        super().__init__(backbone)
        self._layers = {path: layer for path, layer in backbone.layers.items() if _is_dense(layer)}
        if not self._layers:
            kinds = ", ".join(sorted({type(layer).__name__ for layer in backbone.layers.values()})) or "no layer"
            raise ConfigError(
                f"lora adapts dense convolutions and linear layers, but scope {backbone.scope.name!r} holds none "
                f"({kinds}); name a deeper scope, or fine-tune the tensors themselves (lpft-...)"
            )
        self._factors = {path: self._drawn(path) for path in self._layers}

    def start(self) -> dict[str, Array]:
        """See Adapter."""
        return {
            f"{path}.lora": np.zeros((len(self._weight(path)), self._rank(path)), np.float32) for path in self._layers
        }

    def effective(self, trained: Mapping[str, "Tensor"]) -> "dict[str, Tensor]":
        """See Adapter."""
        merged = {}
        for path, factor in self._factors.items():
            mine, frozen = trained[f"{path}.lora"], self._weight(path)
            update = mine @ factor.to(mine.device)
            merged[f"{path}.weight"] = frozen.to(mine.device) + update.reshape(frozen.shape)
        return merged

    def _drawn(self, path: str) -> "Tensor":
        """A of a layer, float32 [rank, inputs x kernel]."""
        import torch

        inputs = self._weight(path)[0].numel()
        drawn = stream(_SHARED_SEED, "lora", path).standard_normal((self._rank(path), inputs))
        return torch.from_numpy((drawn / np.sqrt(inputs)).astype(np.float32))

    def _weight(self, path: str) -> "Tensor":
        return self.backbone.tensors[f"{path}.weight"]

    def _rank(self, path: str) -> int:
        weight = self._weight(path)
        return min(RANK, len(weight), weight[0].numel())


#: Adapter by the first word of a method's name.
ADAPTERS: Mapping[str, type[Adapter]] = MappingProxyType({kind.name: kind for kind in (Whole, LowRank)})


def find_adapter(name: str, backbone: SplitBackbone) -> Adapter:
    """Returns an adapter for a backbone.

    Raises:
        ConfigError: no such adapter, or it has nothing to adapt in the backbone's scope.
    """
    if name not in ADAPTERS:
        raise ConfigError(f"unknown adapter {name!r}; {did_you_mean(name, ADAPTERS)}")
    return ADAPTERS[name](backbone)


def _is_dense(layer: "nn.Module") -> bool:
    from torch import nn

    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
