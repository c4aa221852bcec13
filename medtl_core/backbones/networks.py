"""Architectures become networks with weights: frozen for features, or with a new classifier for pretraining."""

import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.backbones.lite import Lite0, Lite0Classifier
from medtl_core.backbones.weights import load_weights
from medtl_core.errors import WeightsError

#: Classifiers by their name in the known libraries; features never run through them.
CLASSIFIERS = ("classifier.", "fc.", "head.", "heads.")
_BUILDING = threading.Lock()


def load_network(backbone: Backbone, weights: str = "") -> tuple[nn.Module, str]:
    """Returns the pretrained network in evaluation mode, and the SHA-256 that names its weights ("" if random).

    Raises:
        WeightsError: the weights are missing, damaged, or of another architecture.
    """
    network, sha = _filled(backbone, weights, None, RANDOM_SEED)
    return network.eval().requires_grad_(False), sha


def new_classifier(backbone: Backbone, weights: str, classes: int, seed: int) -> nn.Module:
    """Returns a backbone's network with a new classifier over `classes`, its first values drawn from `seed`.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    return _filled(backbone, weights, classes, seed)[0]


def _filled(backbone: Backbone, weights: str, classes: int | None, seed: int) -> tuple[nn.Module, str]:
    """The network with its weights, but for the classifier's, which stay as they were drawn."""
    if backbone.source == "random":
        return _built(backbone, classes, seed), ""
    state, sha = load_weights(backbone, weights)
    network = _built(backbone, classes, seed)
    _fill(network, {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIERS)}, backbone)
    return network, sha


def _built(backbone: Backbone, classes: int | None, seed: int) -> nn.Module:
    """The architecture with seeded values; the process's own random state is as before.

    Without `classes`, the library's own classifier is there, or none.
    """
    head: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if backbone.identity == "timm:tf_efficientnet_lite0":
            return Lite0() if classes is None else Lite0Classifier(classes)
        network: nn.Module
        if backbone.library == "timm":
            import timm

            network = timm.create_model(backbone.arch, pretrained=False, **head)
        else:
            from torchvision.models import get_model

            network = get_model(backbone.arch, weights=None, **head)
    return network


def _fill(network: nn.Module, body: Mapping[str, Tensor], backbone: Backbone) -> None:
    try:
        fault = network.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"the weights are not those of {backbone.identity!r}: {error}") from error
    missing = [name for name in fault.missing_keys if not name.startswith(CLASSIFIERS)]
    if missing or fault.unexpected_keys:
        raise WeightsError(
            f"the weights are not those of {backbone.identity!r}: {len(missing)} tensors are missing and "
            f"{len(fault.unexpected_keys)} are foreign, first {[*missing, *fault.unexpected_keys][0]!r}"
        )
