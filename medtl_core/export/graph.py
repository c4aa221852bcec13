"""A head with its network as one torch module: from pixels or a table's values to probabilities."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medtl_core.backbones.frozen import freeze
from medtl_core.backbones.networks import load_network
from medtl_core.backbones.taps import TapReader, pooling_of
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.data.views import normalised
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.spec import FeatureSpec, feature_spec
from medtl_core.values import Head

if TYPE_CHECKING:
    from medtl_core.predict.predictor import Predictor

#: What each view does to a batch [n, s, s, 3]; the same as `data.views.VIEWS` to a picture.
_VIEWS = {
    "identity": lambda pixels: pixels,
    "flip-h": lambda pixels: pixels.flip(2),
    "flip-v": lambda pixels: pixels.flip(1),
    "transpose": lambda pixels: pixels.transpose(1, 2),
    "rotate-90": lambda pixels: pixels.transpose(1, 2).flip(1),
    "rotate-180": lambda pixels: pixels.flip(1, 2),
    "rotate-270": lambda pixels: pixels.transpose(1, 2).flip(2),
    "transverse": lambda pixels: pixels.flip(1, 2).transpose(1, 2),
}


class _Images(nn.Module):
    """Features of square pictures under one backbone: normalised, run, pooled, views averaged."""

    def __init__(self, record: FeatureSpec, chosen: Settings) -> None:
        super().__init__()
        backbone, self.record = find_backbone(chosen.backbone), record
        network, sha = load_network(backbone, chosen.weights)
        if sha not in ("", record.weights_sha):
            raise WeightsError(f"the weights of backbone {chosen.backbone!r} changed just now; start again")
        side = torch.linspace(-1, 1, backbone.size)
        example = torch.sin(9.0 * (side[:, None] * side[None, :]) + torch.arange(3)[:, None, None])[None]
        self.network = freeze(
            network, example
        )  # a graph has no exceptions: what lies behind the taps is run and dropped
        modules = {tap: self.network.get_submodule(backbone.taps[tap]) for tap in record.taps}
        pools = {tap: pooling_of(self.network, tap, record.pooling) for tap in record.taps}
        self._reader = TapReader(modules, pools, stops=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns float32 [n, d] of uint8 [n, s, s, 3]; the network stands in the graph once for all views."""
        record = self.record
        views = torch.cat([_VIEWS[view](pixels) for view in record.views])
        with self._reader.reading() as rows:
            self.network(normalised(views, record.mean, record.std))
        whole = torch.cat([rows[tap] for tap in record.taps], dim=1)
        return whole.reshape(len(record.views), -1, record.width).mean(dim=0)


class _Columns(nn.Module):
    """Each column's value, 0 where it is missing, and whether it is missing."""

    def forward(self, values: Tensor) -> Tensor:
        """Returns float32 [n, 2 k] of float32 [n, k], in which NaN is a missing cell."""
        missing = values.isnan()
        return torch.stack([values.masked_fill(missing, 0.0), missing.float()], dim=2).flatten(1)


class Answering(nn.Module):
    """A head with all that makes its features.

    Attributes:
        inputs: name -> (type, shape of one case) of what `forward` takes, in order.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, predictor: "Predictor") -> None:
        super().__init__()
        head = predictor.classifier
        if not isinstance(head, Head):
            raise ConfigError(f"medtl export writes affine heads; this is a model of kind {head.kind}")
        spec = feature_spec(predictor.settings, predictor.views, predictor.columns)
        self.inputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        parts, self.names = list[nn.Module](), list[str]()
        for record, chosen in spec.parts(predictor.settings):
            if record.backbone == "table":
                name, parts = "table", [*parts, _Columns()]
                self.inputs[name] = ("float32", (record.width // 2,))
            else:
                name, parts = f"pixels_{record.size}", [*parts, _Images(record, chosen)]
                self.inputs[name] = ("uint8", (record.size, record.size, 3))
            self.names.append(name)
        self.parts = nn.ModuleList(parts)
        self.register_buffer("weight", torch.from_numpy(head.weight.copy()))
        self.register_buffer("bias", torch.from_numpy(head.bias.copy()))
        super().train(False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and probabilities, float64 [n, C]."""
        given = dict(zip(self.inputs, inputs, strict=True))
        rows = [part(given[name]) for part, name in zip(self.parts, self.names, strict=True)]
        logits = torch.cat(rows, dim=1).double() @ self.weight.T + self.bias
        return logits, logits.softmax(dim=1)

    def example(self, count: int) -> tuple[Tensor, ...]:
        """Returns blank inputs of so many cases."""
        return tuple(torch.zeros(count, *shape, dtype=getattr(torch, kind)) for kind, shape in self.inputs.values())


def exported(module: Answering) -> Any:
    """Returns the graph of a module as `torch.export` has it, for any number of cases."""
    axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in module.inputs)
    with torch.no_grad():
        return torch.export.export(module, module.example(2), dynamic_shapes=(axes,), strict=False)


def in_order(module: Answering, given: Mapping[str, Any]) -> Sequence[Tensor]:
    """Returns named arrays as the module takes them."""
    return [torch.from_numpy(given[name]) for name in module.inputs]
