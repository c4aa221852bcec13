"""What each kind of classifier does to features, as a torch module; a kind that no graph can hold is refused here.

A classifier is read through `pack`, by the names of its arrays: nothing here imports the method that made it, and what
is written is compared with the classifier's own answers afterwards (`export.write`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medtl_core.errors import ConfigError
from medtl_core.values import ABSENT, Array, Head

if TYPE_CHECKING:
    from medtl_core.predict.predictor import Predictor

#: Lengths below this are those of a row of zeros; see `privacy.patients.unit`.
_TINY = 1e-12


def refusal(what: str, why: str) -> ConfigError:
    """Returns the one error of what no file for another program can hold."""
    remedy = "medtl predict and medtl serve answer from the head as it is; or train a head that can be written"
    return ConfigError(f"medtl export cannot write {what}: {why}; {remedy}, e.g. auto or discriminant on images")


class Affine(nn.Module):
    """Logits float64 [n, C] of rows [n, d], from a head [C, d + 1] with its bias last."""

    weight: Tensor
    bias: Tensor

    def __init__(self, head: Array) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(np.array(head[:, :-1], np.float64)))
        self.register_buffer("bias", torch.from_numpy(np.array(head[:, -1], np.float64)))

    def forward(self, rows: Tensor) -> Tensor:
        """Returns float64 [n, C]."""
        return rows.double() @ self.weight.T + self.bias


class _Known(nn.Module):
    """A module whose constants are arrays by name; "body.weight" is kept as "body_weight"."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        super().__init__()
        for name, array in arrays.items():
            kind = np.int64 if np.asarray(array).dtype.kind in "iub" else np.float64
            self.register_buffer(name.replace(".", "_"), torch.from_numpy(np.array(array, kind)))

    def of(self, name: str) -> Tensor:
        """Returns a constant by the array's own name."""
        return self.get_buffer(name.replace(".", "_"))


class _ScaledColumns(_Known):
    """Columns scaled in float64, 0 where not measured, then 1 where not measured; an affine head on these."""

    def forward(self, table: Tensor) -> Tensor:
        missing = table.isnan()
        scaled = ((table - self.of("centre")) / self.of("scale")).masked_fill(missing, 0.0)
        return torch.cat([scaled, missing.double()], dim=1) @ self.of("head")[:, :-1].T + self.of("head")[:, -1]


class _Directions(_Known):
    """An affine head on rows of length one along public directions."""

    def forward(self, values: Tensor) -> Tensor:
        rows = ((values.double() - self.of("mean")) / self.of("scale")) @ self.of("basis")
        length = rows.square().sum(dim=1, keepdim=True).sqrt()
        return (rows / length.clamp_min(_TINY)) @ self.of("weight").T + self.of("bias")


class _Network(_Known):
    """One hidden layer on standardised features; a class nobody has shown is never the answer."""

    def forward(self, values: Tensor) -> Tensor:
        inputs = ((values.double() - self.of("mean")) / self.of("scale")).float().double()
        hidden = torch.tanh(inputs @ self.of("body.weight").T + self.of("body.bias"))
        logits = hidden @ self.of("head.weight").T + self.of("head.bias")
        return torch.where(self.of("seen") > 0, logits, ABSENT)


class _Metric(_Known):
    """Nearest class mean in a learnt metric."""

    def __init__(self, metric: Any) -> None:
        seen = metric.counts > 0
        length = (metric.centres**2).sum(axis=1) - metric.spread / np.where(seen, metric.counts, 1.0)
        arrays = {name: getattr(metric, name) for name in ("mean", "scale", "whitening", "centres")}
        super().__init__({**arrays, "offset": 0.5 * length, "seen": seen, "factor": np.array(metric.temperature)})
        self.unit = metric.rule == "unit"

    def forward(self, values: Tensor) -> Tensor:
        rows = ((values.double() - self.of("mean")) / self.of("scale")) @ self.of("whitening")
        if self.unit:
            length = rows.square().sum(dim=1, keepdim=True).sqrt()
            rows = rows / torch.where(length > 0, length, 1.0)
        near = self.of("factor") * (rows @ self.of("centres").T - self.of("offset"))
        return torch.where(self.of("seen") > 0, near, ABSENT)


class _Mixture(_Known):
    """The log of the weighted mean of heads' probabilities; heads [M, C, d + 1]."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        used = arrays["weights"] > 0
        super().__init__({"heads": arrays["heads"][used], "logs": np.log(arrays["weights"][used])[:, None, None]})

    def forward(self, values: Tensor) -> Tensor:
        return torch.logsumexp(_member_logits(values, self.of("heads")).log_softmax(dim=2) + self.of("logs"), dim=0)


class _Fused(_Known):
    """The weighted mean of the logits of the modalities that a case has; a missing one's features are known."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        super().__init__(arrays)
        self.parts = [(start, stop, bool(table)) for start, stop, table in arrays["bounds"].tolist()]

    def forward(self, values: Tensor) -> Tensor:
        shares = [self._there(values[:, start:stop], table) for start, stop, table in self.parts]
        share = torch.stack(shares, dim=1).double() * self.of("weights")
        share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
        return (_member_logits(values, self.of("heads")) * share.T[:, :, None]).sum(dim=0)

    @staticmethod
    def _there(part: Tensor, table: bool) -> Tensor:
        """Whether a case has a modality: an absent one is all zeros, of a table every column is missing."""
        absent = torch.tensor([0.0, 1.0] * (part.shape[1] // 2) if table else [0.0] * part.shape[1])
        return (part != absent).any(dim=1)


def _member_logits(values: Tensor, heads: Tensor) -> Tensor:
    """Logits [M, n, C] of heads [M, C, d + 1]."""
    return values.double() @ heads[:, :, :-1].transpose(1, 2) + heads[:, None, :, -1]


Build = Callable[[Any, Mapping[str, Array]], nn.Module]
#: Kind -> arrays it must have, and what makes its module of the classifier and these.
_KINDS: Mapping[str, tuple[Sequence[str], Build]] = {
    "multi-label": (("head",), lambda _, arrays: Affine(arrays["head"])),
    "table": (("head", "centre", "scale"), lambda _, arrays: _ScaledColumns(arrays)),
    "directions": (("mean", "scale", "basis", "weight", "bias"), lambda _, arrays: _Directions(arrays)),
    "network": (
        ("body.weight", "body.bias", "head.weight", "head.bias", "mean", "scale", "seen"),
        lambda _, arrays: _Network(arrays),
    ),
    "metric": (("mean", "scale", "within", "means", "directions", "counts"), lambda model, _: _Metric(model)),
    "mixture": (("heads", "weights"), lambda _, arrays: _Mixture(arrays)),
    "fused": (("heads", "weights", "bounds"), lambda _, arrays: _Fused(arrays)),
    "tuned": (("head",), lambda _, arrays: Affine(arrays["head"])),
    "blocked": (("mean", "scale", "basis", "head.weight"), lambda _, arrays: _blocked(arrays)),
}
#: Kinds whose arrays are of any name besides: the network's own, which `export.graph` puts into it.
TUNED = ("tuned", "blocked")
_WHY = {
    "standardised": "its answer to a case depends on the cases that are asked beside it",
    "attention": "it weighs the pictures of a case, and a graph here reads one picture",
}


def head_of(predictor: "Predictor") -> nn.Module:
    """Returns the module that gives the logits of a predictor's classifier, float64 [n, C].

    It takes features [n, d], but of kind "table" the table itself, float64 [n, k].

    Raises:
        ConfigError: no graph can hold what the classifier does.
    """
    classifier = predictor.classifier
    if isinstance(classifier, Head):
        return Affine(np.concatenate([classifier.weight, classifier.bias[:, None]], axis=1))
    if classifier.kind not in _KINDS:
        why = _WHY.get(classifier.kind, "how it answers is not known here")
        raise refusal(f"a model of kind {classifier.kind}", why)
    needed, build = _KINDS[classifier.kind]
    arrays = classifier.pack().arrays
    if not {*needed} <= arrays.keys() or (classifier.kind not in TUNED and len(arrays) > len(needed)):
        raise refusal(f"this model of kind {classifier.kind}", "it was made by another version of medtl")
    return build(classifier, arrays)


def _blocked(arrays: Mapping[str, Array]) -> nn.Module:
    weight = arrays["head.weight"]
    map_ = {name: arrays[name] for name in ("mean", "scale", "basis")}
    return _Directions({**map_, "weight": weight, "bias": np.zeros(len(weight))})
