"""What the trained part of a backbone reads: the frozen prefix's activations, each image and view run once.

The cases' own store keeps them as float32 (whole networks read pixels: uint8), under the content of the image, the
fingerprint of the features and the place of the cut.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.data.views import views_of
from medtl_core.errors import DataError
from medtl_core.features.dataset import Material
from medtl_core.methods.finetune.split_backbone import SplitBackbone
from medtl_core.methods.finetune.trainable_suffix import FrozenPrefix, TrainableSuffix
from medtl_core.values import Array

if TYPE_CHECKING:
    from torch import Tensor

    #: The suffix's input [views, ...], maps with their channels last, and the shallow taps [views, ds].
    Activations = tuple[Tensor, Tensor]

#: Positions, of cases or of views.
Rows = Sequence[int] | NDArray[np.int64]

#: Cases whose views run together when features are read.
CASES = 8


@final
class Inputs:
    """What a backbone's suffix reads of some cases, by row and view; DataError if they hold none that can be read."""

    def __init__(self, backbone: SplitBackbone, material: Material) -> None:
        self._backbone, self._store = backbone, material.store
        place = f"{backbone.spec.fingerprint}/{backbone.units[0] if backbone.units else 'head'}"
        self._images = [(f"{place}/{content}", image) for content, image in material.keyed_images()]
        self._prefix: FrozenPrefix | None = None

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, rows: Rows, views: Rows | None = None) -> tuple["Tensor", "Tensor"]:
        """Returns the suffix's input and the shallow taps, ready for a `TrainableSuffix`.

        Args:
            rows: of the cases.
            views: one view for each row; None = every view of each, so that a row becomes as many as there are views.
        """
        import torch

        entries = [self._entry(*self._images[row]) for row in rows]
        if views is None:
            read, shallow = (torch.cat(parts) for parts in zip(*entries, strict=True))
        else:
            chosen = [(read[view], wide[view]) for (read, wide), view in zip(entries, views, strict=True)]
            read, shallow = (torch.stack(parts) for parts in zip(*chosen, strict=True))
        is_map = read.ndim == 4 and read.dtype != torch.uint8
        return read.permute(0, 3, 1, 2) if is_map else read, shallow

    def _entry(self, key: str, image: Any) -> "Activations":
        if (entry := self._store.get(key)) is None:
            entry = self._computed(image)
            self._store.put(key, entry)
        return entry

    def _computed(self, image: Any) -> "Activations":
        import torch

        pixels = torch.from_numpy(views_of(image, self._backbone.spec.size, self._backbone.spec.views))
        if self._backbone.units == ("",):
            return pixels, torch.zeros(len(pixels), 0)
        self._prefix = self._prefix or FrozenPrefix(self._backbone)
        read, shallow = self._prefix(pixels)
        # maps lie in memory as the convolutions read them fastest, and so that a view is one piece
        return (read.permute(0, 2, 3, 1) if read.ndim == 4 else read).contiguous(), shallow.contiguous()


def averaged(suffix: TrainableSuffix, inputs: Inputs, rows: Rows) -> "Tensor":
    """Returns the suffix's features [b, d] of some cases, averaged over the agreed views, without gradients."""
    import torch

    means = []
    with torch.no_grad():
        for first in range(0, len(rows), CASES):
            chosen = rows[first : first + CASES]
            every = suffix(*inputs.batch(chosen)).float()
            means.append(every.reshape(len(chosen), -1, every.shape[1]).mean(dim=1))
    return torch.cat(means)


def tuned_features(
    backbone: SplitBackbone, material: Material, tensors: "Mapping[str, Array | Tensor] | None" = None
) -> NDArray[np.float32]:
    """Returns float32 [n, d] of n cases, averaged over the agreed views, with `tensors` in the place of frozen ones.

    Raises:
        DataError: an image cannot be read, or the features are not finite under these tensors.
    """
    import torch

    inputs, suffix = Inputs(backbone, material), TrainableSuffix(backbone)
    if not len(inputs):
        return np.zeros((0, backbone.spec.width), np.float32)
    suffix.place({name: torch.as_tensor(value, device=suffix.device) for name, value in (tensors or {}).items()})
    values: NDArray[np.float32] = averaged(suffix, inputs, range(len(inputs))).cpu().numpy()
    if not np.isfinite(values).all():
        raise DataError("the tuned backbone gives features that are not finite: its training diverged")
    return values
