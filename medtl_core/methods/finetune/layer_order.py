"""Which blocks of a network feed its deepest tap, one after another: found by watching one pass, not by its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medtl_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medtl_core.backbones.trace import ModuleRun


@dataclass(frozen=True)
class LayerOrder:
    """Blocks that run one after another, each on the output of the one before, up to the deepest tap.

    Attributes:
        units: module paths in the order they run; the last one ends with the deepest tap. Some hold no parameter.
        blocks: positions in `units` of those that hold parameters, from the shallowest.
        taps: tap -> path of the module whose output it is; a sequence of blocks stands for its last one.
        before: paths of all modules that began to run before the deepest tap was read, "" (the network) among them.
    """

    units: tuple[str, ...]
    blocks: tuple[int, ...]
    taps: Mapping[str, str]
    before: tuple[str, ...]


def find_layer_order(network: "nn.Module", taps: Mapping[str, str], example: "Tensor") -> LayerOrder:
    """Returns the chain of blocks that ends with the deepest tap.

    A block follows another when it reads the very tensor that the other gave. Plain sequences are taken apart, any
    other module is a block.

    Args:
        network: frozen, in evaluation mode.
        taps: tap -> module path, from the shallowest to the deepest.
        example: float32 [n, 3, s, s], an image-like input of the size that will be read.

    Raises:
        ConfigError: a tap never runs or runs more than once, or the network cannot read images of this size.
    """
    from medtl_core.backbones.trace import trace

    try:
        runs = trace(network, example)
    except (RuntimeError, AssertionError, ValueError) as error:
        size = "x".join(map(str, example.shape[2:]))
        raise ConfigError(f"the backbone failed on images of {size} pixels: {error}") from error
    resolved = {tap: _last_child(network, path) for tap, path in taps.items()}
    for tap, path in resolved.items():
        if path not in runs or runs[path].times > 1:
            raise ConfigError(f"tap {tap!r} must run exactly once to be fine-tuned; module {path!r} does not")
    path = list(resolved.values())[-1]
    deepest = runs[path]
    units = [path]
    while (feeder := _feeder(runs, runs[units[0]])) is not None:
        units.insert(0, _last_child(network, feeder))
    blocks = tuple(place for place, unit in enumerate(units) if list(network.get_submodule(unit).parameters()))
    before = tuple(name for name, run in runs.items() if run.began < deepest.ended)
    return LayerOrder(tuple(units), blocks, resolved, before)


def _feeder(runs: Mapping[str, "ModuleRun"], reader: "ModuleRun") -> str | None:
    """The module that gave what `reader` read: the last to end, since layers that work in place give one tensor on."""
    feeders = [
        (run.ended, path)
        for path, run in runs.items()
        if run.gave is not None and run.gave is reader.read and run.ended < reader.began and run.times == 1
    ]
    return max(feeders)[1] if feeders else None


def _last_child(network: "nn.Module", path: str) -> str:
    from torch import nn

    module = network.get_submodule(path)
    while type(module) is nn.Sequential and len(module):
        name, module = list(module.named_children())[-1]
        path = f"{path}.{name}" if path else name
    return path
