"""The backbone as something that can be trained: a frozen prefix, a trainable suffix, and the agreed features behind.

    backbone = open_backbone(settings, views, "last2")    # the two blocks that feed the deepest agreed tap
    backbone.tensors                                      # name -> their frozen values: where training starts
    tuned_features(backbone, material)                    # float32 [n, d]: the agreed features
    tuned_features(backbone, material, {name: array})     # the same with other values of those tensors
    suffix = TrainableSuffix(backbone)                    # a private copy of the suffix to train with:
    suffix.place(tensors)                                 #   torch tensors, which may require gradients
    suffix(*Inputs(backbone, material).batch(rows, views))  # float32 [rows, d], one view each

Names are the paths of the frozen network's parameters ("blocks.4.2.conv_pw.weight"), the same on every machine.
BatchNorm is gone before anything here runs (`backbones.frozen`): folded into convolutions, or constants that no mode
changes. Only the agreed taps are read; what lies behind the deepest one never runs.
"""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self, final

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError, did_you_mean
from medtl_core.features.spec import FeatureSpec, feature_spec
from medtl_core.methods.finetune.layer_order import LayerOrder, find_layer_order

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Scope:
    """How much of the backbone is trained.

    Attributes:
        name: "head" (nothing), "last" (the last block that feeds the deepest tap), "last3" (the last three), "all".
        blocks: number of blocks; None = all of them, and what comes before the first.
    """

    #: What a method's name may hold.
    SYNTAX: ClassVar[str] = "head|last(?:[1-9][0-9]?)?|all"

    name: str
    blocks: int | None

    @classmethod
    def parse(cls, name: str) -> Self:
        """Returns the scope a word stands for.

        Raises:
            ConfigError: it is none; the nearest is suggested.

        Example:
            >>> Scope.parse("last3").blocks
            3
        """
        if not re.fullmatch(cls.SYNTAX, name):
            known = ("head", "last", "last2", "last3", "all")
            raise ConfigError(f"unknown scope {name!r}; {did_you_mean(name, known)}")
        fixed = {"head": 0, "last": 1, "all": None}
        return cls(name, fixed[name] if name in fixed else int(name.removeprefix("last")))

    def units(self, order: LayerOrder) -> tuple[str, ...]:
        """Returns the paths of the modules that are trained, in the order they run; "" = the whole network.

        Raises:
            ConfigError: the network has fewer blocks.
        """
        if self.blocks is None:
            return ("",)
        if self.blocks > len(order.blocks):
            deepest = f"last{len(order.blocks)}" if order.blocks else "head"
            raise ConfigError(
                f"scope {self.name!r} asks for {self.blocks} blocks, but only {len(order.blocks)} run one after "
                f"another up to the deepest tap; did you mean {deepest!r} or 'all'?"
            )
        return order.units[order.blocks[-self.blocks] :] if self.blocks else ()


@final
@dataclass(frozen=True, eq=False)
class SplitBackbone:
    """A frozen backbone, cut at the deepest agreed tap and split by a scope. It never changes; threads may share it.

    Attributes:
        network: the whole frozen network; to be read, never changed.
        spec: of the agreed features.
        scope: what is trained.
        order: the blocks up to the deepest tap.
        units: paths of the modules that make the suffix, in the order they run; "" = the whole network.
        shallow: taps that are read in the frozen prefix.
        tensors: name -> frozen value of every trainable tensor, in a fixed order.
    """

    network: "nn.Module"
    spec: FeatureSpec
    scope: Scope
    order: LayerOrder
    units: tuple[str, ...]
    shallow: tuple[str, ...]
    tensors: Mapping[str, "Tensor"]

    @property
    def layers(self) -> dict[str, "nn.Module"]:
        """Path -> module of every module in the suffix that holds trainable tensors of its own."""
        paths = dict.fromkeys(name.rpartition(".")[0] for name in self.tensors)
        return {path: self.network.get_submodule(path) for path in paths}

    def depth(self, name: str) -> int:
        """Returns how many blocks lie between a tensor's own block and the deepest tap; 0 = the last block."""
        blocks = self.order.blocks
        above = (count for count, place in enumerate(reversed(blocks)) if under(name, self.order.units[place]))
        return next(above, len(blocks))  # a transformer's tokens are made before its first block


def open_backbone(settings: Settings, views: tuple[str, ...], scope: str) -> SplitBackbone:
    """Returns the backbone of a run's settings, split by a scope; loaded once a process.

    Args:
        settings: `backbone`, `weights`, `features`, `image_size` and `views` are read, as for the agreed features.
        views: label-preserving views of the data set (`Problem.views`, `Material.views`).
        scope: see `Scope`.

    Raises:
        ConfigError: the backbone is a table or several side by side, the scope is unknown or deeper than the network's
            blocks, a tap does not exist, or a BatchNorm is left in the trained part.
        WeightsError: the weights are not on this machine, or are not those that were agreed.
    """
    if settings.backbone == "table":
        raise ConfigError("backbone=table has no network to fine-tune; use a method of the head, e.g. lpft-head-5")
    chosen, spec = Scope.parse(scope), feature_spec(settings, views)
    if not isinstance(spec, FeatureSpec):
        raise ConfigError(
            f"backbone={settings.backbone!r} joins several networks; fine-tuning trains one: name it alone"
        )
    with _OPENING:
        return split(*_frozen(settings.backbone, settings.weights, spec), spec, chosen)


def split(network: "nn.Module", order: LayerOrder, spec: FeatureSpec, scope: Scope) -> SplitBackbone:
    """Returns a frozen network split by a scope.

    Raises:
        ConfigError: as for `open_backbone`.
    """
    units = scope.units(order)

    def inside(path: str) -> bool:
        return any(under(path, unit) for unit in units)

    shallow = tuple(tap for tap, path in order.taps.items() if not inside(path))
    if shallow != spec.taps[: len(shallow)]:
        raise ConfigError(f"scope {scope.name!r} cuts between taps {'+'.join(spec.taps)} out of order; name one tap")
    _refuse_batch_norm(network, units)
    names = [
        f"{path}.{name}".lstrip(".")
        for path in order.before
        if inside(path)
        for name, _ in network.get_submodule(path).named_parameters(recurse=False)
    ]
    tensors = {name: network.get_parameter(name).detach() for name in names}
    return SplitBackbone(network, spec, scope, order, units, shallow, tensors)


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

    from medtl_core.backbones.extractor import load_extractor

    record = find_backbone(backbone)
    extractor = load_extractor(record, weights, spec.taps, spec.pooling)
    if extractor.sha not in ("", spec.weights_sha):
        raise WeightsError(f"the weights of backbone {backbone!r} changed while the run was starting; start it again")
    for module in extractor.network.modules():
        module._forward_hooks.clear()
    example = torch.zeros(1, 3, spec.size, spec.size).to(memory_format=torch.channels_last)
    taps = {tap: record.taps[tap] for tap in spec.taps}
    return extractor.network, find_layer_order(extractor.network, taps, example)


def _refuse_batch_norm(network: "nn.Module", units: tuple[str, ...]) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    for path, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or any(under(path, unit) for unit in units)):
            where = "in training mode" if module.training else "in the trained part"
            raise ConfigError(
                f"BatchNorm {path!r} is {where}: it would take un-noised averages of private images into its buffers; "
                "freeze the network first (medtl_core.backbones.frozen.freeze)"
            )
