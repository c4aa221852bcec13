"""Federated averaging for rare classes: equal to FedAvg where it should be, by hand where it is not."""

import numpy as np
import pytest

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.heads.linear import Training, softmax, with_bias
from medtl_core.methods.balanced import METHODS, Balancing, fit_loss, train
from medtl_core.methods.imbalance import LOSSES, find_loss, log_share
from medtl_core.values import Head
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))
NAMES = [kind.example for kind in METHODS]
CONFIG = {
    "epochs": 3, "batch-size": 8, "learning-rate": 0.05, "weight-decay": 1e-3, "round": 2, "loss": "cross-entropy",
    "prior": "own",
}  # fmt: skip


def study(hospitals: DirectHospitals, names: str, settings: Settings | None = None) -> Study:
    return Study(hospitals, PROBLEM, settings or Settings(), read_methods(names))


def head_of(made: Study, name: str) -> Head:
    head = made.outcome(find_method(name)).heads[""]
    assert isinstance(head, Head)
    return head


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_learns_and_says_what_it_did(hospitals: DirectHospitals, name: str) -> None:
    made = study(hospitals, name)
    outcome = made.outcome(find_method(name))
    sites = hospitals.sites.values()
    values, label = np.concatenate([s.values for s in sites]), np.concatenate([s.label for s in sites])
    assert (head_of(made, name).logits(values).argmax(1) == label).mean() > 0.6
    assert outcome.facts["loss"] in LOSSES and outcome.facts["rounds"] == 20
    assert set(outcome.bill) == {"moments", f"fit-{name.split('-')[0]}"} == set(hospitals.costs)


def test_the_plain_loss_is_fedavg(hospitals: DirectHospitals) -> None:
    """The shared task adds nothing of its own: with cross-entropy it is the core's `fit`."""
    site = hospitals.sites["a"]
    arrays = {"mean": np.full(6, 3.0, np.float32), "scale": np.ones(6, np.float32), "counts": np.ones(3, np.float32)}
    head = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    ours = fit_loss(site, {**arrays, "head": head}, CONFIG).update.arrays["head"]
    theirs = answer("fit", site, {**arrays, "heads": head[None]}, {**CONFIG, "proximal": 0.0}).update.arrays["heads"]
    np.testing.assert_allclose(ours, theirs[0], rtol=1e-6)


def test_one_full_batch_step_by_hand() -> None:
    """Balanced softmax from zero: the hospital's prior is the first answer, so only features tell classes apart."""
    site = make_site("a", 10)
    inputs = with_bias(site.values, np.full(6, 3.0), np.ones(6))
    counts = np.bincount(site.label, minlength=3).astype(float)
    loss = find_loss("balanced-softmax", counts)
    moved = train(np.zeros((3, 7)), inputs, site.label, Training(1, 64, 0.05, 0.0), loss, rng=np.random.default_rng(0))
    by_hand = -0.05 * (softmax(log_share(counts)[None]) - np.eye(3)[site.label]).T @ inputs / 10
    np.testing.assert_allclose(moved, by_hand, atol=1e-12)
    np.testing.assert_allclose(moved[:, -1], 0.0, atol=1e-12)  # no class is favoured


def test_whose_prior_the_loss_works_with(hospitals: DirectHospitals) -> None:
    site = hospitals.sites["e"]  # one class only
    arrays = {"mean": np.full(6, 3.0, np.float32), "scale": np.ones(6, np.float32), "head": np.zeros((3, 7), "f4")}
    alike = {**arrays, "counts": np.ones(3, np.float32)}
    own, shared, plain = (
        fit_loss(site, alike, {**CONFIG, "loss": loss, "prior": prior}).update.arrays["head"]
        for loss, prior in (("balanced-softmax", "own"), ("balanced-softmax", "all"), ("cross-entropy", "own"))
    )
    np.testing.assert_allclose(shared, plain, rtol=1e-6)  # a uniform prior changes nothing
    # knowing that it sees class 1 only, the hospital hardly moves the bias towards it
    assert 0 < own[1, -1] < 0.2 * plain[1, -1]


def test_variants_of_one_kind_share_their_rounds(hospitals: DirectHospitals) -> None:
    made = study(hospitals, "fedbal-2,fedbal-5,fedlogit-3")
    for method in made.methods:
        made.outcome(method)
    assert [request.phase for request in hospitals.asked].count("fit-fedbal") == 5
    np.testing.assert_array_equal(
        head_of(made, "fedbal-2").weight, head_of(study(hospitals, "fedbal-2"), "fedbal-2").weight
    )
    share = made.outcome(find_method("fedbal-2")).bill["fit-fedbal"]
    assert (share.rounds, share.work) == (0.4, 0.4)


def test_names_are_their_own() -> None:
    for kind in METHODS:
        found = find_method(kind.example)
        assert type(found) is kind and isinstance(found, Balancing) and found.rounds == 20 and kind.summary
    assert find_method("fedavg-20").summary != find_method("fedbal-20").summary


def test_an_empty_hospital_keeps_the_head_and_a_diverging_one_sits_out() -> None:
    empty = make_site("a", 0)
    arrays = {
        "mean": np.zeros(6, np.float32), "scale": np.ones(6, np.float32),
        "head": np.ones((3, 7), np.float32), "counts": np.ones(3, np.float32),
    }  # fmt: skip
    np.testing.assert_array_equal(fit_loss(empty, arrays, CONFIG).update.arrays["head"], arrays["head"])
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(DataError, match="diverged"):
        fit_loss(make_site("a", 20), arrays, {**CONFIG, "learning-rate": 1e308, "loss": "class-weighted"})
