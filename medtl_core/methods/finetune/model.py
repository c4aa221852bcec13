"""The model that fine-tuning gives: what was trained, and how the frozen rest turns it into an answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.config import Settings
from medtl_core.errors import WeightsError
from medtl_core.features.dataset import Material
from medtl_core.federation.model import Model
from medtl_core.heads.statistics import Float
from medtl_core.methods.finetune.activations import tuned_features
from medtl_core.methods.finetune.adapters import ADAPTERS, find_adapter
from medtl_core.methods.finetune.class_maps import class_maps
from medtl_core.methods.finetune.split_backbone import SplitBackbone, open_backbone
from medtl_core.methods.material import checked
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor


@final
@dataclass(frozen=True)
class Tuned(Model):
    """A fine-tuned backbone with its head: the tensors that were trained, and nothing of the frozen rest.

    Attributes:
        fingerprint: of the agreed features, which name the frozen backbone.
        head: float64 [C, d + 1] on the tuned features, the bias last.
        trained: float32 arrays by name; see `adapters`.
        adapter: one of `adapters.ADAPTERS`.
        scope: one of `split_backbone.SCOPES`.
    """

    kind: ClassVar[str] = "tuned"
    AXES: ClassVar[Mapping[str, str]] = {"head": "cd+", "*": ""}

    classes: tuple[str, ...]
    fingerprint: str
    head: Float
    trained: Mapping[str, Array]
    adapter: str
    scope: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model; WeightsError if the cases' features are not those it was tuned from, or its arrays do not fit."""
        backbone, images, effective = self._placed(material)
        tuned = tuned_features(backbone, images, effective)
        return np.asarray(tuned.astype(np.float64) @ self.head[:, :-1].T + self.head[:, -1])

    def class_maps(self, material: Material, contrast: Float, order: Array | None = None) -> list[Float]:
        """Returns Grad-CAM of each case's views, float64 [v, h, w] each, of what speaks for a contrast of classes [C].

        Args:
            material: the cases.
            contrast: of the logits.
            order: of the head's columns [d], shuffled for a head that has learnt nothing.

        Raises:
            ConfigError, DataError, WeightsError: see `logits` and `class_maps.class_maps`.
        """
        backbone, images, effective = self._placed(material)
        row = contrast @ self.head[:, :-1]
        return class_maps(backbone, images, effective, row if order is None else row[order])

    def _placed(self, material: Material | None) -> "tuple[SplitBackbone, Material, Mapping[str, Tensor]]":
        """The backbone it was tuned from, the cases, and the tensors that stand in the place of frozen ones."""
        images = checked(material, self.fingerprint)
        backbone = open_backbone(images.settings, images.views, self.scope)
        return backbone, images, self.tensors(images.settings, images.views)

    def tensors(self, settings: Settings, views: tuple[str, ...]) -> Mapping[str, "Tensor"]:
        """Returns what stands in the place of the frozen network's parameters, by path; see `logits`."""
        import torch

        adapter = find_adapter(self.adapter, open_backbone(settings, views, self.scope))
        shapes = {name: array.shape for name, array in self.trained.items()}
        if {name: array.shape for name, array in adapter.start.items()} != shapes:
            raise WeightsError(f"the model's arrays are not those of {self.adapter!r} in scope {self.scope!r}")
        return adapter.effective({name: torch.tensor(array) for name, array in self.trained.items()})

    def flaw(self) -> str:
        """See Model."""
        return "" if self.adapter in ADAPTERS else f"adapter {self.adapter!r} is not known"


MODELS: tuple[type[Model], ...] = (Tuned,)
