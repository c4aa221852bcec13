"""The backbone as something that can be trained: a frozen prefix, a trainable suffix, and the agreed features behind.

    body = open_body(settings, views, "last2")     # the two blocks that feed the deepest agreed tap
    body.tensors                                   # name -> their frozen values: where training starts
    body.features(material)                        # float32 [n, d]: the agreed features, as `features.extract` gives
    body.features(material, {name: array, ...})    # the same with other values of those tensors
    part = body.part()                             # a private copy of the suffix to train with:
    part.place(tensors)                            #   torch tensors, which may require gradients
    part(*inputs.batch(rows, views))               #   float32 [rows, d], one view each; inputs = body.inputs(material)

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

import numpy as np
from numpy.typing import NDArray

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, WeightsError, did_you_mean
from medtl_core.features.dataset import Material
from medtl_core.features.extract import FeatureSpec, feature_spec
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.layer_order import Chain, find_chain
from medtl_core.methods.finetune.trainable_suffix import Part, under
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Cases whose views run together when features are read.
_CASES = 8


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


@final
class Body:
    """A frozen backbone, cut at the deepest agreed tap and split by a scope. It never changes; threads may share it.

    Attributes:
        network: the whole frozen network.
        spec: of the agreed features.
        scope: what is trained.
        chain: the blocks up to the deepest tap.
        units: paths of the modules that make the suffix, in the order they run; "" = the whole network.
        tensors: name -> frozen value of every trainable tensor, in a fixed order.
        depth: name -> number of blocks between the tensor's own and the deepest tap; 0 = the last block.
        shallow: taps that are read in the frozen prefix.
        layout: "NHWC" where maps have their channels last, "" elsewhere.
    """

    def __init__(self, network: "nn.Module", spec: FeatureSpec, scope: Scope, chain: Chain) -> None:
        self.network, self.spec, self.scope, self.chain = network, spec, scope, chain
        self.layout = str(getattr(network, "output_fmt", "") or "")
        self.units = _suffix(chain, scope)
        self.shallow = tuple(tap for tap, path in chain.taps.items() if not self._inside(path))
        if self.shallow != spec.taps[: len(self.shallow)]:
            raise ConfigError(
                f"scope {scope.name!r} cuts between taps {'+'.join(spec.taps)} out of order; name one tap"
            )
        _refuse_batch_norm(network, self.units)
        names = [
            f"{path}.{name}".lstrip(".")
            for path in chain.before
            if self._inside(path)
            for name, _ in self.submodule(path).named_parameters(recurse=False)
        ]
        self.tensors: dict[str, Tensor] = {name: network.get_parameter(name).detach() for name in names}
        self.depth = {name: _depth(name, chain) for name in names}

    @property
    def layers(self) -> dict[str, "nn.Module"]:
        """Path -> module of every module in the suffix that holds trainable tensors of its own."""
        return {path: self.submodule(path) for path in dict.fromkeys(name.rpartition(".")[0] for name in self.tensors)}

    def submodule(self, path: str) -> "nn.Module":
        """Returns the frozen module at a path; to be read, never changed."""
        return self.network.get_submodule(path)

    def part(self) -> Part:
        """Returns a private copy of the suffix."""
        return Part(self)

    def inputs(self, material: Material) -> Inputs:
        """Returns what the suffix reads of each case: prefix activations, computed once a process."""
        return Inputs(self, material)

    def features(self, material: Material, tensors: Mapping[str, Array] | None = None) -> NDArray[np.float32]:
        """Returns float32 [n, d], averaged over the agreed views.

        Args:
            material: n cases with images.
            tensors: values in the place of some of `self.tensors`; None = as they are frozen.

        Raises:
            DataError: an image cannot be read, or the features are not finite under these tensors.
        """
        import torch

        inputs, part, rows = self.inputs(material), self.part(), []
        if not len(inputs):
            return np.zeros((0, self.spec.width), np.float32)
        part.place({name: torch.tensor(value, device=part.device) for name, value in (tensors or {}).items()})
        with torch.no_grad():
            for first in range(0, len(inputs), _CASES):
                chosen = range(first, min(first + _CASES, len(inputs)))
                found = part(*inputs.batch(chosen)).float()
                rows.append(found.reshape(len(chosen), -1, found.shape[1]).mean(dim=1).cpu())
        values: NDArray[np.float32] = torch.cat(rows).numpy()
        if not np.isfinite(values).all():
            raise DataError("the tuned backbone gives features that are not finite: its training diverged")
        return values

    def _inside(self, path: str) -> bool:
        return any(under(path, unit) for unit in self.units)


def open_body(settings: Settings, views: tuple[str, ...], scope: str) -> Body:
    """Returns the backbone of a run's settings, split by a scope; loaded once a process.

    Args:
        settings: `backbone`, `weights`, `features`, `image_size` and `views` are read, as for the agreed features.
        views: label-preserving views of the data set (`Problem.views`, `Material.views`).
        scope: see `Scope`.

    Raises:
        ConfigError: the backbone is a table or several side by side, the scope is unknown or deeper than the network's
            chain of blocks, a tap does not exist, or a BatchNorm is left in the trained part.
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
        return _open(settings.backbone, settings.weights, spec, chosen)


#: Threads that ask at once load one network, not one each.
_OPENING = threading.Lock()


@lru_cache(maxsize=16)
def _open(backbone: str, weights: str, spec: FeatureSpec, scope: Scope) -> Body:
    network, chain = _frozen(backbone, weights, spec)
    return Body(network, spec, scope, chain)


@lru_cache(maxsize=2)
def _frozen(backbone: str, weights: str, spec: FeatureSpec) -> tuple["nn.Module", Chain]:
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
    return extractor.network, find_chain(extractor.network, {tap: record.taps[tap] for tap in spec.taps}, example)


def _suffix(chain: Chain, scope: Scope) -> tuple[str, ...]:
    if scope.blocks is None:
        return ("",)
    if scope.blocks > len(chain.blocks):
        deepest = f"last{len(chain.blocks)}" if chain.blocks else "head"
        raise ConfigError(
            f"scope {scope.name!r} asks for {scope.blocks} blocks, but only {len(chain.blocks)} run one after another "
            f"up to the deepest tap; did you mean {deepest!r} or 'all'?"
        )
    return chain.units[chain.blocks[-scope.blocks] :] if scope.blocks else ()


def _refuse_batch_norm(network: "nn.Module", units: tuple[str, ...]) -> None:
    from torch.nn.modules.batchnorm import _BatchNorm

    for path, module in network.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or any(under(path, unit) for unit in units)):
            where = "in training mode" if module.training else "in the trained part"
            raise ConfigError(
                f"BatchNorm {path!r} is {where}: it would take un-noised averages of private images into its buffers; "
                "freeze the network first (medtl_core.backbones.frozen.freeze)"
            )


def _depth(name: str, chain: Chain) -> int:
    for above, place in enumerate(reversed(chain.blocks)):
        if under(name, chain.units[place]):
            return above
    return len(chain.blocks)  # a transformer's tokens are made before its first block
