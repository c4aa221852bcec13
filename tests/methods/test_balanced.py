"""Losses for rare classes, and federated averaging with them: equal to FedAvg where it should be, by hand elsewhere."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from medtl_core.config import Settings
from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.registry import answer, find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.heads.linear import softmax, with_bias
from medtl_core.heads.logistic import class_weights
from medtl_core.methods.balanced import LOSSES, find_loss, log_share
from medtl_core.values import Head
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site

COUNTS = np.array([30.0, 9.0, 1.0])
LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0], [30.0, 0.0, -30.0]])
LABEL = np.array([0, 1, 2, 0])
CONFIG = {
    "epochs": 3, "batch-size": 8, "learning-rate": 0.05, "weight-decay": 1e-3, "round": 2,
    "loss": "logit-adjusted",
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_the_residual_is_torch_autograd_of_the_value(name: str) -> None:
    loss, logits = find_loss(name, COUNTS), torch.tensor(LOGITS, requires_grad=True)
    (slope,) = torch.autograd.grad(loss.value(logits, torch.tensor(LABEL)), logits)
    np.testing.assert_allclose(loss.residual(LOGITS, LABEL) / len(LABEL), slope.numpy(), atol=1e-12)


def test_losses_against_independent_formulas() -> None:
    logits, label = torch.tensor(LOGITS), torch.tensor(LABEL)
    made = {name: float(find_loss(name, COUNTS).value(logits, label)) for name in LOSSES}
    weight = torch.tensor(class_weights(COUNTS))
    weighed = cross_entropy(logits, label, weight=weight, reduction="sum")
    assert made["class-weighted"] == pytest.approx(float(weighed) / 4)
    # as balanced softmax (Ren et al. 2020) writes it: n_y e^z_y / sum_c n_c e^z_c
    scaled = torch.tensor([30.0, 9.0, 1.0]) * logits.exp()
    own = scaled.gather(1, label[:, None])[:, 0] / scaled.sum(dim=1)
    assert made["logit-adjusted"] == pytest.approx(float(-own.log().mean()))


def test_a_class_the_hospital_lacks_is_floored() -> None:
    np.testing.assert_allclose(np.exp(log_share(np.array([99.0, 1.0, 0.0]))), [0.99, 0.01, 0.01])


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'class-weighted'"):
        find_loss("class-weightd", COUNTS)
    for counts in ([0.0, 0.0], [1.0, -1.0], [np.nan, 1.0], [[1.0, 2.0]]):
        with pytest.raises(ConfigError, match="non-negative case count"):
            find_loss("class-weighted", np.array(counts))


def study(hospitals: MemoryHospitals, names: str) -> Study:
    return Study(hospitals, PROBLEM, Settings(), read_methods(names))


def head_of(made: Study, name: str) -> Head:
    head = made.outcome(find_method(name)).heads[""]
    assert isinstance(head, Head)
    return head


def fitted(site: SiteData, head: np.ndarray, **changes: Any) -> np.ndarray:
    """The head that a hospital sends back; its features are standardised by three and one."""
    sent = {"mean": np.full(6, 3.0, "f4"), "scale": np.ones(6, "f4"), "counts": np.ones(3, "f4"), "head": head}
    return answer("fit_loss", site, sent, {**CONFIG, **changes}).update.arrays["head"]


@pytest.mark.parametrize("name", ["fedlogit-20", "fedweighted-20"])
def test_every_variant_learns_and_says_what_it_did(hospitals: MemoryHospitals, name: str) -> None:
    made = study(hospitals, name)
    outcome = made.outcome(find_method(name))
    sites = hospitals.sites.values()
    values, label = np.concatenate([s.values for s in sites]), np.concatenate([s.label for s in sites])
    assert (head_of(made, name).logits(values).argmax(1) == label).mean() > 0.6
    assert outcome.facts["loss"] in LOSSES and outcome.facts["rounds"] == 20
    assert set(outcome.bill) == {"moments", f"fit-{name.split('-')[0]}"} == set(hospitals.costs)


def test_without_a_prior_it_is_fedavg(hospitals: MemoryHospitals) -> None:
    """The shared task adds nothing of its own: where classes are even, both losses are the linear head's `fit`."""
    head = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    sent = {"mean": np.full(6, 3.0, "f4"), "scale": np.ones(6, "f4"), "heads": head[None]}
    theirs = answer("fit", hospitals.sites["a"], sent, {**CONFIG, "proximal": 0.0}).update.arrays["heads"]
    for loss in LOSSES:
        np.testing.assert_allclose(fitted(hospitals.sites["a"], head, loss=loss), theirs[0], rtol=1e-6)


def test_one_full_batch_step_by_hand() -> None:
    """From zero, the prior that is told is the first answer: only features tell classes apart where it is one's own."""
    site = make_site("a", 10)
    counts = np.bincount(site.label, minlength=3).astype(float)
    step = {**CONFIG, "epochs": 1, "batch-size": 64, "weight-decay": 0.0}
    sent = {"mean": np.full(6, 3.0, "f4"), "scale": np.ones(6, "f4"), "counts": counts, "head": np.zeros((3, 7), "f4")}
    moved = answer("fit_loss", site, sent, step).update.arrays["head"]
    inputs = with_bias(site.values, np.full(6, 3.0), np.ones(6))
    by_hand = -0.05 * (softmax(log_share(counts)[None]) - np.eye(3)[site.label]).T @ inputs / 10
    np.testing.assert_allclose(moved, by_hand, atol=1e-7)
    np.testing.assert_allclose(moved[:, -1], 0.0, atol=1e-7)  # no class is favoured


def test_an_empty_hospital_keeps_the_head_and_a_diverging_one_sits_out() -> None:
    head = np.ones((3, 7), "f4")
    np.testing.assert_array_equal(fitted(make_site("a", 0), head), head)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DataError, match="diverged"):
        fitted(make_site("a", 20), head, loss="class-weighted", **{"learning-rate": 1e308})
