"""Architectures become networks with weights."""

import re
import threading
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from medtl_core.backbones.backbone import RANDOM_SEED, Backbone
from medtl_core.backbones.libraries.gabor import Gabor
from medtl_core.backbones.libraries.lite import Lite0
from medtl_core.backbones.libraries.timm_table import build
from medtl_core.backbones.weights import load_weights
from medtl_core.errors import WeightsError

#: Classifiers by their name in the known libraries; features never run through them.
_CLASSIFIERS = ("classifier.", "fc.", "head.", "heads.")
#: Shares of red, green and blue in grey (ITU-R BT.601), as image libraries convert.
_LUMA = (0.299, 0.587, 0.114)
#: torchvision's files of DenseNet write "norm.1" where its networks say "norm1".
_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_BUILDING = threading.Lock()


def load_network(backbone: Backbone, weights: str = "") -> tuple[nn.Module, str]:
    """Returns the pretrained network in evaluation mode, and the SHA-256 that names its weights ("" if made here).

    Raises:
        WeightsError: the weights are missing, damaged, or of another architecture.
    """
    if not backbone.file:
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
        if backbone.library == "medtl":
            return Gabor()
        if backbone.library == "timm":
            return build(backbone.arch, backbone.arguments)
        from torchvision.models import get_model

        network: nn.Module = get_model(backbone.arch, weights=None)
    return network


def _fill(network: nn.Module, state: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Gives the network its weights, but for the classifier's; what reads grey reads the luma of colours."""
    own = network.state_dict()
    body = {}
    for old, tensor in state.items():
        name = _DENSE.sub(r"\1\2", old)
        if name.startswith(_CLASSIFIERS):
            continue
        body[name] = tensor
        if backbone.inputs == 1 and name in own and (tensor.shape[1:2], own[name].shape[1:2]) == ((1,), (3,)):
            body[name] = tensor * torch.tensor(_LUMA).view(1, 3, *(1 for _ in tensor.shape[2:]))
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
