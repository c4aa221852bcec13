"""Gradient reversal: its sign by autograd, the combined step, and what a hospital must be told."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import cross_val_score

from medtl_core.errors import ConfigError
from medtl_core.federation.registry import answer
from medtl_core.federation.tasks import SiteData
from medtl_core.methods.models.network import BODY, HEAD, NAMES, embedded
from medtl_core.methods.network import start_of
from medtl_core.methods.reversal import DOMAIN, domain_of, reversal, reversed_gradient, sent_of
from simulations.memory import MemoryHospitals
from tests.methods.shifted import plain, shifted, study

SIZES = {"a": 30, "b": 24, "c": 40}
CONFIG = {
    "round": 3, "of": 4, "cap": 0.1, "epochs": 1, "batch-size": 100, "learning-rate": 0.5, "weight-decay": 0.01,
    "proximal": 0.1,
}  # fmt: skip


def sent(sites: list[SiteData]) -> dict[str, np.ndarray]:
    """What a round sends, with heads that are not zero."""
    made, rng = study(sites, "network-1"), np.random.default_rng(0)
    shapes = {"domain.bias": (3,), "domain.weight": (3, 64), "head.bias": (3,), "head.weight": (3, 64)}
    drawn = {name: rng.normal(size=shapes[name]).astype(np.float32) for name in (*DOMAIN, *HEAD)}
    return {**start_of(made), **drawn, **sent_of(made)}


def fitted(site: SiteData, arrays: dict[str, np.ndarray], **changes: Any) -> dict[str, Any]:
    return dict(answer("fit_adversarial", site, arrays, {**CONFIG, **changes}).update.arrays)


def test_reversal_keeps_the_value_and_turns_the_gradient() -> None:
    values = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    turned = reversed_gradient(values, 0.25)
    torch.testing.assert_close(turned, values)
    slope = torch.tensor([1.0, 10.0, 100.0])
    turned.backward(slope)
    torch.testing.assert_close(values.grad, -0.25 * slope)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.01, 0.04995837), (0.02, 0.09966799), (0.03, 0.1)])
def test_the_weight_grows_to_its_cap(progress: float, weight: float) -> None:
    assert reversal(progress, 0.1) == pytest.approx(weight)
    assert reversal(1.0, 5.0) == pytest.approx(1.0, abs=1e-4)


def test_a_step_descends_the_label_loss_and_climbs_the_domain_loss() -> None:
    sites = shifted(plain(SIZES))
    site, arrays = sites[1], sent(sites)
    done = fitted(site, arrays)
    tensors = {name: torch.tensor(arrays[name], requires_grad=True) for name in (*NAMES, *DOMAIN)}
    inputs = torch.tensor(((site.values - arrays["mean"]) / arrays["scale"]).astype(np.float32))
    hidden = torch.tanh(inputs @ tensors["body.weight"].T + tensors["body.bias"])
    losses = []
    for part, target in (("head", torch.tensor(site.label)), ("domain", torch.full((24,), 1))):
        logits = hidden @ tensors[f"{part}.weight"].T + tensors[f"{part}.bias"]
        losses.append(torch.nn.functional.cross_entropy(logits, target))
    labels, domains = (
        torch.autograd.grad(loss, list(tensors.values()), allow_unused=True, retain_graph=True) for loss in losses
    )
    weight = reversal(2 / 4, 0.1)
    for (name, tensor), of_label, of_domain in zip(tensors.items(), labels, domains, strict=True):
        slope = 0.01 * tensor.detach()
        if of_label is not None:
            slope = slope + of_label
        if of_domain is not None:
            slope = slope + of_domain * (-weight if name in BODY else 1.0)
        np.testing.assert_allclose(done[name], (tensor.detach() - 0.5 * slope).numpy(), atol=2e-5, err_msg=name)


def test_without_a_cap_the_adapter_does_not_see_the_domain_head() -> None:
    site, arrays = plain(SIZES)[0], sent(plain(SIZES))
    other = {**arrays, "domain.weight": -arrays["domain.weight"]}
    first, second, turned = fitted(site, arrays, cap=0.0), fitted(site, other, cap=0.0), fitted(site, arrays)
    for name in NAMES:
        np.testing.assert_array_equal(first[name], second[name])
    assert (turned["body.weight"] != first["body.weight"]).any()


def test_a_hospital_finds_its_own_number_and_a_stranger_is_refused() -> None:
    arrays = sent(plain(SIZES))
    assert [domain_of(site, arrays) for site in plain(SIZES)] == [0, 1, 2]
    with pytest.raises(ConfigError, match="'d' is not among the 3 domains"):
        fitted(plain({"d": 4})[0], arrays)


@pytest.mark.slow  # forty rounds, twice
def test_the_adversary_makes_hospitals_harder_to_tell() -> None:
    sites = [
        replace(site, values=site.values + shift * np.eye(6, dtype=np.float32)[0])
        for site, shift in zip(plain(dict.fromkeys("abc", 60)), (-1.5, 0.0, 1.5), strict=True)
    ]
    made = study(sites, "adversarial-40-0,adversarial-40-1")
    hospital, told = np.repeat(np.arange(3), 60), []
    for method in made.methods:
        hidden = np.concatenate([embedded(site.values, made.outcome(method).heads[""].arrays) for site in sites])
        told.append(cross_val_score(LinearDiscriminantAnalysis(), hidden, hospital).mean())
    assert told[0] > 0.7 > told[1]


def test_odd_hospitals_take_part_and_the_model_is_the_plain_network(hospitals: MemoryHospitals) -> None:
    made = study(list(hospitals.sites.values()), "adversarial-2")
    outcome = made.outcome(made.methods[0])
    model = outcome.heads[""]
    assert model.kind == "network" and set(model.arrays) == {*NAMES, "mean", "scale"}
    assert set(outcome.bill) == {"moments", "fit-adversarial-2"}
