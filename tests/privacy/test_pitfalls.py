"""Mistakes seen in other frameworks' private training, each held against ours."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest

from client.gate import public_weight
from client.site import Site
from medtl_core.config import Settings
from medtl_core.errors import BudgetError, PrivacyError
from medtl_core.federation.private import terms_of
from medtl_core.federation.registry import find_method
from medtl_core.privacy import gate
from medtl_core.privacy.accounting import default_delta, delta_of, epsilon, mu_for
from medtl_core.privacy.bounded import Bounded
from medtl_core.privacy.ledger_report import PRIVATE_OUTBOUND
from medtl_core.privacy.noise import system_entropy
from medtl_core.privacy.plan import GaussianEvent, Plan, Step, Terms
from medtl_core.values import Update
from tests.memory import make_site
from tests.privacy.made import plan

ROOT = Path(__file__).parents[2]
TERMS = Terms(4.0, 1e-5, hospitals=5, colluders=1, cases=30, width=40, classes=3, secure=False)
RUN = Settings(sites=3, shots=20, privacy="auto", epsilon=2.0)


def test_a_frozen_batchnorm_left_in_train_mode_would_learn_of_private_images_and_ours_is_none() -> None:
    """Opacus accepts it and sends nothing of it; whoever sends the state dict sends the images' average un-noised."""
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from medtl_core.backbones.extractor import load_extractor
    from medtl_core.backbones.zoo import find_backbone

    leaking = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).requires_grad_(False).train()
    buffers = {name: buffer.clone() for name, buffer in leaking.named_buffers()}
    images = 3.0 + torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    leaking(images)
    assert any(
        not torch.equal(buffer, buffers[name]) for name, buffer in leaking.named_buffers()
    )  # the pitfall is real

    backbone = find_backbone("random:mobilenet_v3_small")
    ours = load_extractor(backbone, "", backbone.rich, "mean")
    ours.network.train()  # even if somebody did
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    ours(images)
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())
    assert not any(isinstance(module, _BatchNorm) for module in ours.modules())
    assert not any("running" in row.name or "buffer" in row.name for row in PRIVATE_OUTBOUND)


def test_a_new_accountant_every_round_would_tell_less_than_the_truth() -> None:
    """Twenty steps of sigma 20 a round: the truth after 1, 2 and 10 rounds, which one round's own price hides."""
    spent = [epsilon([GaussianEvent(20.0, count=20 * rounds)], 1e-5) for rounds in (1, 2, 10)]
    assert spent == pytest.approx([0.82, 1.20, 2.94], abs=0.01)
    assert epsilon([GaussianEvent(20.0, count=20)] * 2, 1e-5) == pytest.approx(spent[1], rel=1e-9)


@pytest.mark.parametrize("rounds", [1, 4, 25])
def test_a_budget_is_for_all_rounds_not_for_each(rounds: int) -> None:
    method = find_method(f"private-gradient-{rounds}")
    once = find_method("private-gradient-1")
    noise = method.plan(TERMS).steps[1].noise["gradient"]  # type: ignore[attr-defined]
    single = once.plan(TERMS).steps[1].noise["gradient"]  # type: ignore[attr-defined]
    assert noise == pytest.approx(math.sqrt(rounds) * single, rel=1e-9)
    spent_each_round = Step("x", {"gradient": 1 / mu_for(4.0, 1e-5)}, {"gradient": 1.0}, rounds)
    careless = Plan("private-careless", TERMS, (spent_each_round,))
    if rounds > 1:
        with pytest.raises(BudgetError, match="promises 4"):
            gate.check(gate.Demand(careless, 0, 1, careless.digest))


def test_local_steps_inside_a_round_are_counted() -> None:
    step = Step("x", {"gradient": 3.0}, {"gradient": 1.0}, count=5, inner=7)
    assert step.event.count == 35
    assert step.one.count == 7


def test_delta_is_far_below_one_over_n_by_default_and_is_part_of_the_promise() -> None:
    assert terms_of(RUN.replace(public_cases=90_000), 6, 3).delta == pytest.approx(1 / 900_000)
    assert terms_of(RUN, 6, 3).delta == default_delta(20) == 1e-5
    assert delta_of(2.0, mu_for(2.0, 1e-5)) <= 1e-5
    assert mu_for(2.0, 1e-7) < mu_for(2.0, 1e-5)  # a smaller delta costs noise: it cannot be read off afterwards


def test_the_number_of_patients_is_not_told_and_steers_nothing() -> None:
    """Weights, noise and plan are the same at hospitals of any size."""
    sizes = (24, 25, 300)
    sites = [Site(make_site("north", cases), "a" * 64, RUN) for cases in sizes]
    assert {public_weight(site) for site in sites} == {20}
    plans = {find_method("private-auto").plan(terms_of(site.settings, 6, 3)).digest for site in sites}  # type: ignore[attr-defined]
    assert len(plans) == 1


def test_the_accountant_that_claims_less_than_the_truth_is_never_imported() -> None:
    for package in ("medtl_core", "client", "server", "simulations"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
            assert not {"GDPAccountant", "PrivacyEngine"} & names, path


@pytest.mark.parametrize("value", [2.0**35, -(2.0**35), 1e300])
def test_a_sum_that_would_leave_the_fixed_point_is_refused(value: float) -> None:
    made = plan()
    with pytest.raises(PrivacyError, match="too large for fixed-point"):
        gate.noised(Bounded(Update({"sum": np.array([0.0, value])}), {"sum": 1.0}), made, 0, system_entropy())
    largest = (gate.RANGE * gate.GRID - 1) / made.terms.hospitals
    gate.noised(Bounded(Update({"sum": np.array([0.0, largest])}), {"sum": 1.0}), made, 0, system_entropy())
