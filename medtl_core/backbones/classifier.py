"""A backbone with a new classifier, for pretraining.

Features never run through a classifier, so `networks` leaves it out. Here it stays.
"""

import threading
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from medtl_core.backbones.backbone import Backbone
from medtl_core.backbones.lite import Lite0
from medtl_core.backbones.networks import CLASSIFIERS
from medtl_core.backbones.weights import load_weights
from medtl_core.errors import WeightsError

_BUILDING = threading.Lock()


@final
class Lite0Classifier(Lite0):
    """Maps float32 [n, 3, h, w] to logits [n, classes]; parameter names as in timm."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(self.conv_head.out_channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Returns the logits."""
        logits: Tensor = self.classifier(super().forward(image).mean(dim=(2, 3)))
        return logits


def new_classifier(backbone: Backbone, weights: str, classes: int, seed: int) -> nn.Module:
    """Returns a backbone's network with a new classifier over `classes`, its first values drawn from `seed`.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    network = _built(backbone, classes, seed)
    if backbone.source != "random":
        state, _ = load_weights(backbone, weights)
        _fill(network, {name: value for name, value in state.items() if not name.startswith(CLASSIFIERS)}, backbone)
    return network


def _built(backbone: Backbone, classes: int, seed: int) -> nn.Module:
    """The architecture with seeded values; the process's own random state is as before."""
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if backbone.identity == "timm:tf_efficientnet_lite0":
            return Lite0Classifier(classes)
        network: nn.Module
        if backbone.library == "timm":
            import timm

            network = timm.create_model(backbone.arch, pretrained=False, num_classes=classes)
        else:
            from torchvision.models import get_model

            network = get_model(backbone.arch, weights=None, num_classes=classes)
    return network


def _fill(network: nn.Module, state: Mapping[str, Tensor], backbone: Backbone) -> None:
    try:
        fault = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"the weights are not those of {backbone.identity!r}: {error}") from error
    headless = not any(name.startswith(CLASSIFIERS) for name in state)
    missing = [name for name in fault.missing_keys if not (headless and name.startswith(CLASSIFIERS))]
    if missing or fault.unexpected_keys:
        raise WeightsError(
            f"the weights are not those of {backbone.identity!r}: {len(missing)} tensors are missing and "
            f"{len(fault.unexpected_keys)} are foreign, first {[*missing, *fault.unexpected_keys][0]!r}"
        )
