"""The small trainable network on cached features that adversarial, meta and personal methods adapt.

Standardised features z pass one hidden layer, h = tanh(A z + a), and an affine head, W h + b. Its arrays have names, so
a method may average some and keep others.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.federation.tasks import Arrays
from medtl_core.heads.statistics import Float
from medtl_core.values import ABSENT, Array

if TYPE_CHECKING:
    from torch import Tensor

#: Width of the hidden layer.
HIDDEN = 64
#: Arrays of the hidden layer ("body") and of the output layer ("head").
BODY, HEAD = ("body.bias", "body.weight"), ("head.bias", "head.weight")
NAMES = (*BODY, *HEAD)


def initial(width: int, classes: int, *, rng: np.random.Generator) -> dict[str, Array]:
    """Returns the arrays before training, float32: Glorot-uniform body (Glorot and Bengio 2010), zero head."""
    bound = np.sqrt(6.0 / (width + HIDDEN))
    return {
        "body.weight": rng.uniform(-bound, bound, (HIDDEN, width)).astype(np.float32),
        "body.bias": np.zeros(HIDDEN, np.float32),
        "head.weight": np.zeros((classes, HIDDEN), np.float32),
        "head.bias": np.zeros(classes, np.float32),
    }


def standardised(values: NDArray[np.floating[Any]], arrays: Arrays) -> NDArray[np.float32]:
    """Returns features [n, d] as the network reads them, float32; `arrays` holds `mean` and `scale` [d]."""
    return ((np.asarray(values, np.float64) - arrays["mean"]) / arrays["scale"]).astype(np.float32)


def embedded(values: NDArray[np.floating[Any]], arrays: Arrays) -> Float:
    """Returns the hidden layer [n, h] of features [n, d], float64; no torch is needed."""
    inputs = standardised(values, arrays).astype(np.float64)
    return np.asarray(np.tanh(inputs @ arrays["body.weight"].T + arrays["body.bias"]))


def embed(arrays: Mapping[str, "Tensor"], inputs: "Tensor") -> "Tensor":
    """Returns the hidden layer [n, h] of standardised features [n, d]."""
    import torch

    return torch.tanh(inputs @ arrays["body.weight"].T + arrays["body.bias"])


def forward(arrays: Mapping[str, "Tensor"], inputs: "Tensor") -> "Tensor":
    """Returns logits [n, C] of standardised features [n, d]."""
    return embed(arrays, inputs) @ arrays["head.weight"].T + arrays["head.bias"]


def network_loss(arrays: Mapping[str, "Tensor"], inputs: "Tensor", label: "Tensor") -> "Tensor":
    """Returns the mean log-loss of the network in nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(forward(arrays, inputs), label)


@final
@dataclass(frozen=True)
class Network(Model):
    """The trained network with the standardisation it expects.

    Attributes:
        arrays: `NAMES` and `mean`, `scale` [d], float32.
        seen: [C], above 0 for a class that any hospital has shown.
    """

    kind: ClassVar[str] = "network"
    AXES: ClassVar[Mapping[str, str]] = {
        "body.weight": "hd", "body.bias": "h", "head.weight": "ch", "head.bias": "c", "mean": "d", "scale": "d",
        "seen": "c",
    }  # fmt: skip

    arrays: Mapping[str, Array]
    seen: Array
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model."""
        logits = embedded(values, self.arrays) @ self.arrays["head.weight"].T + self.arrays["head.bias"]
        return np.asarray(np.where(self.seen > 0, logits, ABSENT), np.float64)


MODELS: tuple[type[Model], ...] = (Network,)
