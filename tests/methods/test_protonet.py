"""ProtoNet: its loss by hand, prototypes from sums, and hospitals that sit out."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medtl_core.config import Settings
from medtl_core.errors import DataError
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.methods.episodes import Shape, sample
from medtl_core.methods.network import BODY, Network, initial
from medtl_core.methods.protonet import episode_loss, nearest, prototypes, train_embedding
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))


def test_the_loss_of_four_points_by_hand() -> None:
    # one feature, tanh of it; support -1 and 1, queries -0.5 (way 0) and 0.25 (way 1)
    arrays = {"body.weight": torch.ones(1, 1), "body.bias": torch.zeros(1)}
    support = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    query = torch.tensor([[-0.5], [0.25]]), torch.tensor([0, 1])
    centre, points = np.tanh([-1.0, 1.0]), np.tanh([-0.5, 0.25])
    logits = -((points[:, None] - centre) ** 2)
    by_hand = np.mean([np.log(np.exp(row).sum()) - row[way] for row, way in zip(logits, (0, 1), strict=True)])
    assert float(episode_loss(arrays, support, query, 2)) == pytest.approx(by_hand, rel=1e-6)


def test_prototypes_are_class_means() -> None:
    found = prototypes(torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 5.0]]), torch.tensor([1, 1, 0]), 2)
    assert found.tolist() == [[5.0, 5.0], [2.0, 1.0]]


def test_the_affine_head_answers_with_the_nearest_centre() -> None:
    rng = np.random.default_rng(0)
    centres, cases = rng.normal(size=(5, 3)), rng.normal(size=(50, 3))
    head = nearest(centres)
    answers = (cases @ head["head.weight"].T + head["head.bias"]).argmax(axis=1)
    np.testing.assert_array_equal(answers, ((cases[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1))


def test_episodes_teach_the_embedding() -> None:
    site = make_site("a", 60)
    inputs = ((site.values - site.values.mean(0)) / site.values.std(0)).astype(np.float32)
    rng = np.random.default_rng(0)
    tasks = [sample(site.label, site.patients, Shape(3), rng=rng) for _ in range(60)]
    _, losses = train_embedding(initial(6, 3, rng=rng), inputs, tasks, site.label, 0.1)
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_training_that_leaves_the_finite_numbers_is_refused() -> None:
    site, rng = make_site("a", 30), np.random.default_rng(0)
    tasks = [sample(site.label, site.patients, Shape(3), rng=rng) for _ in range(3)]
    with pytest.raises(DataError, match="diverged"):
        train_embedding(initial(6, 3, rng=rng), np.full_like(site.values, np.nan), tasks, site.label, 0.1)


@pytest.fixture
def model() -> tuple[Network, DirectHospitals, Study]:
    hospitals = DirectHospitals([make_site(name, 30) for name in "abc"])
    study = Study(hospitals, PROBLEM, Settings(), read_methods("protonet-2"))
    found = study.outcome(study.methods[0]).heads[""]
    assert isinstance(found, Network)
    return found, hospitals, study


def test_the_federations_prototypes_are_those_of_the_pooled_cases(
    model: tuple[Network, DirectHospitals, Study],
) -> None:
    network, hospitals, _ = model
    values = np.concatenate([site.values for site in hospitals.sites.values()])
    label = np.concatenate([site.label for site in hospitals.sites.values()])
    embedded = network.embedded(values)
    centres = np.stack([embedded[label == one].mean(axis=0) for one in range(3)])
    np.testing.assert_allclose(network.arrays["head.weight"], 2 * centres, atol=1e-5)
    np.testing.assert_allclose(network.arrays["head.bias"], -(centres**2).sum(axis=1), atol=1e-5)
    assert (network.logits(values).argmax(axis=1) == label).mean() > 0.7


def test_only_the_embedding_and_one_sum_travel(model: tuple[Network, DirectHospitals, Study]) -> None:
    _, hospitals, study = model
    asked = [request for request in hospitals.asked if request.task in ("fit_protonet", "protonet_sums")]
    assert [request.task for request in asked] == ["fit_protonet"] * 2 + ["protonet_sums"]
    assert all(set(request.expect) == set(BODY) for request in asked[:2])
    assert set(study.outcome(study.methods[0]).bill) == {"moments", "fit-protonet-2", "sums-protonet-2"}


def test_a_hospital_of_one_class_sits_out() -> None:
    site = make_site("a", 12, skew=1)
    config = {"round": 1, "of": 1, "ways": 3, "shots": 5, "queries": 10, "episodes": 2, "rate": 0.05}
    arrays = {**initial(6, 3, rng=np.random.default_rng(0)), "mean": np.zeros(6), "scale": np.ones(6)}
    with pytest.raises(DataError, match="sits out"):
        answer("fit_protonet", site, arrays, config)
    both = replace(site, label=np.arange(12) % 2)
    assert answer("fit_protonet", both, arrays, config).metrics["loss-before"] > 0
