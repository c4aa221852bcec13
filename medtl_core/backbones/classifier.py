"""A backbone with its classifier: what its source task would answer about an image.

Features never run through a classifier, so `networks` leaves it out. Here it stays: LEEP asks it, and pretraining makes
a new one.
"""

import threading
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.backbones.frozen import freeze
from medtl_core.backbones.lite import Lite0
from medtl_core.backbones.networks import CLASSIFIERS
from medtl_core.backbones.weights import load_weights, locate
from medtl_core.errors import WeightsError

#: Classes of a source with random weights: as many as ImageNet-1k has.
_RANDOM_CLASSES = 1000
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


def has_classifier(backbone: Backbone, weights: str = "") -> bool:
    """Returns whether a backbone's weights here hold its classifier; a download of a known library's always does.

    Raises:
        WeightsError: the weights are not here.
    """
    path = locate(backbone, weights)
    if path is None or path.suffix != ".safetensors":
        return True
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as content:
            return any(name.startswith(CLASSIFIERS) for name in content.keys())  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error


def load_classifier(backbone: Backbone, weights: str = "") -> tuple[nn.Module, int]:
    """Returns the frozen network from normalised images [n, 3, h, w] to logits [n, classes], and its classes.

    Raises:
        WeightsError: the weights are missing or damaged, of another architecture, or come without their classifier.
    """
    if backbone.source == "random":
        network, classes = _built(backbone, _RANDOM_CLASSES, RANDOM_SEED), _RANDOM_CLASSES
    else:
        state, _ = load_weights(backbone, weights)
        classes = _outputs(state)
        if not classes:
            raise WeightsError(
                f"the weights of backbone {backbone.name!r} come without their classifier: what its source task would "
                "answer is not known. LEEP and NCE need it; taps@... judges features without"
            )
        network = _built(backbone, classes, RANDOM_SEED)
        _fill(network, state, backbone)
    return freeze(network.eval().requires_grad_(False), _example(backbone.size)), classes


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


def _outputs(state: Mapping[str, Tensor]) -> int:
    """Number of classes of the last classifier layer; 0 = there is none."""
    layers = [value for name, value in state.items() if name.startswith(CLASSIFIERS) and name.endswith(".weight")]
    return layers[-1].shape[0] if layers else 0


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


def _example(size: int) -> Tensor:
    """An image-like input, float32 [1, 3, size, size]."""
    side = torch.linspace(-1, 1, size)
    return torch.sin(9.0 * (side[:, None] * side[None, :]) + torch.arange(3)[:, None, None])[None]
