"""Private copies of a backbone's two parts: the frozen prefix that runs once an image, the suffix that is trained."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from medtl_core.data.views import normalised
from medtl_core.errors import WeightsError
from medtl_core.methods.finetune.split_backbone import SplitBackbone, under

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medtl_core.backbones.taps import TapReader

#: Smallest variance of a pooled map: keeps a deviation's slope finite where a map is constant; far below any that
#: matters.
FLAT = 1e-12


@final
class FrozenPrefix:
    """Runs a copy of the network up to the suffix: pixels in, the suffix's input and the shallow taps out."""

    def __init__(self, backbone: SplitBackbone) -> None:
        self._place, network = backbone.processor.place, _own_copy(backbone.network, backbone)
        self._network, self._spec, self._shallow = network, backbone.spec, backbone.shallow
        taps = {tap: network.get_submodule(backbone.order.taps[tap]) for tap in backbone.shallow}
        self._reader = _tap_reader(taps, backbone, stops=not backbone.units)
        self._suffix_input: list[Tensor] = []
        if backbone.units:
            network.get_submodule(backbone.units[0]).register_forward_pre_hook(self._stop)

    def __call__(self, pixels: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Returns the suffix's input [v, ...] and the pooled shallow taps [v, ds] for views uint8 [v, s, s, 3]."""
        import torch

        self._suffix_input.clear()
        with torch.no_grad():
            images = normalised(pixels.to(self._place), self._spec.mean, self._spec.std)
            with self._reader.reading() as rows:
                self._network(images)
            none = images.new_zeros(len(images), 0)
            shallow = torch.cat([none, *(rows[tap] for tap in self._shallow)], dim=1)
        return (self._suffix_input or [none])[0].cpu(), shallow.cpu()

    def _stop(self, module: "nn.Module", inputs: tuple["Tensor", ...]) -> None:
        from medtl_core.backbones.taps import EnoughRead

        self._suffix_input.append(inputs[0])
        raise EnoughRead


@final
class TrainableSuffix:
    """A suffix whose tensors can be replaced, so that gradients reach what they were made from.

    It stays in evaluation mode: no dropout, and norms are constants.

    Attributes:
        device: that it runs on.
    """

    def __init__(self, backbone: SplitBackbone) -> None:
        self.device = backbone.processor.place
        self._spec = backbone.spec
        self._modules: Mapping[str, nn.Module] = {
            path: _own_copy(backbone.network.get_submodule(path), backbone) for path in backbone.units
        }
        self._deep = tuple(tap for tap in backbone.spec.taps if tap not in backbone.shallow)
        taps = {tap: self._module(backbone.order.taps[tap]) for tap in self._deep}
        self._deepest = backbone.order.taps[self._deep[-1]] if self._deep else ""
        self._reader = _tap_reader(taps, backbone, stops=True)

    def place(self, tensors: Mapping[str, "Tensor"]) -> None:
        """Puts tensors in the place of parameters; each may require a gradient, or come from a computation.

        Raises:
            WeightsError: a name is not of this suffix, or a tensor has another shape.
        """
        for name, tensor in tensors.items():
            path, _, leaf = name.rpartition(".")
            owner = self._module(path)
            before = getattr(owner, leaf, None)
            if not hasattr(owner, leaf) or (before is not None and before.shape != tensor.shape):
                raise WeightsError(f"the suffix has no tensor {name!r} of shape {list(tensor.shape)}")
            owner._parameters.pop(leaf, None)  # a Parameter's place takes no computed tensor
            setattr(owner, leaf, tensor)

    def __call__(self, inputs: "Tensor", shallow: "Tensor") -> "Tensor":
        """Returns features [b, d] for a batch of `Inputs`, one row a view."""
        import torch

        read = inputs.to(self.device)
        if read.dtype == torch.uint8:
            read = normalised(read, self._spec.mean, self._spec.std)
        with self._reader.reading() as rows:
            for module in self._modules.values():
                read = module(read)
        return torch.cat([shallow.to(self.device), *(rows[tap] for tap in self._deep)], dim=1)

    def watched(self) -> "list[Tensor]":
        """Returns what every later pass adds the deepest tap's output to, as a leaf that gradients end at."""
        seen: list[Tensor] = []

        def watch(module: "nn.Module", inputs: Any, output: "Tensor") -> "Tensor":
            seen.append(output.detach().requires_grad_())
            return seen[-1]

        self._module(self._deepest).register_forward_hook(watch, prepend=True)  # before the reader's, which ends a pass
        return seen

    def _module(self, path: str) -> "nn.Module":
        unit = next((unit for unit in self._modules if under(path, unit)), None)
        if unit is None:
            raise WeightsError(f"{path!r} is not in the trained part of the backbone")
        return self._modules[unit].get_submodule(path[len(unit) :].lstrip("."))


def _own_copy(module: "nn.Module", backbone: SplitBackbone) -> "nn.Module":
    return copy.deepcopy(module).eval().to(backbone.processor.place)


def _tap_reader(taps: Mapping[str, Any], backbone: SplitBackbone, *, stops: bool) -> "TapReader":
    from medtl_core.backbones.taps import TapReader, pooling_of

    pools = {tap: pooling_of(backbone.network, tap, backbone.spec.pooling, FLAT) for tap in taps}
    return TapReader(taps, pools, stops=stops)
