"""The backbone as something that can be trained: a frozen prefix, a trainable suffix, and the agreed features behind.

Names are the paths of the frozen network's parameters ("blocks.4.2.conv_pw.weight"), the same on every machine.
BatchNorm is gone before anything here runs (`backbones.frozen`): folded into convolutions, or constants that no mode
changes. Only the agreed taps are read; what lies behind the deepest one never runs.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, final

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.features.forward import load_agreed
from medtl_core.features.spec import FeatureSpec, feature_spec
from medtl_core.methods.finetune.layer_order import LayerOrder, find_layer_order
from medtl_core.runtime import CPU, Processor, processor

if TYPE_CHECKING:
    from torch import Tensor, nn


#: How much of a backbone is trained: "head" (nothing), "last" (the last block that feeds the deepest tap), "last3" (the
#: last three), "all" (and what comes before the first).
SCOPES = "head|last(?:[1-9][0-9]?)?|all"


@final
@dataclass(frozen=True, eq=False)
class SplitBackbone:
    """A frozen backbone, cut at the deepest agreed tap and split by a scope. It never changes; threads may share it.

    Attributes:
        network: the whole frozen network; to be read, never changed.
        spec: of the agreed features.
        scope: what is trained, one of `SCOPES`.
        order: the blocks up to the deepest tap.
        units: paths of the modules that make the suffix, in the order they run; "" = the whole network.
        shallow: taps that are read in the frozen prefix.
        tensors: name -> frozen value of every trainable tensor, in a fixed order.
        processor: that runs copies of both parts.
    """

    network: "nn.Module"
    spec: FeatureSpec
    scope: str
    order: LayerOrder
    units: tuple[str, ...]
    shallow: tuple[str, ...]
    tensors: Mapping[str, "Tensor"]
    processor: Processor = CPU

    def depth(self, name: str) -> int:
        """Returns how many blocks lie between a tensor's own block and the deepest tap; 0 = the last block."""
        blocks = self.order.blocks
        above = (count for count, place in enumerate(reversed(blocks)) if under(name, self.order.units[place]))
        return next(above, len(blocks))  # a transformer's tokens are made before its first block


def open_backbone(settings: Settings, views: tuple[str, ...], scope: str) -> SplitBackbone:
    """Returns the backbone of a run's settings, split by a scope; loaded once a process.

    Args:
        settings: those that decide the agreed features are read.
        views: label-preserving views of the data set.
        scope: one of `SCOPES`.

    Raises:
        ConfigError: the backbone is a table or several side by side, the scope is unknown or deeper than the network's
            blocks, a tap does not exist, or a BatchNorm is left in the trained part.
        WeightsError: the weights are not on this machine, or are not those that were agreed.
    """
    spec = feature_spec(settings, views) if settings.kinds == {"image"} else None
    if not isinstance(spec, FeatureSpec):
        raise ConfigError(
            f"backbone={settings.backbone!r} is not one network, and fine-tuning trains one: name it alone, or use a "
            "method of the head, e.g. lpft-head-5"
        )
    with _OPENING:
        whole = split(*_frozen(settings.backbone, settings.weights, spec), spec, scope)
    return replace(whole, processor=processor(settings.device))


def split(network: "nn.Module", order: LayerOrder, spec: FeatureSpec, scope: str) -> SplitBackbone:
    """Returns a frozen network split by a scope.

    Raises:
        ConfigError: as for `open_backbone`.
    """
    units = _units(scope, order)

    inside = {path for path in order.before if any(under(path, unit) for unit in units)}
    shallow = tuple(tap for tap, path in order.taps.items() if path not in inside)
    if shallow != spec.taps[: len(shallow)]:
        raise ConfigError(f"scope {scope!r} cuts between taps {'+'.join(spec.taps)} out of order; name one tap")
    _refuse_batch_norm(network, units)
    names = [
        f"{path}.{name}".lstrip(".")
        for path in order.before
        if path in inside
        for name, _ in network.get_submodule(path).named_parameters(recurse=False)
    ]
    tensors = {name: network.get_parameter(name).detach() for name in names}
    return SplitBackbone(network, spec, scope, order, units, shallow, tensors)


def _units(scope: str, order: LayerOrder) -> tuple[str, ...]:
    """The paths of the modules that are trained, in the order they run; "" = the whole network."""
    if not re.fullmatch(SCOPES, scope):
        raise ConfigError(f"unknown scope {scope!r}; {did_you_mean(scope, ('head', 'last', 'last2', 'last3', 'all'))}")
    if scope in ("head", "all"):
        return () if scope == "head" else ("",)
    blocks = int(scope.removeprefix("last") or 1)
    if blocks > len(order.blocks):
        deepest = f"last{len(order.blocks)}" if order.blocks else "head"
        raise ConfigError(
            f"scope {scope!r} asks for {blocks} blocks, but only {len(order.blocks)} run one after another up to the "
            f"deepest tap; did you mean {deepest!r} or 'all'?"
        )
    return order.units[order.blocks[-blocks] :]


def under(path: str, unit: str) -> bool:
    """Whether a module path is `unit` or lies below it; everything lies below "".

    Example:
        >>> under("blocks.4.2.conv", "blocks.4"), under("blocks.40", "blocks.4")
        (True, False)
    """
    return unit in ("", path) or path.startswith(f"{unit}.")


#: Loaded networks are pure functions of their names and stay for the process; threads that ask at once load one.
_OPENING = threading.Lock()


@lru_cache(maxsize=2)
def _frozen(backbone: str, weights: str, spec: FeatureSpec) -> tuple["nn.Module", LayerOrder]:
    """The very network that the agreed features come from, without the extractor's hooks, and its chain of blocks."""
    import torch

    network = load_agreed(backbone, weights, spec.weights_sha, spec.taps, spec.pooling).network
    for module in network.modules():
        module._forward_hooks.clear()
    example = torch.zeros(1, 3, spec.size, spec.size).to(memory_format=torch.channels_last)
    places = find_backbone(backbone).taps
    return network, find_layer_order(network, {tap: places[tap] for tap in spec.taps}, example)


def _refuse_batch_norm(network: "nn.Module", units: tuple[str, ...]) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    for path, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or any(under(path, unit) for unit in units)):
            where = "in training mode" if module.training else "in the trained part"
            raise ConfigError(
                f"BatchNorm {path!r} is {where}: it would take un-noised averages of private images into its buffers; "
                "freeze the network first (medtl_core.backbones.frozen.freeze)"
            )
