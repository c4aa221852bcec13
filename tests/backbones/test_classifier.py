"""A backbone with a new classifier: the library's logits, and weights that do not fit."""

import pytest
import torch
from torch import nn

from medtl_core.backbones.networks import new_classifier
from medtl_core.backbones.weights import load_weights
from medtl_core.backbones.zoo import find_backbone


def images(size: int = 64) -> torch.Tensor:
    return torch.randn((2, 3, size, size), generator=torch.Generator().manual_seed(0))


def test_lite0_answers_as_timms_network_does() -> None:
    import timm

    backbone = find_backbone("lite0")
    network = new_classifier(backbone, "", 3, 0).eval()
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=3)
    reference.load_state_dict(network.state_dict())
    with torch.no_grad():
        expected = reference.eval()(images())
        found = network(images())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_new_classifier_keeps_the_body_and_depends_on_the_seed() -> None:
    backbone = find_backbone("lite0")
    body = {name: value for name, value in load_weights(backbone)[0].items() if not name.startswith("classifier")}
    first, again, other = (new_classifier(backbone, "", 3, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], value) for name, value in body.items())
    assert first["classifier.weight"].shape == (3, 1280)
    assert torch.equal(first["classifier.weight"], again["classifier.weight"])
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.parametrize("name", ["random:resnet18", "random:mobilenet_v2", "random:densenet121"])
def test_new_classifiers_have_the_classes_asked_for(name: str) -> None:
    network: nn.Module = new_classifier(find_backbone(name), "", 5, 0)
    assert network.eval()(images()).shape == (2, 5)
