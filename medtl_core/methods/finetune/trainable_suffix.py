"""Private copies of a body's two parts: the frozen prefix that runs once an image, and the suffix that is trained."""

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, final

from medtl_core.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from medtl_core.features.extract import FeatureSpec
    from medtl_core.methods.finetune.split_backbone import Body

#: Keeps the slope of a standard deviation finite where a map is constant; far below any that matters.
_FLAT = 1e-12

#: Tap -> pooled rows of the pass that is running.
_Rows = dict[str, "Tensor"]


class _Enough(Exception):  # noqa: N818 - a signal, not an error
    """All that was wanted has been read: the rest of the network need not run."""


@final
class Prefix:
    """Runs a copy of the network up to the suffix: pixels in, the suffix's input and the shallow taps out."""

    def __init__(self, body: "Body") -> None:
        network = _own_copy(body.network)
        self._network, self._spec, self._shallow = network, body.spec, body.shallow
        self._rows: _Rows = {}
        self._read: list[Tensor] = []
        _listen({tap: network.get_submodule(body.chain.taps[tap]) for tap in body.shallow}, body, self._rows)
        if body.units:
            network.get_submodule(body.units[0]).register_forward_pre_hook(self._stop)
        else:  # nothing is trained: the deepest tap is a shallow one
            network.get_submodule(body.chain.units[-1]).register_forward_hook(_enough)

    def __call__(self, pixels: "Tensor") -> tuple["Tensor", "Tensor"]:
        """Returns the suffix's input [v, ...] and the pooled shallow taps [v, ds] for views uint8 [v, s, s, 3]."""
        import torch

        self._rows.clear()
        self._read.clear()
        with torch.no_grad():
            images = normalised(pixels.to(device()), self._spec)
            with suppress(_Enough):
                self._network(images)
            rows = [self._rows[tap] for tap in self._shallow]
            shallow = torch.cat(rows, dim=1) if rows else images.new_zeros(len(images), 0)
            read = self._read[0] if self._read else images.new_zeros(len(images), 0)
        return read.cpu(), shallow.cpu()

    def _stop(self, module: "nn.Module", inputs: tuple["Tensor", ...]) -> None:
        self._read.append(inputs[0])
        raise _Enough


@final
class Part:
    """A suffix whose tensors can be replaced, so that gradients reach what they were made from.

    It stays in evaluation mode: no dropout, and norms are constants.

    Attributes:
        device: where it runs: the GPU if there is one.
    """

    def __init__(self, body: "Body") -> None:
        self.device = device()
        self._spec, self._units = body.spec, body.units
        self._modules: Mapping[str, nn.Module] = {path: _own_copy(body.submodule(path)) for path in body.units}
        self._rows: _Rows = {}
        self._deep = tuple(tap for tap in body.spec.taps if tap not in body.shallow)
        _listen({tap: self._module(body.chain.taps[tap]) for tap in self._deep}, body, self._rows)
        if body.units:
            self._module(body.chain.units[-1]).register_forward_hook(_enough)

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
        """Returns features [b, d] for a batch of `Inputs`, one row a view.

        Raises:
            ConfigError: the network cannot run on such input.
        """
        import torch

        self._rows.clear()
        read = inputs.to(self.device)
        read = normalised(read, self._spec) if read.dtype == torch.uint8 else read
        try:
            for module in self._modules.values():
                read = module(read)
        except _Enough:
            pass
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(f"the trained part of the backbone cannot run here: {error}") from error
        return torch.cat([shallow.to(self.device), *(self._rows[tap] for tap in self._deep)], dim=1)

    def _module(self, path: str) -> "nn.Module":
        unit = next((one for one in self._units if under(path, one)), None)
        if unit is None:
            raise WeightsError(f"{path!r} is not in the trained part of the backbone")
        return self._modules[unit].get_submodule(path[len(unit) :].lstrip("."))


def under(path: str, unit: str) -> bool:
    """Whether a module path is `unit` or lies below it; everything lies below "".

    Example:
        >>> under("blocks.4.2.conv", "blocks.4"), under("blocks.40", "blocks.4")
        (True, False)
    """
    return unit in ("", path) or path.startswith(f"{unit}.")


def device() -> "torch.device":
    """Returns the GPU if there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def normalised(pixels: "Tensor", spec: "FeatureSpec") -> "Tensor":
    """Returns float32 [n, 3, s, s] for uint8 [n, s, s, 3], with the arithmetic of `features.extract`."""
    scale = pixels.new_tensor([1.0 / (255.0 * std) for std in spec.std], dtype=_float32())
    shift = pixels.new_tensor([-mean / std for mean, std in zip(spec.mean, spec.std, strict=True)], dtype=_float32())
    return pixels.float().mul_(scale).add_(shift).permute(0, 3, 1, 2)


def _float32() -> "torch.dtype":
    import torch

    return torch.float32


def _own_copy(module: "nn.Module") -> "nn.Module":
    return copy.deepcopy(module).eval().to(device())


def _enough(module: "nn.Module", inputs: Any, output: Any) -> None:
    raise _Enough


def _listen(modules: Mapping[str, "nn.Module"], body: "Body", rows: _Rows) -> None:
    """Pools the output of each tap's module into `rows`, as `backbones.extractor` does."""
    pool = pooling(body)

    def reader(tap: str) -> Callable[..., None]:
        def read(module: "nn.Module", inputs: Any, output: "Tensor") -> None:
            rows[tap] = pool(output)

        return read

    for tap, module in modules.items():
        module.register_forward_hook(reader(tap))


def pooling(body: "Body") -> "Callable[[Tensor], Tensor]":
    """Returns what makes rows [n, channels] of a tap's output, as the agreed features are made."""
    tokens, last = int(getattr(body.network, "num_prefix_tokens", 0) or 0), body.layout == "NHWC"
    spread = body.spec.pooling == "mean+std"
    return lambda output: pooled(positions(output, tokens, last), spread)


def positions(output: "Tensor", tokens: int, channels_last: bool) -> "Tensor":
    """Returns [n, channels, positions] of a map [n, c, h, w] or [n, h, w, c], or of tokens [n, tokens, c]."""
    if output.ndim == 3:
        return output[:, tokens:].transpose(1, 2)
    if output.ndim == 4:
        return (output.permute(0, 3, 1, 2) if channels_last else output).flatten(2)
    return output.flatten(1)[:, :, None]


def pooled(places: "Tensor", spread: bool) -> "Tensor":
    """Returns the mean over positions [n, channels], with the standard deviation behind it where `spread` asks."""
    import torch

    mean = places.mean(dim=2, keepdim=True)
    if not spread:
        return mean[:, :, 0]
    variance = (places - mean).square().mean(dim=2)
    return torch.cat([mean[:, :, 0], variance.clamp_min(_FLAT).sqrt()], dim=1)
