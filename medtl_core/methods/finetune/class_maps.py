"""Where in a picture a tuned backbone's answer comes from: Grad-CAM at its deepest tap.

Selvaraju et al., ICCV 2017: each map of the tap counts by the mean slope of a class over its positions, and what then
speaks against the class is cut off. Unlike the maps of an affine head on pooled features, they add up to nothing.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from medtl_core.errors import ConfigError
from medtl_core.features.dataset import Material
from medtl_core.heads.statistics import Float
from medtl_core.methods.finetune.activations import Inputs
from medtl_core.methods.finetune.split_backbone import SplitBackbone
from medtl_core.methods.finetune.trainable_suffix import TrainableSuffix

if TYPE_CHECKING:
    from torch import Tensor


def class_maps(backbone: SplitBackbone, material: Material, tensors: "Mapping[str, Tensor]", row: Float) -> list[Float]:
    """Returns Grad-CAM of each case's views, float64 [v, h, w].

    Args:
        backbone: split as it was tuned.
        material: the cases.
        tensors: in the place of frozen ones.
        row: of the head, float64 [d]: the weights of the features in what is explained.

    Raises:
        ConfigError: the deepest tap gives no maps.
        DataError: an image cannot be read.
    """
    import torch

    inputs, suffix, found = Inputs(backbone, material), TrainableSuffix(backbone), []
    suffix.place({name: tensor.to(suffix.device) for name, tensor in tensors.items()})
    seen = suffix.watched()
    for case in range(len(inputs)):
        seen.clear()
        features = suffix(*inputs.batch([case]))
        (features @ torch.as_tensor(row, dtype=features.dtype, device=features.device)).sum().backward()  # type: ignore[no-untyped-call]
        (maps,) = seen
        if maps.ndim != 4 or maps.grad is None:
            raise ConfigError("the deepest tap gives no maps; draw them by covering places (--occlusion)")
        weighed = (maps.grad.mean(dim=(2, 3), keepdim=True) * maps.detach()).sum(dim=1).double().cpu().numpy()
        found.append(np.maximum(weighed, 0))
    return found
