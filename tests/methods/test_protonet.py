"""ProtoNet: its step by hand, prototypes from sums, and hospitals that sit out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.models.network import BODY, HIDDEN, Network, embedded
from medtl_core.methods.prototypes import episode_loss
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site

CONFIG = {"round": 1, "of": 1, "ways": 3, "shots": 5, "queries": 10, "episodes": 60, "rate": 0.1}


def sent() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    body = {"body.weight": 0.2 * rng.standard_normal((HIDDEN, 6)), "body.bias": np.zeros(HIDDEN)}
    return {**body, "mean": np.full(6, 3.0), "scale": np.full(6, 2.0)}


def test_the_loss_of_four_points_by_hand() -> None:
    # one feature, tanh of it; support -1 and 1, queries -0.5 (way 0) and 0.25 (way 1)
    arrays = {"body.weight": torch.ones(1, 1), "body.bias": torch.zeros(1)}
    support = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    query = torch.tensor([[-0.5], [0.25]]), torch.tensor([0, 1])
    centre, points = np.tanh([-1.0, 1.0]), np.tanh([-0.5, 0.25])
    logits = -((points[:, None] - centre) ** 2)
    by_hand = np.mean([np.log(np.exp(row).sum()) - row[way] for row, way in zip(logits, (0, 1), strict=True)])
    assert float(episode_loss(arrays, support, query, support[1])) == pytest.approx(by_hand, rel=1e-6)


def test_episodes_teach_the_embedding_and_nothing_else_comes_back() -> None:
    released = answer("fit_protonet", make_site("a", 60), sent(), CONFIG)
    assert set(released.update.arrays) == set(BODY)
    trained = {**sent(), **released.update.arrays}
    later = answer("fit_protonet", make_site("a", 60), trained, {**CONFIG, "rate": 0.0})
    assert later.metrics["loss-before"] < released.metrics["loss-before"]  # the same episode


def test_the_federations_prototypes_are_those_of_the_pooled_cases_and_only_sums_travel() -> None:
    hospitals = MemoryHospitals([make_site(name, 30) for name in "abc"])
    study = Study(hospitals, PROBLEM, Settings(), read_methods("protonet-2"))
    outcome = study.outcome(study.methods[0])  # type: ignore[arg-type]
    network = outcome.heads[""]
    assert isinstance(network, Network)
    values = np.concatenate([site.values for site in hospitals.sites.values()])
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    hidden = embedded(values, network.arrays)
    centres = np.stack([hidden[label == place].mean(axis=0) for place in range(3)])
    apart = ((hidden[:, None] - centres) ** 2).sum(axis=2)
    np.testing.assert_allclose(network.logits(values), (hidden**2).sum(axis=1)[:, None] - apart, atol=1e-4)
    assert (network.logits(values).argmax(axis=1) == label).mean() > 0.7
    asked = [request for request in hospitals.asked if request.task in ("fit_protonet", "protonet_sums")]
    assert [request.task for request in asked] == ["fit_protonet"] * 2 + ["protonet_sums"]
    assert all(set(request.expect) == set(BODY) for request in asked[:2])
    assert set(outcome.bill) == {"moments", "fit-protonet-2", "sums-protonet-2"}


def test_a_hospital_of_one_class_sits_out() -> None:
    site = make_site("a", 12, skew=1)
    with pytest.raises(DataError, match="sits out"):
        answer("fit_protonet", site, sent(), CONFIG)
    both = replace(site, label=np.arange(12) % 2)
    assert answer("fit_protonet", both, sent(), CONFIG).metrics["loss-before"] > 0
