"""The last blocks of a backbone as something that is trained case by case, under privacy.

    block = open_block(settings, views, blocks=1, group=False)
    block.start                                       # name -> frozen value of every tensor that is trained
    network = block.network(map_, arrays, shape)      # blocks and head, for `methods.private.samplegrad`
    Seen(block.body.inputs(material), view=0)         # what it reads of each case, made when it is asked for
    block.features(material, arrays)                  # the agreed features under trained tensors, all views averaged

Of a block's BatchNorm nothing is left that could be trained or could change: it is folded into the convolution before
it, or a constant (`backbones.frozen`). With `group`, its statistics stay constants and a GroupNorm that is trained
takes its place (`backbones.grouped`).
"""

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.features.dataset import Material
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.split_backbone import Body, open_body
from medtl_core.methods.finetune.trainable_suffix import pooled, positions
from medtl_core.privacy.patients import PublicMap
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medtl_core.backbones.suffix import Suffix

#: Cases whose views run together when features are read.
_CASES = 8


@final
@dataclass(frozen=True)
class Block:
    """A backbone's last blocks, ready to be copied and trained. It never changes; threads may share it.

    Attributes:
        body: gives their inputs.
        units: in the order they run, nothing in place.
    """

    body: Body
    units: "tuple[nn.Module, ...]"

    @property
    def start(self) -> dict[str, Array]:
        """Returns name -> value, float64, of every tensor that is trained, in torch's order."""
        from torch import nn

        named = nn.ModuleDict({"units": nn.ModuleList(self.units)}).named_parameters()
        return {name: parameter.detach().double().numpy() for name, parameter in named}

    def network(self, map_: PublicMap, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> "Suffix":
        """Returns blocks and head as one network; all is trainable but "head.bias".

        Args:
            map_: from features to the rows the head reads.
            arrays: `start`'s names, and "head.weight" [C, k], "head.bias" [C].
            shape: of what the first unit reads of one case; see `Seen.shape`.

        Raises:
            WeightsError: an array is missing, foreign or of another shape.
        """
        import torch

        from medtl_core.backbones.suffix import Reading, Suffix

        classes = len(arrays.get("head.bias", ()))
        head = {"head.weight": (classes, map_.basis.shape[1]), "head.bias": (classes,)}
        known = {**{name: array.shape for name, array in self.start.items()}, **head}
        if not classes or {name: array.shape for name, array in arrays.items()} != known:
            raise WeightsError(f"the arrays are not those of the blocks {'+'.join(self.body.units)} and a head on rows")
        paths = self.body.chain.taps
        taps = tuple(self.body.units.index(paths[tap]) for tap in self.body.spec.taps if tap not in self.body.shallow)
        tokens = int(getattr(self.body.network, "num_prefix_tokens", 0) or 0)
        pool = partial(_pooled, tokens, self.body.layout == "NHWC", self.body.spec.pooling == "mean+std")
        constants = {name: torch.from_numpy(np.asarray(array, np.float64)) for name, array in map_.arrays.items()}
        made = Suffix(copy.deepcopy(self.units), Reading(shape, taps, pool), constants, classes)
        own = {name: torch.from_numpy(np.array(array, np.float64)) for name, array in arrays.items()}
        made.double().load_state_dict(own, strict=False)
        made.requires_grad_(True).head.bias.requires_grad_(False)
        return made

    def features(self, material: Material, arrays: Mapping[str, Array]) -> NDArray[np.float32]:
        """Returns float32 [n, d], averaged over the agreed views.

        Raises:
            DataError: an image cannot be read, or the features are not finite under these tensors.
            WeightsError: the arrays are not those of `start`.
        """
        import torch

        inputs, width, found = self.body.inputs(material), self.body.spec.width, []
        if not len(inputs):
            return np.zeros((0, width), np.float32)
        anything = PublicMap(np.zeros(width), np.ones(width), np.zeros((width, 1)))
        head = {"head.weight": np.zeros((1, 1)), "head.bias": np.zeros(1)}
        network = self.network(anything, {**arrays, **head}, Seen(inputs, 0).shape).float().eval()
        with torch.no_grad():
            for first in range(0, len(inputs), _CASES):
                chosen = range(first, min(first + _CASES, len(inputs)))
                rows = network.features(_flat(*inputs.batch(chosen)))
                found.append(rows.reshape(len(chosen), -1, width).mean(dim=1))
        values: NDArray[np.float32] = torch.cat(found).numpy()
        if not np.isfinite(values).all():
            raise DataError("the trained blocks give features that are not finite: their training diverged")
        return values


@final
class Seen:
    """What a block's network reads of each case, float32 [b, ...] for positions; see `samplegrad.Rows`.

    Attributes:
        shape: of what the first unit reads of one case.
    """

    def __init__(self, inputs: Inputs, view: int) -> None:
        self._inputs, self._view = inputs, view
        self.shape = tuple(inputs.batch([0], [view])[0].shape[1:])

    def __getitem__(self, rows: NDArray[np.int64], /) -> Array:
        """See class."""
        return _flat(*self._inputs.batch(rows, np.full(len(rows), self._view))).numpy()


def open_block(settings: Settings, views: tuple[str, ...], blocks: int, *, group: bool) -> Block:
    """Returns the last blocks of a run's backbone; loaded once a process.

    Args:
        settings: as for `body.open_body`.
        views: as for `body.open_body`.
        blocks: how many.
        group: whether BatchNorm becomes a GroupNorm that is trained.

    Raises:
        ConfigError: as for `body.open_body`; a tap is read inside a block; or `group`, and there is no BatchNorm.
        WeightsError: the weights are not on this machine, or are not those that were agreed.
    """
    body = open_body(settings, views, f"last{blocks}" if blocks > 1 else "last")
    with _OPENING:
        return _open(body, settings.backbone, settings.weights, group)


_OPENING = threading.Lock()


@lru_cache(maxsize=8)
def _open(body: Body, backbone: str, weights: str, group: bool) -> Block:
    from medtl_core.backbones.grouped import Grouped, grouped, separate
    from medtl_core.backbones.networks import load_network

    inside = [path for tap, path in body.chain.taps.items() if tap not in body.shallow and path not in body.units]
    if inside:
        raise ConfigError(f"tap {inside[0]!r} is read inside a block that would be trained; name one tap less")
    network = load_network(find_backbone(backbone), weights)[0] if group else body.network
    units = [copy.deepcopy(network.get_submodule(path)) for path in body.units]
    if group:
        units = [grouped(unit) for unit in units]
        if not any(isinstance(module, Grouped) for unit in units for module in unit.modules()):
            raise ConfigError(f"{'+'.join(body.units)} has no BatchNorm that GroupNorm could replace; leave out -group")
    return Block(body, tuple(separate(unit) for unit in units))


def _flat(read: "Tensor", shallow: "Tensor") -> "Tensor":
    import torch

    return torch.cat([read.flatten(1), shallow], dim=1)


def _pooled(tokens: int, channels_last: bool, spread: bool, output: "Tensor") -> "Tensor":
    return pooled(positions(output, tokens, channels_last), spread)
