"""GroupNorm behind a BatchNorm's statistics: by hand, near the frozen network, blind to other cases and to modes."""

import copy

import pytest
import torch
from torch import nn

from medtl_core.backbones.frozen import freeze
from medtl_core.backbones.grouped import Grouped, grouped, groups_of, separate


def norm(channels: int, seed: int = 0) -> nn.BatchNorm2d:
    made, rng = nn.BatchNorm2d(channels), torch.Generator().manual_seed(seed)
    assert made.running_mean is not None and made.running_var is not None
    with torch.no_grad():
        made.running_mean.copy_(3.0 * torch.randn(channels, generator=rng))
        made.running_var.copy_(0.1 + 9.0 * torch.rand(channels, generator=rng))
        made.weight.copy_(torch.randn(channels, generator=rng))
        made.bias.copy_(torch.randn(channels, generator=rng))
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (8, 1), (16, 1), (31, 1), (32, 2), (40, 2), (112, 7)])
def test_groups_have_sixteen_channels_or_all(channels: int, groups: int) -> None:
    assert groups_of(channels) == groups


def test_the_numbers_by_hand() -> None:
    one = nn.BatchNorm2d(1, eps=0.0).eval()
    assert one.running_mean is not None and one.running_var is not None
    one.running_mean.fill_(1.0)
    one.running_var.fill_(4.0)
    with torch.no_grad():
        one.weight.fill_(3.0)
        one.bias.fill_(0.5)
    found = Grouped(one)(torch.tensor([[[[1.0, 5.0]]]]))  # standardised 0 and 2; the group's mean 1, deviation 1
    torch.testing.assert_close(found, torch.tensor([[[[-2.5, 3.5]]]]), atol=1e-4, rtol=0)


def test_where_an_image_is_like_those_of_pretraining_it_is_the_frozen_norm() -> None:
    before = norm(32)
    assert before.running_mean is not None and before.running_var is not None
    plain = torch.randn(4, 32, 30, 30, generator=torch.Generator().manual_seed(1))
    images = before.running_mean[:, None, None] + plain * before.running_var.sqrt()[:, None, None]
    gap = (Grouped(before)(images) - before(images)).std() / before(images).std()
    assert gap < 0.02
    dropped = nn.GroupNorm(2, 32)  # what is left when the statistics are dropped
    dropped.load_state_dict({"weight": before.weight, "bias": before.bias})
    assert (dropped(images) - before(images)).std() / before(images).std() > 10 * gap


def test_a_case_is_blind_to_the_others_and_training_mode_changes_nothing() -> None:
    made, images = Grouped(norm(32)), torch.randn(5, 32, 4, 4, generator=torch.Generator().manual_seed(2))
    whole, state = made(images), copy.deepcopy(made.state_dict())
    torch.testing.assert_close(made(images[2:3]), whole[2:3])
    made.train()
    assert torch.equal(made(images), whole)
    assert all(torch.equal(tensor, state[name]) for name, tensor in made.state_dict().items())
    assert {name for name, _ in made.named_parameters()} == {"norm.weight", "norm.bias"}
    flat = images[:, :, 0, 0]
    torch.testing.assert_close(made(flat), made(flat[:, :, None, None])[:, :, 0, 0])  # of tables too


def test_every_norm_of_a_network_is_replaced_with_its_activation() -> None:
    from timm.layers import BatchNormAct2d

    network = nn.Sequential(nn.Conv2d(3, 16, 3), BatchNormAct2d(16), nn.Sequential(norm(16), nn.ReLU())).eval()
    found = grouped(network)
    assert [type(module).__name__ for module in found.modules() if "orm" in type(module).__name__] == 2 * ["GroupNorm"]
    assert isinstance(found[1].act, nn.ReLU)  # type: ignore[index,union-attr]
    assert isinstance(grouped(norm(4)), Grouped)
    kept = nn.Linear(2, 2)
    assert grouped(kept) is kept


def test_a_norm_without_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="without running statistics"):
        grouped(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False)))


class Residual(nn.Module):
    """As torchvision's: adds in place to what the norm gave, which is an identity once it is folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.norm = norm(4)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.norm(self.conv(x))
        out += x
        return self.act(out)  # type: ignore[no-any-return]


@pytest.mark.parametrize("group", [False, True])
def test_a_block_that_works_in_place_gives_the_same_and_trains_case_by_case(group: bool) -> None:
    from opacus.grad_sample import GradSampleModule

    torch.manual_seed(0)
    images = torch.randn(3, 4, 5, 5)
    block = grouped(Residual().eval()) if group else freeze(Residual().eval(), images)
    made = separate(copy.deepcopy(block)).requires_grad_(True)
    torch.testing.assert_close(made(images), block(images))
    for module in made.modules():
        module.training = bool(list(module.parameters(recurse=False)))
    wrapped = GradSampleModule(made, loss_reduction="sum", force_functorch=True)
    wrapped(images.clone().requires_grad_()).square().sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad_sample.shape == (3, *parameter.shape), name  # type: ignore[attr-defined]
        assert (parameter.grad_sample.flatten(1).norm(dim=1) > 0).all(), name  # type: ignore[attr-defined]
    assert type(separate(nn.Identity())) is not nn.Identity
