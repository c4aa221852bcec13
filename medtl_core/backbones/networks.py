"""Architectures become networks with weights."""

import threading
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.backbones.lite import Lite0
from medtl_core.backbones.weights import load_weights
from medtl_core.errors import WeightsError

#: Classifiers by their name in the known libraries; features never run through them.
_CLASSIFIERS = ("classifier.", "fc.", "head.", "heads.")
_BUILDING = threading.Lock()


def load_network(backbone: Backbone, weights: str = "") -> tuple[nn.Module, str]:
    """Returns the pretrained network in evaluation mode, and the SHA-256 that names its weights ("" if random).

    Raises:
        WeightsError: the weights are missing, damaged, or of another architecture.
    """
    if backbone.source == "random":
        network, sha = _built(backbone), ""
    else:
        state, sha = load_weights(backbone, weights)
        network = _built(backbone)
        _fill(network, state, backbone)
    return network.eval().requires_grad_(False), sha


def _built(backbone: Backbone) -> nn.Module:
    """The architecture with seeded values; the process's own random state is as before."""
    with _BUILDING, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(RANDOM_SEED)
        if backbone.identity == "timm:tf_efficientnet_lite0":
            return Lite0()
        network: nn.Module
        if backbone.library == "timm":
            import timm

            network = timm.create_model(backbone.arch, pretrained=False)
        else:
            from torchvision.models import get_model

            network = get_model(backbone.arch, weights=None)
    return network


def _fill(network: nn.Module, state: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Gives the network its weights, but for the classifier's."""
    body = {name: tensor for name, tensor in state.items() if not name.startswith(_CLASSIFIERS)}
    try:
        fault = network.load_state_dict(body, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"the weights are not those of {backbone.identity!r}: {error}") from error
    missing = [name for name in fault.missing_keys if not name.startswith(_CLASSIFIERS)]
    if missing or fault.unexpected_keys:
        raise WeightsError(
            f"the weights are not those of {backbone.identity!r}: {len(missing)} tensors are missing and "
            f"{len(fault.unexpected_keys)} are foreign, first {[*missing, *fault.unexpected_keys][0]!r}"
        )
