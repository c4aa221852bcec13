"""The classifier of private fine-tuning: a backbone's trained last blocks, and a head on rows of length one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model, Packed
from medtl_core.heads.statistics import Float
from medtl_core.methods.finetune.activations import tuned_features
from medtl_core.methods.material import checked
from medtl_core.methods.private.block import open_blocks, placed
from medtl_core.privacy.patients import PublicMap
from medtl_core.values import Array


@final
@dataclass(frozen=True)
class Blocked(Model):
    """Blocks ("units...") and "head.weight" [C, k], float64, on the rows of a map; see `methods.private.public_pca`.

    Attributes:
        scope: which blocks; see `split_backbone.Scope`.
    """

    kind: ClassVar[str] = "blocked"
    AXES: ClassVar[Mapping[str, str]] = {"mean": "d", "scale": "d", "basis": "dk", "head.weight": "ck", "*": ""}

    map: PublicMap
    arrays: Mapping[str, Array]
    scope: str
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """See Model; without images, or with other features than the blocks were trained in, it is refused."""
        images = checked(material, self.fingerprint)
        backbone = open_blocks(images.settings, images.views, self.scope)
        tensors = self.tensors(images.settings, images.views)
        return np.asarray(self.map.rows(tuned_features(backbone, images, tensors)) @ self.arrays["head.weight"].T)

    def tensors(self, settings: Settings, views: tuple[str, ...]) -> Mapping[str, Array]:
        """Returns what stands in the place of the frozen network's parameters, by their paths."""
        blocks = {name: array for name, array in self.arrays.items() if name != "head.weight"}
        return placed(open_blocks(settings, views, self.scope), blocks)

    def flaw(self) -> str:
        """See Model."""
        return "" if self.scope else "they do not say which blocks were trained"

    @classmethod
    def unpack(cls, packed: Packed) -> "Blocked":
        """See Model; what `private-block-R` saved, which names a number of blocks, is read but for its GroupNorm."""
        if packed.config.get("group"):
            raise WeightsError("the blocks were trained with GroupNorm, which is retired; commit 8906598 reads them")
        blocks = int(packed.config.get("blocks", 0))
        scope = str(packed.config.get("scope", "")) or {0: "", 1: "last"}.get(blocks, f"last{blocks}")
        return super().unpack(replace(packed, config={"scope": scope}))


MODELS: tuple[type[Model], ...] = (Blocked,)
