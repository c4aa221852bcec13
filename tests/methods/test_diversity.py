"""Diversity and gain: by hand, against scipy, and their bounds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import softmax
from medtl_core.evaluation.ensemble import combine
from medtl_core.evaluation.scores import balanced_accuracy, select
from medtl_core.methods.diversity import (
    diversity,
    diversity_sums,
    figures_of,
    gain,
    member_sums,
    remarks,
    sums_expected,
)
from medtl_core.values import ABSENT, Scores
from tests.memory import make_site


def member(answers: list[int], label: list[int]) -> Scores:
    return Scores(4.0 * np.eye(2)[answers], np.array(label), np.full(len(label), "a"), np.arange(len(label)))


def drawn(seed: int, count: int = 3, cases: int = 20) -> dict[str, Scores]:
    rng = np.random.default_rng(seed)
    label, site, group = rng.integers(3, size=cases), np.full(cases, "a"), np.arange(cases)
    return {f"m{number}": Scores(rng.normal(size=(cases, 3)), label, site, group) for number in range(count)}


def pair(one: Scores, two: Scores) -> dict[str, float | None]:
    return diversity({"one": one, "two": two})


def test_pairs_by_hand() -> None:
    label = [0, 0, 0, 0, 1, 1, 1, 1]
    one = member([0, 0, 0, 1, 1, 1, 1, 0], label)  # right: 1 1 1 0 1 1 1 0
    two = member([0, 0, 1, 1, 1, 1, 0, 1], label)  # right: 1 1 0 0 1 1 0 1
    assert pair(one, two)["disagreement"] == 3 / 8
    # both right 4, both wrong 1, only one 2, only two 1
    assert pair(one, two)["q_statistic"] == (4 * 1 - 2 * 1) / (4 * 1 + 2 * 1)
    assert pair(one, one)["q_statistic"] == 1.0
    assert pair(member([0, 1], [0, 0]), member([1, 0], [0, 0]))["q_statistic"] == -1.0
    assert pair(member([0, 0], [0, 0]), member([0, 1], [0, 0]))["q_statistic"] is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 4))
def test_divergence_is_the_mean_relative_entropy_to_the_mean(seed: int, count: int) -> None:
    members = drawn(seed, count)
    parts = np.stack([softmax(one.logits) for one in members.values()])
    exact = rel_entr(parts, parts.mean(axis=0)).sum(axis=2).mean()
    found = diversity(members)["jensen_shannon"]
    assert found == pytest.approx(exact, abs=1e-12)
    assert 0 <= found <= np.log(count)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), cut=st.integers(0, 20))
def test_sums_of_hospitals_give_the_pooled_figures(seed: int, cut: int) -> None:
    members, rows = drawn(seed), np.arange(20) < cut
    sides = [member_sums([select(one, side) for one in members.values()]) for side in (rows, ~rows)]
    assert {name: array.shape for name, array in sides[0].items()} == sums_expected(3)
    summed = figures_of({name: sides[0][name] + sides[1][name] for name in sides[0]})
    assert summed == pytest.approx(diversity(members))


def test_a_hospital_sums_over_its_held_out_cases() -> None:
    site = make_site("a", 12)
    heads = np.random.default_rng(0).normal(size=(2, 3, 7))
    found = diversity_sums(site, {"heads": heads}, {}).update.arrays
    logits = [site.test_values @ head[:, :-1].T + head[:, -1] for head in heads]
    direct = member_sums([Scores(one, site.test_label, site.test_patients, np.arange(20)) for one in logits])
    for name, array in direct.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)


def test_the_same_member_twice_is_no_diversity() -> None:
    one = drawn(0, 1)["m0"]
    found = diversity({"a": one, "b": one})
    assert found["disagreement"] == 0.0
    assert found["jensen_shannon"] == pytest.approx(0.0, abs=1e-12)
    assert found["q_statistic"] == 1.0


def test_classes_never_seen_and_no_cases_are_no_error() -> None:
    members = drawn(1)
    members["m0"].logits[:, 2] = ABSENT
    assert np.isfinite(list(diversity(members).values())).all()
    empty = drawn(0, 2, cases=0)
    assert diversity(empty) == {"disagreement": None, "q_statistic": None, "jensen_shannon": None}
    with pytest.raises(DataError, match="between members"):
        diversity(drawn(0, 1))


def test_gain_over_the_best_and_the_mean_member() -> None:
    members = drawn(3, cases=60)
    whole = combine(list(members.values()))
    found = gain(members, whole)["balanced_accuracy"]
    each = {name: balanced_accuracy(one) for name, one in members.items()}
    best = max(each, key=lambda name: each[name])
    assert found["best_member"] == best
    assert found["over_best"] == pytest.approx(balanced_accuracy(whole) - each[best])
    assert found["over_mean"] == pytest.approx(balanced_accuracy(whole) - np.mean(list(each.values())))
    told = remarks(members, whole)
    assert json.loads(json.dumps(told)) == told
    assert remarks(drawn(0, 1), whole) == {}
