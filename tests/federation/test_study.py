"""The study over hospitals in memory: every method, each phase once, and the pooled solution as the yardstick."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medtl_core.config import Settings
from medtl_core.federation.outcome import Problem
from medtl_core.federation.registry import find_method, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.heads.linear import softmax, to_raw, with_bias
from medtl_core.methods.local import logistic
from medtl_core.rng import stream
from medtl_core.values import ABSENT
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site


def study(hospitals: MemoryHospitals, methods: str) -> Study:
    return Study(hospitals, PROBLEM, Settings(), read_methods(methods))


def pooled(hospitals: MemoryHospitals) -> tuple[np.ndarray, np.ndarray]:
    sites = hospitals.sites.values()
    return np.concatenate([site.values for site in sites]), np.concatenate([site.label for site in sites])


def test_each_phase_is_asked_once(hospitals: MemoryHospitals) -> None:
    made = study(hospitals, "nearest-mean,ridge,discriminant,fedavg-2,fedavg-5,fedavg-5-adjusted")
    for name in made.names:
        made.outcome(find_method(name))
    tasks = [request.task for request in hospitals.asked]
    assert tasks.count("statistics") == tasks.count("validate") == tasks.count("moments") == 1
    assert tasks.count("fit") == 5


def test_heads_do_not_depend_on_neighbours(hospitals: MemoryHospitals) -> None:
    together = study(hospitals, "fedavg-2,fedavg-4,ridge,ensemble-equal")
    for name in ("fedavg-2", "ridge"):
        alone, beside = study(hospitals, name), together
        np.testing.assert_array_equal(
            beside.outcome(find_method(name)).heads[""].weight, alone.outcome(find_method(name)).heads[""].weight
        )


def test_adjustment_removes_the_prior_only(hospitals: MemoryHospitals) -> None:
    made = study(hospitals, "fedavg-3,fedavg-3-adjusted")
    plain, adjusted = (made.outcome(find_method(name)).heads[""] for name in made.names)
    counts = made.moments.counts
    np.testing.assert_allclose(plain.bias - adjusted.bias, np.log(counts / counts.sum()))
    np.testing.assert_array_equal(plain.weight, adjusted.weight)


def test_pooled_logistic_equals_logistic_on_pooled_cases(hospitals: MemoryHospitals) -> None:
    made = study(hospitals, "pooled-logistic")
    head = made.outcome(find_method("pooled-logistic")).heads[""]
    values, label = pooled(hospitals)
    mean, scale = made.moments.mean, made.moments.scale
    direct = to_raw(logistic(with_bias(values, mean, scale), label, 3), mean, scale)
    ours, theirs = head.logits(values), values @ direct[:, :-1].T + direct[:, -1]
    np.testing.assert_allclose(ours, theirs, atol=2e-2)
    assert (ours.argmax(1) == theirs.argmax(1)).all()


def test_pooled_logistic_reaches_its_minimum_where_columns_hang_together() -> None:
    rng = stream(3, "alike")
    label = rng.choice(3, 240, p=[0.7, 0.2, 0.1])
    spread = rng.standard_normal((120, 120)) * 10.0 ** np.linspace(-0.5, -3.0, 120)[:, None]
    values = ((rng.standard_normal((240, 120)) + 0.5 * label[:, None]) @ spread).astype(np.float32)
    sites = [
        SiteData(name, values[at::4], label[at::4], np.array([f"{name}-{i}" for i in range(60)]),
                 values[:0], label[:0], np.zeros(0, str), 3, 0)
        for at, name in enumerate("abcd")
    ]  # fmt: skip
    problem = Problem(("x", "y", "z"), "features", (("4", 0, 120),))
    made = Study(MemoryHospitals(sites), problem, Settings(), read_methods("pooled-logistic"))
    head = made.outcome(find_method("pooled-logistic")).heads[""]
    inputs = (values - values.mean(0)) / values.std(0)
    oracle = LogisticRegression(C=1 / (1e-2 * 240), class_weight="balanced", tol=1e-8, max_iter=10_000)
    theirs = oracle.fit(inputs, label).predict_proba(inputs)
    np.testing.assert_allclose(softmax(head.logits(values)), theirs, atol=1e-2)
    assert head.facts["evaluations"] < 60


def test_local_heads_are_one_per_hospital_and_never_answer_an_unseen_class(hospitals: MemoryHospitals) -> None:
    heads = study(hospitals, "local").outcome(find_method("local")).heads
    assert sorted(heads) == ["a", "b", "c", "d", "e"]
    assert (heads["e"].bias == [ABSENT, heads["e"].bias[1], ABSENT]).all()


@pytest.mark.parametrize("algorithm", ["fedavg", "fedprox", "fedavgm", "fedadam", "scaffold"])
def test_gradient_algorithms_learn(hospitals: MemoryHospitals, algorithm: str) -> None:
    head = study(hospitals, f"{algorithm}-20").outcome(find_method(f"{algorithm}-20")).heads[""]
    values, label = pooled(hospitals)
    assert (head.logits(values).argmax(1) == label).mean() > 0.6


def test_fedavg_by_hand_with_one_step() -> None:
    hospitals = MemoryHospitals([make_site("a", 4), make_site("b", 12)])
    settings = Settings(local_epochs=1, batch_size=64, weight_decay=0.0)
    made = Study(hospitals, PROBLEM, settings, read_methods("fedavg-1"))
    head = made.outcome(find_method("fedavg-1")).heads[""]
    values, label = pooled(hospitals)
    inputs = with_bias(values, made.moments.mean, made.moments.scale)
    onehot = np.eye(3)[label]
    # one full-batch step at every hospital, weighted by its cases, is one full-batch step on the pooled cases
    by_hand = to_raw(-0.05 * (1 / 3 - onehot).T @ inputs / 16, made.moments.mean, made.moments.scale)
    np.testing.assert_allclose(head.weight, by_hand[:, :-1], atol=1e-6)
    np.testing.assert_allclose(head.bias, by_hand[:, -1], atol=1e-6)
