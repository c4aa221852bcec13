"""Architectures become networks with weights, in evaluation mode and without gradients."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.backbones.lite import Lite0
from medtl_core.backbones.weights import load_weights
from medtl_core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

#: Classifiers by their name in the known libraries; features never run through them.
CLASSIFIERS = ("classifier.", "fc.", "head.", "heads.")
_BUILDING = threading.Lock()


def load_network(backbone: Backbone, weights: str = "") -> tuple[nn.Module, str]:
    """Returns the pretrained network in evaluation mode, and the SHA-256 that names its weights ("" if random).

    Raises:
        WeightsError: the weights are missing, damaged, or of another architecture.
    """
    if backbone.source == "random":
        return _build(backbone).eval().requires_grad_(False), ""
    state, sha = load_weights(backbone, weights)
    network = _build(backbone)
    _fill(network, state, backbone)
    return network.eval().requires_grad_(False), sha


def _build(backbone: Backbone) -> nn.Module:
    """Builds the architecture with weights from a fixed seed; the process's own random state is as before."""
    with _BUILDING, _own_random_state():
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


@contextmanager
def _own_random_state() -> Iterator[None]:
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(RANDOM_SEED)
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _fill(network: nn.Module, state: dict[str, "Tensor"], backbone: Backbone) -> None:
    body = {name: tensor for name, tensor in state.items() if not name.startswith(CLASSIFIERS)}
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
