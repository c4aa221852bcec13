"""Mistakes seen in other frameworks' private training, each held against ours."""

import pytest
import torch
from torch import nn

from medtl_core.backbones.extractor import load_extractor
from medtl_core.backbones.zoo import find_backbone
from medtl_core.config import Settings
from medtl_core.errors import PrivacyError
from medtl_core.federation.private import terms_of
from medtl_core.privacy.accounting import default_delta, delta_of, mu_for
from medtl_core.privacy.ledger_report import PRIVATE_OUTBOUND

RUN = Settings(sites=3, shots=20, privacy="auto", epsilon=2.0)


def test_a_frozen_batchnorm_left_in_train_mode_would_learn_of_private_images_and_ours_is_none() -> None:
    """Opacus accepts it and sends nothing of it; whoever sends the state dict sends the images' average un-noised."""
    images = 3.0 + torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    leaking = nn.BatchNorm2d(3).requires_grad_(False).train()
    leaking(images)
    assert leaking.running_mean is not None and leaking.running_mean.abs().min() > 0.1  # the pitfall is real

    backbone = find_backbone("random:mobilenet_v3_small")
    ours = load_extractor(backbone, "", backbone.rich, "mean")
    ours.network.train()  # even if somebody did
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    ours(images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    assert not any("running" in row.name or "buffer" in row.name for row in PRIVATE_OUTBOUND)


def test_delta_is_far_below_one_over_n_by_default_and_is_part_of_the_promise() -> None:
    assert terms_of(RUN.replace(public_cases=90_000), 6, 3).delta == pytest.approx(1 / 900_000)
    assert terms_of(RUN, 6, 3).delta == default_delta(20) == default_delta(90) == 1e-5
    assert default_delta(10**6) == pytest.approx(1e-7)
    assert delta_of(2.0, mu_for(2.0, 1e-5)) <= 1e-5
    assert mu_for(2.0, 1e-7) < mu_for(2.0, 1e-5)  # a smaller delta costs noise: it cannot be read off afterwards


@pytest.mark.parametrize(("shots", "delta"), [(1, 0.0), (20, 0.05), (20, 0.5), (1000, 1e-3)])
def test_a_promise_to_nobody_is_refused(shots: int, delta: float) -> None:
    """delta = 1/n allows publishing one patient whole."""
    with pytest.raises(PrivacyError):
        terms_of(RUN.replace(shots=shots, delta=delta), 6, 3)
