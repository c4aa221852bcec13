"""The quick 1x1 convolution against torch's own, forwards and backwards."""

import pytest
import torch
from torch import Tensor, nn

from medtl_core.backbones.pointwise import Pointwise, hasten

ONEDNN = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


class Scaled(nn.Conv2d):
    """A convolution with a forward pass of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * super().forward(x)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Sequential(nn.Conv2d(8, 12, 1), nn.ReLU()),
        nn.Conv2d(12, 6, 1, groups=3, bias=False),
        Scaled(6, 6, 1),
        nn.Conv2d(6, 4, 1, stride=2),
    )


@ONEDNN
def test_sums_and_gradients_agree_with_torch_and_only_plain_1x1_convolutions_change() -> None:
    plain, quick = network(), hasten(network())
    names = [path for path, module in quick.named_modules() if isinstance(module, Pointwise)]
    assert names == ["1.0", "2"]
    assert list(quick.state_dict()) == list(plain.state_dict())
    x = torch.randn(5, 3, 9, 7)
    sums, gradients = [], []
    for one in (plain, quick):
        inputs = x.clone().requires_grad_(True)
        sums.append(one(inputs))
        sums[-1].square().sum().backward()
        gradients.append([inputs.grad, *(value.grad for value in one.parameters())])
    torch.testing.assert_close(sums[1], sums[0])
    torch.testing.assert_close(gradients[1], gradients[0])
    assert quick.double()(x.double()).dtype == torch.float64  # other number types take torch's own way


def test_without_onednn_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not any(isinstance(module, Pointwise) for module in hasten(network()).modules())
