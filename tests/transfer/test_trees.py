"""Boosted trees as arrays: scikit-learn's own answers, by hand, and damage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from medtl_core.errors import WeightsError
from medtl_core.methods.model import Packed
from medtl_core.transfer.trees import NAMES, Trees, exported, stumps
from medtl_core.values import ABSENT, Array


def trees(arrays: dict[str, Array]) -> Trees:
    classes = tuple(f"c{number}" for number in range(len(arrays["bias"])))
    return Trees.unpack(Packed(arrays, {}, classes, "features"))


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1000), seen=st.sampled_from([(0, 1), (1, 3), (0, 2, 3), (0, 1, 2, 3)]), leaves=st.integers(2, 8)
)
def test_logits_equal_scikit_learns_decision_function(seed: int, seen: tuple[int, ...], leaves: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (60, 4)).astype(np.float32) / 3  # many ties: cases lie on thresholds
    label = np.array(seen)[np.arange(60) % len(seen)]
    values[:, 0] += (label == seen[0]).astype(np.float32)
    booster = HistGradientBoostingClassifier(
        max_iter=7, max_leaf_nodes=leaves, min_samples_leaf=3, early_stopping=False, class_weight="balanced"
    ).fit(values, label)
    found = trees(exported(booster, 4, 2 * leaves - 1)).logits(np.concatenate([values, values + 0.1]))
    theirs = booster.decision_function(np.concatenate([values, values + 0.1]))
    unseen = [place for place in range(4) if place not in seen]
    assert (found[:, unseen] == ABSENT).all()
    ours = found[:, seen[1]] - found[:, seen[0]] if len(seen) == 2 else found[:, list(seen)]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def by_hand() -> dict[str, Array]:
    """One tree: x1 <= 2 ? 1.5 : (x0 <= 0 ? -1 : 4)."""
    arrays = stumps(1, 1, 5)
    arrays["bias"][0] = 0.5
    arrays["feature"][0, 0, :3] = [1, 0, 0]
    arrays["threshold"][0, 0, 0] = 2.0
    arrays["left"][0, 0, 0], arrays["right"][0, 0, 0] = 1, 2
    arrays["left"][0, 0, 2], arrays["right"][0, 0, 2] = 3, 4
    arrays["value"][0, 0] = [0.0, 1.5, 0.0, -1.0, 4.0]
    return arrays


def test_a_tree_by_hand() -> None:
    values = np.array([[9.0, 2.0], [0.0, 2.1], [0.1, 3.0]], np.float32)
    assert trees(by_hand()).logits(values)[:, 0].tolist() == [2.0, -0.5, 4.5]
    assert trees(by_hand()).logits(values[:0]).shape == (0, 1)


def test_a_ring_of_nodes_ends() -> None:
    arrays = by_hand()
    arrays["left"][0, 0, 1] = arrays["right"][0, 0, 1] = 0
    assert np.isfinite(trees(arrays).logits(np.zeros((2, 2)))).all()


@pytest.mark.parametrize("name", [*NAMES, "bias"])
def test_damage_is_refused(name: str) -> None:
    arrays = by_hand()
    with pytest.raises(WeightsError, match=f"lack '{name}'"):
        trees_without(arrays, name)
    with pytest.raises(WeightsError, match="do not fit together"):
        trees({**arrays, name: arrays[name][:0]})


def trees_without(arrays: dict[str, Array], name: str) -> Trees:
    return Trees.unpack(Packed({key: array for key, array in arrays.items() if key != name}, {}, ("c0",), ""))


def test_places_that_are_not_there_are_refused() -> None:
    for name, value in (("left", 5), ("right", -1), ("feature", -1)):
        arrays = by_hand()
        arrays[name][0, 0, 0] = value
        with pytest.raises(WeightsError, match="not there"):
            trees(arrays)
    arrays = by_hand()
    arrays["feature"][0, 0, 0] = 2
    with pytest.raises(WeightsError, match="read feature 2, but there are 2"):
        trees(arrays).logits(np.zeros((1, 2)))
