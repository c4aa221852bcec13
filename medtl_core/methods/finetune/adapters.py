"""What of a backbone is trained: its tensors themselves, or a few numbers beside them.

Every adapter is affine in what travels: effective tensors = frozen tensors + a linear map of the trained ones. So the
mean of the hospitals' trained arrays gives exactly the mean of their networks' weights, which averaging both factors
of plain LoRA does not (mean(B) mean(A) is not mean(B A)). All start as the identity.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.methods.finetune.split_backbone import SplitBackbone
from medtl_core.rng import stream
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

#: Largest rank of LoRA's factors.
_RANK = 8
#: Seed of LoRA's frozen factor, agreed by everybody, so that it never travels.
_SHARED_SEED = 20261


@dataclass(frozen=True)
class Adapter:
    """How what is trained becomes the tensors of a backbone's suffix.

    Attributes:
        rate: factor on the backbone's learning rate: small beside weights that were pretrained, larger where training
            starts from nothing.
        start: what travels, by name, float32 at the identity.
        effective: trained tensors -> those to place into a suffix, differentiable in the trained ones.
    """

    rate: float
    start: Mapping[str, Array]
    effective: "Callable[[Mapping[str, Tensor]], dict[str, Tensor]]"


def _whole(backbone: SplitBackbone) -> Adapter:
    """Fine-tuning proper: the tensors themselves are trained and travel."""
    return Adapter(0.1, {name: tensor.numpy().copy() for name, tensor in backbone.tensors.items()}, dict)


def _low_rank(backbone: SplitBackbone) -> Adapter:
    """FFA-LoRA (Sun et al., ICLR 2024): W + B A with A frozen and known to all; only B is trained and travels.

    A is drawn from a shared seed with rows of unit expected length; B starts at zero. Dense convolutions of any kernel
    (A spans channels and kernel) and linear layers are adapted; grouped convolutions, norms and bare parameters stay
    frozen, since a low rank saves nothing there.
    """
    from torch import nn

    frozen = {}
    for name, tensor in backbone.tensors.items():
        path, _, leaf = name.rpartition(".")
        layer = backbone.network.get_submodule(path)
        if leaf == "weight" and (isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)):
            frozen[path] = tensor
    if not frozen:
        raise ConfigError(
            f"lora adapts dense convolutions and linear layers, but scope {backbone.scope!r} holds none; name a deeper "
            "scope, or fine-tune the tensors themselves (lpft-...)"
        )
    factors = {path: _factor(path, weight) for path, weight in frozen.items()}
    zeros = {f"{path}.lora": np.zeros((len(frozen[path]), len(a)), np.float32) for path, a in factors.items()}

    def merged(trained: Mapping[str, "Tensor"]) -> "dict[str, Tensor]":
        tensors = {}
        for path, weight in frozen.items():
            mine = trained[f"{path}.lora"]
            update = mine @ factors[path].to(mine)
            tensors[f"{path}.weight"] = weight.to(mine) + update.reshape(weight.shape)
        return tensors

    return Adapter(1.0, zeros, merged)


def _factor(path: str, weight: "Tensor") -> "Tensor":
    """A of a layer, float32 [rank, inputs x kernel]."""
    import torch

    inputs = weight[0].numel()
    drawn = stream(_SHARED_SEED, "lora", path).standard_normal((min(_RANK, len(weight), inputs), inputs))
    return torch.from_numpy((drawn / np.sqrt(inputs)).astype(np.float32))


#: Adapter by its name on the wire.
ADAPTERS: Mapping[str, Callable[[SplitBackbone], Adapter]] = MappingProxyType({"finetune": _whole, "lora": _low_rank})


def find_adapter(name: str, backbone: SplitBackbone) -> Adapter:
    """Returns an adapter for a backbone.

    Raises:
        ConfigError: no such adapter, or it has nothing to adapt in the backbone's scope.
    """
    if name not in ADAPTERS:
        raise ConfigError(f"unknown adapter {name!r}; {did_you_mean(name, ADAPTERS)}")
    return ADAPTERS[name](backbone)
