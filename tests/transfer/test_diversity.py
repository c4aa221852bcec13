"""Diversity and gain: by hand, against scipy, and their bounds."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr

from medtl_core.calibrate import softmax
from medtl_core.ensemble import combine
from medtl_core.errors import DataError
from medtl_core.metrics import balanced_accuracy
from medtl_core.transfer.diversity import disagreement, diversity, gain, jensen_shannon, q_statistic, remarks
from medtl_core.values import ABSENT, Scores


def member(answers: list[int], label: list[int]) -> Scores:
    return Scores(4.0 * np.eye(2)[answers], np.array(label), np.full(len(label), "a"), np.arange(len(label)))


def drawn(seed: int, count: int = 3, cases: int = 20) -> dict[str, Scores]:
    rng = np.random.default_rng(seed)
    label, site, group = rng.integers(3, size=cases), np.full(cases, "a"), np.arange(cases)
    return {f"m{number}": Scores(rng.normal(size=(cases, 3)), label, site, group) for number in range(count)}


def test_pairs_by_hand() -> None:
    label = [0, 0, 0, 0, 1, 1, 1, 1]
    one = member([0, 0, 0, 1, 1, 1, 1, 0], label)  # right: 1 1 1 0 1 1 1 0
    two = member([0, 0, 1, 1, 1, 1, 0, 1], label)  # right: 1 1 0 0 1 1 0 1
    assert disagreement(one, two) == 3 / 8
    # both right 4, both wrong 1, only one 2, only two 1
    assert q_statistic(one, two) == (4 * 1 - 2 * 1) / (4 * 1 + 2 * 1)
    assert q_statistic(one, one) == 1.0
    assert q_statistic(member([0, 1], [0, 0]), member([1, 0], [0, 0])) == -1.0
    assert q_statistic(member([0, 0], [0, 0]), one.__class__(*vars(member([0, 1], [0, 0])).values())) is None


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 4))
def test_divergence_is_the_mean_relative_entropy_to_the_mean(seed: int, count: int) -> None:
    members = list(drawn(seed, count).values())
    parts = np.stack([softmax(one.logits) for one in members])
    exact = rel_entr(parts, parts.mean(axis=0)).sum(axis=2).mean()
    found = jensen_shannon(members)
    assert found == pytest.approx(exact, abs=1e-12)
    assert 0 <= found <= np.log(count)


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
