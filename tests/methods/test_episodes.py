"""Episodes: ways, shots, sides without a common patient, and hospitals that are too small for one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medtl_core.errors import ConfigError, DataError
from medtl_core.methods.episodes import Shape, draw_shots, sample


def names(owners: list[int]) -> np.ndarray:
    return np.asarray([f"patient-{owner}" for owner in owners])


def test_plenty_of_cases_give_exactly_the_shape_asked_for() -> None:
    label = np.repeat(np.arange(6), 30)
    task = sample(label, names(list(range(180))), Shape(5, 4, 7), rng=np.random.default_rng(0))
    assert len(task.classes) == len(set(task.classes.tolist())) == 5
    support, query = (np.searchsorted(task.classes, label[rows]) for rows in (task.support, task.query))
    assert np.bincount(support).tolist() == [4] * 5
    assert np.bincount(query).tolist() == [7] * 5
    np.testing.assert_array_equal(task.classes[support], label[task.support])


@settings(max_examples=40, deadline=None)
@given(
    owners=st.lists(st.integers(0, 12), min_size=4, max_size=40),
    labels=st.lists(st.integers(0, 3), min_size=40, max_size=40),
    seed=st.integers(0, 5),
)
def test_no_patient_is_on_both_sides_whatever_the_hospital(owners: list[int], labels: list[int], seed: int) -> None:
    label, patients = np.asarray(labels[: len(owners)]), names(owners)
    try:
        task = sample(label, patients, Shape(4, 3, 5), rng=np.random.default_rng(seed))
    except DataError:
        return  # shown to be right below, where the reason is known
    assert not set(patients[task.support]) & set(patients[task.query])
    assert len(task.classes) >= 2
    for side, most in ((task.support, 3), (task.query, 5)):
        counts = np.bincount(label[side], minlength=4)
        assert counts.sum() == len(set(side.tolist())) == len(side)
        assert (counts[task.classes] >= 1).all() and counts.max() <= most


def test_a_class_gives_at_most_half_of_its_patients_to_the_support() -> None:
    label = np.array([0] * 20 + [1] * 3)
    task = sample(label, names(list(range(23))), Shape(2, 5, 10), rng=np.random.default_rng(1))
    assert np.bincount(label[task.support]).tolist() == [5, 1]
    assert np.bincount(label[task.query]).tolist() == [10, 2]


@pytest.mark.parametrize(
    ("label", "owners"),
    [([0] * 8, range(8)), ([0] * 8 + [1], range(9)), ([0, 0, 1, 1], [1, 1, 2, 2]), ([], [])],
    ids=["one class", "second class has one case", "one patient a class", "no case"],
)
def test_too_small_a_hospital_sits_out_with_the_reason(label: list[int], owners: range | list[int]) -> None:
    with pytest.raises(DataError, match=r"no episode: . of . classes .* sits out"):
        sample(np.asarray(label, dtype=np.int64), names(list(owners)), Shape(), rng=np.random.default_rng(0))


def test_a_shape_without_two_ways_is_refused() -> None:
    with pytest.raises(ConfigError, match="ways"):
        Shape(ways=1)


def test_shots_are_nested_and_prefer_other_patients() -> None:
    label, patients = np.repeat([0, 1], 10), names([0] * 9 + [1] + list(range(2, 12)))
    few, many = (draw_shots(label, patients, shots, rng=np.random.default_rng(0)) for shots in (2, 5))
    assert set(few) <= set(many)
    assert set(patients[few[label[few] == 0]]) == {"patient-0", "patient-1"}  # although nine of ten are of one patient
    assert np.bincount(label[many]).tolist() == [5, 5]


def test_no_case_gives_no_shot() -> None:
    assert draw_shots(np.zeros(0, np.int64), names([]), 3, rng=np.random.default_rng(0)).tolist() == []
