"""A head that weighs the pictures of a case: gated attention over the tiles of a slide, then an affine head.

Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018, eq. 9. Of the standardised
features z_k of picture k, with a 1 behind them, the weights are a = softmax_k(w (tanh(V z_k) * sigmoid(U z_k))), and
the logits are W sum_k a_k z_k. The order of the pictures does not matter; a case of one picture is weighed 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.views import views_of
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.features.cache import FeatureCache, Row
from medtl_core.features.dataset import Material
from medtl_core.features.forward import forward
from medtl_core.features.spec import FeatureSpec, feature_spec
from medtl_core.federation.model import Model
from medtl_core.federation.tasks import Arrays
from medtl_core.heads.linear import softmax
from medtl_core.heads.statistics import Float
from medtl_core.methods.material import checked
from medtl_core.runtime import processor
from medtl_core.store import cache_folder
from medtl_core.values import ABSENT, Array, digest

if TYPE_CHECKING:
    from torch import Tensor

    from medtl_core.config import Settings

#: Width of the layer that weighs a picture.
WIDTH = 32
#: What is trained: V and U, w, and W, each with the bias last where it reads features.
NAMES = ("gate", "head", "score", "value")


def initial(width: int, classes: int, *, rng: np.random.Generator) -> dict[str, Array]:
    """Returns the arrays before training, float32: every picture weighs alike, and the head is zero.

    V and U are a third of what Glorot and Bengio (AISTATS 2010) draw: features go together, so their sums are large.
    """
    bound = np.sqrt(6.0 / (width + WIDTH)) / 3.0
    drawn = rng.uniform(-bound, bound, (2, WIDTH, width + 1)).astype(np.float32)
    flat = {"score": np.zeros(WIDTH, np.float32), "head": np.zeros((classes, width + 1), np.float32)}
    return {"value": drawn[0], "gate": drawn[1], **flat}


def attended(arrays: Mapping[str, "Tensor"], bags: "Tensor") -> "Tensor":
    """Returns logits [n, C] of padded cases [n, k, d + 1], whose last column is 1 for a picture and 0 for none."""
    import torch

    hidden = torch.tanh(bags @ arrays["value"].T) * torch.sigmoid(bags @ arrays["gate"].T)
    energy = (hidden @ arrays["score"]).masked_fill(bags[..., -1] == 0, -torch.inf)
    pooled = torch.einsum("nk,nkd->nd", torch.softmax(energy, dim=1), bags)
    return pooled @ arrays["head"].T


def with_one(rows: NDArray[np.floating[Any]], arrays: Arrays) -> Float:
    """Returns pictures [k, d] standardised by `mean` and `scale` [d], with a 1 behind each, float64 [k, d + 1]."""
    wide = (np.asarray(rows, np.float64) - arrays["mean"]) / arrays["scale"]
    return np.column_stack([wide, np.ones(len(wide))])


def check_pictures(settings: "Settings") -> None:
    """Refuses backbones that read more than pictures.

    Raises:
        ConfigError: there is one.
    """
    if settings.kinds != {"image"}:
        raise ConfigError(
            f"backbone={settings.backbone!r} reads more than pictures, and attention weighs pictures; name one that "
            "reads images, or another method, e.g. auto"
        )


def pictures_of(material: Material) -> list[Row]:
    """Returns the agreed features of each picture of each case, float32 [k, d], means over the views.

    They stay in the memory of those who hold the cases, and in their cache of features.

    Raises:
        ConfigError: a backbone reads no images.
        DataError: a picture cannot be read.
        WeightsError: the weights give numbers that are not finite.
    """
    check_pictures(material.settings)
    spec, keyed = feature_spec(material.settings, material.views), material.keyed_images()
    parts = [
        [_rows(material, content, image, *part) for content, image in keyed] for part in spec.parts(material.settings)
    ]
    return [np.concatenate(case, axis=1) for case in zip(*parts, strict=True)]


def _rows(material: Material, content: str, image: Any, spec: FeatureSpec, settings: "Settings") -> Row:
    """The features of the pictures of one case under one backbone, float32 [k, d]."""
    import torch

    key, kept = digest([content, spec.fingerprint, "pictures"]), FeatureCache(cache_folder(settings.cache))
    entry = material.store.get(key) or tuple(kept.get_many([key]).values())
    if not entry:
        run = forward(settings.backbone, settings.weights, spec, processor(settings.device))
        pixels = views_of(image, spec.size, spec.views, robust=spec.version > 2)
        rows = run(torch.from_numpy(pixels)).reshape(-1, len(spec.views), spec.width).mean(dim=1).numpy()
        if not np.isfinite(rows).all():
            raise WeightsError(f"backbone {spec.backbone!r} gives features that are not finite; check its weights")
        entry = (rows.ravel(),)
        kept.put_many({key: entry[0]})
    material.store.put(key, entry)
    return np.asarray(entry[0].reshape(-1, spec.width))


@final
@dataclass(frozen=True)
class Attention(Model):
    """The trained weights of pictures and the head, with the standardisation they expect.

    Attributes:
        arrays: `NAMES` and `mean`, `scale` [d], float32.
        seen: [C], above 0 for a class that any hospital has shown.
    """

    kind: ClassVar[str] = "attention"
    AXES: ClassVar[Mapping[str, str]] = {
        "value": "hd+", "gate": "hd+", "score": "h", "head": "cd+", "mean": "d", "scale": "d", "seen": "c",
    }  # fmt: skip

    arrays: Mapping[str, Array]
    seen: Array
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model; WeightsError if the cases' features are not those it was trained on."""
        bags = self._bags(material)
        pooled = [weight @ bag for weight, bag in zip(self.weights(bags), bags, strict=True)]
        wide = np.reshape(pooled, (len(bags), self.arrays["head"].shape[1]))
        return np.asarray(np.where(self.seen > 0, wide @ self.arrays["head"].T.astype(np.float64), ABSENT))

    def weights(self, bags: Sequence[Float]) -> list[Float]:
        """Returns how much each picture counts, float64 [k] of each case [k, d + 1]; they sum to 1."""
        value, gate, score = (self.arrays[name].astype(np.float64) for name in ("value", "gate", "score"))
        return [softmax(np.tanh(bag @ value.T) / (1.0 + np.exp(-(bag @ gate.T))) @ score) for bag in bags]

    def _bags(self, material: Material | None) -> list[Float]:
        known = checked(material, self.fingerprint, "attention weighs the pictures of a case", "trained on")
        return [with_one(rows, self.arrays) for rows in pictures_of(known)]

    def flaw(self) -> str:
        """See Model."""
        return "" if (self.arrays["scale"] > 0).all() else "a scale is not positive"


MODELS: tuple[type[Model], ...] = (Attention,)
