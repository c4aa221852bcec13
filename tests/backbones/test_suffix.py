"""Blocks and head as one network: what it reads, in which order, and that only blocks and head can be trained."""

import copy

import torch
from torch import nn

from medtl_core.backbones.frozen import freeze
from medtl_core.backbones.suffix import Suffix, separate


def made(taps: tuple[int, ...] = (0, 1)) -> Suffix:
    units = [nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 1, 1, bias=False)]
    nn.init.ones_(units[0].weight)
    nn.init.constant_(units[1].weight, 2.0)
    width = 1 + sum((3, 1)[tap] for tap in taps)
    constants = {"mean": torch.ones(width), "scale": torch.full((width,), 2.0), "basis": torch.eye(width)}
    pools = dict.fromkeys(taps, lambda output: output.flatten(2).mean(dim=2))
    return Suffix(units, (2, 1, 2), pools, constants, width)


def test_features_are_the_shallow_taps_and_then_those_of_the_units() -> None:
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0]])  # channels 1, 3 and 5, 7; a shallow tap of 9
    for taps, features in (((0, 1), [9.0, 8.0, 8.0, 8.0, 48.0]), ((1,), [9.0, 48.0])):
        network, row = made(taps), (torch.tensor(features) - 1.0) / 2.0
        with torch.no_grad():
            network.head.weight.copy_(torch.eye(len(features)))
            network.head.bias.zero_()
        torch.testing.assert_close(network(values)[0], row / row.norm())


def test_logits_are_of_rows_of_length_one() -> None:
    network = made((1,))
    with torch.no_grad():
        network.head.weight.copy_(torch.eye(2))
        network.head.bias.copy_(torch.tensor([0.0, 10.0]))
    row = torch.tensor([(9.0 - 1) / 2, (48.0 - 1) / 2])
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0]])
    torch.testing.assert_close(network(values)[0], row / row.norm() + torch.tensor([0.0, 10.0]))
    constant = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0]])
    network.mean[1] = 0.0
    assert network(constant).tolist() == [[0.0, 10.0]]  # a row of zeros stays one


def test_parameters_are_the_units_and_the_heads_and_a_copy_is_its_own() -> None:
    network = made()
    names = [name for name, _ in network.named_parameters()]
    assert names == ["units.0.weight", "units.1.weight", "head.weight", "head.bias"]
    values = torch.ones(2, 5)
    other, before = copy.deepcopy(network), network(values)
    nn.init.zeros_(other.head.weight)
    assert torch.equal(network(values), before)


class Residual(nn.Module):
    """As torchvision's: adds in place to what the norm gave, which is an identity once it is folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.act(out)  # type: ignore[no-any-return]


def test_a_block_that_works_in_place_gives_the_same_and_trains_case_by_case() -> None:
    from opacus.grad_sample import GradSampleModule

    torch.manual_seed(0)
    images = torch.randn(3, 4, 5, 5)
    block = freeze(Residual().eval().requires_grad_(False), images)
    network = separate(copy.deepcopy(block)).requires_grad_(True)
    torch.testing.assert_close(network(images), block(images))
    for module in network.modules():
        module.training = bool(list(module.parameters(recurse=False)))
    wrapped = GradSampleModule(network, loss_reduction="sum", force_functorch=True)
    wrapped(images.clone().requires_grad_()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad_sample.shape == (3, *parameter.shape), name  # type: ignore[attr-defined]
        assert (parameter.grad_sample.flatten(1).norm(dim=1) > 0).all(), name  # type: ignore[attr-defined]
    assert type(separate(nn.Identity())) is not nn.Identity
