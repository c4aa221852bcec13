"""The last blocks of a backbone and a head as one network that is trained case by case, under privacy.

Fine-tuning replaces tensors and reads taps by hooks; Opacus needs a module whose parameters stay in their place, and
nothing that works in place. Of a block's BatchNorm nothing is left that could be trained or could change: it is folded
into the convolution before it, or a constant (`backbones.frozen`).
"""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.split_backbone import SplitBackbone, open_backbone
from medtl_core.methods.finetune.trainable_suffix import FLAT
from medtl_core.privacy.patients import PublicMap
from medtl_core.values import Array

if TYPE_CHECKING:
    from medtl_core.backbones.taps import Pool
    from medtl_core.privacy.suffix import Suffix


def open_blocks(settings: Settings, views: tuple[str, ...], scope: str) -> SplitBackbone:
    """Returns `open_backbone`'s; refuses a tap that is read inside a trained block."""
    backbone = open_backbone(settings, views, scope)
    deep = {tap: path for tap, path in backbone.order.taps.items() if tap not in backbone.shallow}
    inside = [path for path in deep.values() if path not in backbone.units]
    if inside:
        raise ConfigError(f"tap {inside[0]!r} is read inside a block that would be trained; name one tap less")
    return backbone


def start_of(backbone: SplitBackbone) -> dict[str, Array]:
    """Returns name ("units.0.conv.weight") -> value, float64, of every tensor that is trained, in torch's order."""
    return {
        name: backbone.network.get_parameter(path).detach().double().numpy() for name, path in _names(backbone).items()
    }


def network_of(
    backbone: SplitBackbone, map_: PublicMap, arrays: Mapping[str, Array], shape: tuple[int, ...]
) -> "Suffix":
    """Returns blocks and head as one network, float64; all is trainable but "head.bias".

    Args:
        backbone: gives the blocks.
        map_: from features to the rows the head reads.
        arrays: those of `start_of`, and "head.weight" [C, k], "head.bias" [C]; others are refused.
        shape: of what the first block reads of one case; see `Seen`.
    """
    import torch

    from medtl_core.backbones.taps import pooling_of
    from medtl_core.privacy.suffix import Suffix, separate

    classes = len(arrays.get("head.bias", ()))
    _check(backbone, arrays, {"head.weight": (classes, map_.basis.shape[1]), "head.bias": (classes,)})
    pools: dict[int, list[Pool]] = {}
    for tap in backbone.spec.taps[len(backbone.shallow) :]:
        pool = pooling_of(backbone.network, tap, backbone.spec.pooling, FLAT)
        pools.setdefault(backbone.units.index(backbone.order.taps[tap]), []).append(pool)
    units = [separate(copy.deepcopy(backbone.network.get_submodule(path))) for path in backbone.units]
    constants = {name: torch.from_numpy(np.asarray(array, np.float64)) for name, array in map_.arrays.items()}
    network = Suffix(units, shape, pools, constants, classes)
    state = {name: torch.from_numpy(np.array(array, np.float64)) for name, array in arrays.items()}
    network.double().load_state_dict(state, strict=False)
    network.requires_grad_(True).head.bias.requires_grad_(False)
    return network


def placed(backbone: SplitBackbone, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Returns trained tensors, those of `start_of`, under the names that `tuned_features` knows, float32."""
    _check(backbone, arrays, {})
    return {path: arrays[name].astype(np.float32) for name, path in _names(backbone).items()}


@final
class Seen:
    """What the blocks' network reads of each case in one view; `shape` is that of what the first block reads."""

    def __init__(self, inputs: Inputs, view: int) -> None:
        self._inputs, self._view = inputs, view
        self.shape = tuple(inputs.batch([0], [view])[0].shape[1:])

    def __getitem__(self, rows: NDArray[np.int64], /) -> Array:
        """Returns float32 [b, ...] for positions; see `samplegrad.Rows`."""
        read, shallow = self._inputs.batch(rows, np.full(len(rows), self._view))
        return np.concatenate([read.flatten(1).numpy(), shallow.numpy()], axis=1)


def _names(backbone: SplitBackbone) -> dict[str, str]:
    """Name of every trained tensor in the blocks' network -> its path in the backbone."""
    places = ((f"units.{place}", path) for place, path in enumerate(backbone.units))
    return {
        f"{unit}.{name}": f"{path}.{name}"
        for unit, path in places
        for name, _ in backbone.network.get_submodule(path).named_parameters()
    }


def _check(backbone: SplitBackbone, arrays: Mapping[str, Array], head: Mapping[str, tuple[int, ...]]) -> None:
    known = {**{name: array.shape for name, array in start_of(backbone).items()}, **head}
    if {name: array.shape for name, array in arrays.items()} != known:
        raise WeightsError(f"the arrays are not those of the blocks {'+'.join(backbone.units)} and a head on rows")
