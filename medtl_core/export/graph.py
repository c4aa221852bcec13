"""A head with its network as one torch module: from pixels, a table's values or signals to probabilities."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from medtl_core.backbones.frozen import freeze
from medtl_core.backbones.networks import load_network
from medtl_core.backbones.taps import TapReader, pooling_of
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings, kind_of
from medtl_core.data.views import normalised
from medtl_core.errors import WeightsError
from medtl_core.export import HAS
from medtl_core.export.heads import TUNED, head_of, refusal
from medtl_core.features.encoders import encoder_of
from medtl_core.features.spec import FeatureSpec, feature_spec
from medtl_core.signals.encoder import SPECTRUM
from medtl_core.signals.wave import Agreement

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
#: Smallest variance of a pooled map of a tuned network; see `methods.finetune.trainable_suffix`.
_FLAT = 1e-12


@runtime_checkable
class _Tuned(Protocol):
    """A classifier that answers from a network of its own."""

    def tensors(self, settings: Settings, views: tuple[str, ...]) -> Mapping[str, Any]:
        """Returns what stands in the place of the frozen network's parameters, by their paths."""


class _Images(nn.Module):
    """Features of square pictures under one backbone: normalised, run, pooled, views averaged."""

    def __init__(self, record: FeatureSpec, chosen: Settings, tensors: Mapping[str, Any], floor: float) -> None:
        super().__init__()
        backbone, self.record = find_backbone(chosen.backbone), record
        strange = [view for view in record.views if view not in _VIEWS]
        if strange:
            raise refusal(f"a head that reads the view {strange[0]!r}", "it is computed from each picture by itself")
        network, sha = load_network(backbone, chosen.weights)
        if sha not in ("", record.weights_sha):
            raise WeightsError(f"the weights of backbone {chosen.backbone!r} changed just now; start again")
        side = torch.linspace(-1, 1, backbone.size)
        example = torch.sin(9.0 * (side[:, None] * side[None, :]) + torch.arange(3)[:, None, None])[None]
        # a graph has no exceptions: what lies behind the taps is run and dropped
        self.network = freeze(network, example)
        for path, tensor in tensors.items():
            place, _, leaf = path.rpartition(".")
            setattr(self.network.get_submodule(place), leaf, nn.Parameter(torch.as_tensor(tensor), requires_grad=False))
        modules = {tap: self.network.get_submodule(backbone.taps[tap]) for tap in record.taps}
        pools = {tap: pooling_of(self.network, tap, record.pooling, floor) for tap in record.taps}
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
    """Each column's value, 0 where it is missing, and whether it is missing; then products of every two, if asked."""

    def __init__(self, columns: int, pairs: bool) -> None:
        super().__init__()
        self.one, self.other = (torch.from_numpy(index) for index in np.triu_indices(columns if pairs else 0))

    def forward(self, values: Tensor) -> Tensor:
        """Returns float32 [n, d] of float32 [n, k], in which NaN is a missing cell."""
        missing = values.isnan()
        filled = values.masked_fill(missing, 0.0)
        told = torch.stack([filled, missing.float()], dim=2).flatten(1)
        return torch.cat([told, filled[:, self.one] * filled[:, self.other]], dim=1) if len(self.one) else told


class Answering(nn.Module):
    """A head with all that makes its features.

    Attributes:
        inputs: name -> (type, shape of one case) of what `forward` takes, in order.
    """

    def __init__(self, predictor: "Predictor") -> None:
        super().__init__()
        self.head, self.findings = head_of(predictor), predictor.tells_findings
        self.inputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        parts, self.names = list[nn.Module](), list[str]()
        for part, name, kind, shape in _parts(predictor):
            self.inputs[name] = (kind, shape)
            self.names.append(name)
            parts.append(part)
        self.parts = nn.ModuleList(parts)
        if predictor.classifier.kind == "fused":  # a case may lack a picture or a signal; of a table NaN says so
            lacking = [name for name in self.inputs if name != "table"]
            self.inputs |= {f"{HAS}{name}": ("bool", ()) for name in lacking}
        super().train(False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and probabilities, float64 [n, C]."""
        given = dict(zip(self.inputs, inputs, strict=True))
        rows = [part(given[name]) for part, name in zip(self.parts, self.names, strict=True)]
        there = [given.get(f"{HAS}{name}") for name in self.names]
        rows = [row if has is None else row * has[:, None] for row, has in zip(rows, there, strict=True)]
        logits = self.head(torch.cat(rows, dim=1) if len(rows) > 1 else rows[0])
        return logits, logits.sigmoid() if self.findings else logits.softmax(dim=1)

    def example(self, count: int) -> tuple[Tensor, ...]:
        """Returns blank inputs of so many cases."""
        return tuple(torch.zeros(count, *shape, dtype=getattr(torch, kind)) for kind, shape in self.inputs.values())


def _parts(predictor: "Predictor") -> Sequence[tuple[nn.Module, str, str, tuple[int, ...]]]:
    """What makes each backbone's features, with name, type and shape of its input."""
    classifier, chosen, found = predictor.classifier, predictor.settings, list[Any]()
    columns = sum(kind_of(name) != "signal" for name in predictor.columns)
    if classifier.kind == "table":
        return [(nn.Identity(), "table", "float64", (columns,))]
    tensors: Mapping[str, Any] = {}
    if isinstance(classifier, _Tuned):
        tensors = classifier.tensors(chosen, predictor.views)
    elif classifier.kind in TUNED:
        raise refusal(f"a model of kind {classifier.kind}", "it does not tell its network's tensors")
    for record, own in feature_spec(chosen, predictor.views, predictor.columns).parts(chosen):
        kind = kind_of(own.backbone)
        if kind == "table":
            pairs = "pairs" in record.taps
            found.append((_Columns(columns, pairs), "table", "float32", (columns,)))
        elif kind == "image":
            part = _Images(record, own, tensors, _FLAT if tensors else 0.0)
            found.append((part, f"pixels_{record.size}", "uint8", (record.size, record.size, 3)))
        else:
            found.append(_encoded(own, predictor.columns))
    return found


def _encoded(own: Settings, columns: Sequence[str]) -> tuple[nn.Module, str, str, tuple[int, ...]]:
    """The formulas of signals; words, pictures of signals and the like are made by what no file holds."""
    if own.backbone != SPECTRUM:
        what = "words" if kind_of(own.backbone) == "text" else "what it reads"
        raise refusal(f"a head on backbone {own.backbone}", f"{what} becomes features outside of any graph of tensors")
    from medtl_core.export.spectrum import Spectrum

    encoder = encoder_of(own.backbone)
    part = Spectrum(Agreement.of(columns), encoder.encoding(own, columns).taps)
    return part, encoder.column, "float32", part.shape


def exported(module: Answering) -> Any:
    """Returns the graph of a module as `torch.export` has it, for any number of cases."""
    axes = tuple({0: torch.export.Dim.DYNAMIC} for _ in module.inputs)
    with torch.no_grad():
        return torch.export.export(module, module.example(2), dynamic_shapes=(axes,), strict=False)


def in_order(module: Answering, given: Mapping[str, Any]) -> Sequence[Tensor]:
    """Returns named arrays as the module takes them."""
    return [torch.from_numpy(given[name]) for name in module.inputs]
