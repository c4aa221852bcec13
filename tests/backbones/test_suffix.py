"""Blocks and head as one network: what it reads, in which order, and that only blocks and head can be trained."""

import copy

import torch
from torch import nn

from medtl_core.backbones.suffix import Reading, Suffix


def made(taps: tuple[int, ...] = (0, 1)) -> Suffix:
    units = [nn.Conv2d(2, 3, 1, bias=False), nn.Conv2d(3, 1, 1, bias=False)]
    nn.init.ones_(units[0].weight)
    nn.init.constant_(units[1].weight, 2.0)
    width = 1 + sum((3, 1)[tap] for tap in taps)
    constants = {"mean": torch.ones(width), "scale": torch.full((width,), 2.0), "basis": torch.eye(width)}
    return Suffix(units, Reading((2, 1, 2), taps, lambda output: output.flatten(2).mean(dim=2)), constants, 2)


def test_features_are_the_shallow_taps_and_then_those_of_the_units() -> None:
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0]])  # channels 1, 3 and 5, 7; a shallow tap of 9
    assert made().features(values).tolist() == [[9.0, 8.0, 8.0, 8.0, 48.0]]
    assert made((1,)).features(values).tolist() == [[9.0, 48.0]]


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
