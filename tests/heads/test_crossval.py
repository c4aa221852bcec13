import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss

from medtl_core.federation.folds import total
from medtl_core.heads.crossval import TEMPERATURES, choose, fold_of, held_out
from medtl_core.rng import stream


def test_patients_stay_in_one_fold_and_classes_are_spread() -> None:
    patients = np.array([f"p{i // 2}" for i in range(40)])
    label = np.repeat([0, 1], 20)
    fold = fold_of(patients, label, 5, seed=3)
    assert all(len(set(fold[patients == p])) == 1 for p in set(patients))
    assert np.bincount(fold[label == 0], minlength=5).tolist() == [4] * 5
    assert np.bincount(fold[label == 1], minlength=5).tolist() == [4] * 5


def test_fold_does_not_depend_on_the_order_of_cases() -> None:
    patients, label = np.array(["a", "b", "c", "d"]), np.array([0, 1, 0, 1])
    order = np.array([2, 0, 3, 1])
    assert (fold_of(patients, label, 3, 0)[order] == fold_of(patients[order], label[order], 3, 0)).all()


def case(seed: int, cases: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = stream(seed, "case")
    heads = rng.standard_normal((3, 2, 4, 6))
    return heads, rng.standard_normal((cases, 5)), rng.integers(0, 4, cases), rng.integers(0, 3, cases)


def test_losses_and_hits_equal_sklearn() -> None:
    heads, values, label, fold = case(1)
    counts = np.bincount(label, minlength=4).astype(float)
    update = held_out(heads, values, label, fold)
    logits = np.stack([values[i] @ heads[fold[i], 1, :, :-1].T + heads[fold[i], 1, :, -1] for i in range(len(label))])
    weight = 1.0 / counts[label]
    for index in (3, 6):
        scaled = TEMPERATURES[index] * logits
        proba = np.exp(scaled - scaled.max(1, keepdims=True))
        proba /= proba.sum(1, keepdims=True)
        oracle = log_loss(label, proba, sample_weight=weight, labels=range(4))
        np.testing.assert_allclose(update.arrays["losses"][1, index] @ (1 / counts) / 4, oracle, rtol=1e-9)
    hits = update.arrays["hits"][1] @ (1 / counts) / 4
    np.testing.assert_allclose(hits, balanced_accuracy_score(label, logits.argmax(1)))


@settings(max_examples=20, deadline=None)
@given(cut=st.integers(0, 30), seed=st.integers(0, 50))
def test_answers_of_hospitals_add_to_the_pooled_answer(cut: int, seed: int) -> None:
    heads, values, label, fold = case(seed)
    halves = [held_out(heads, values[rows], label[rows], fold[rows]) for rows in (slice(0, cut), slice(cut, None))]
    summed, pooled = total(half.arrays for half in halves), held_out(heads, values, label, fold)
    np.testing.assert_allclose(summed["losses"], pooled.arrays["losses"], rtol=1e-10)
    np.testing.assert_array_equal(summed["hits"], pooled.arrays["hits"])


def test_choose_takes_the_lowest_balanced_loss() -> None:
    losses = np.full((2, len(TEMPERATURES), 2), 9.0)
    losses[1, 4] = [1.0, 8.0]  # one case of class 0, four of class 1: (1/1 + 8/4) / 2 = 1.5
    choice = choose({"losses": losses, "hits": np.array([[0.0, 0.0], [1.0, 2.0]])}, np.array([1.0, 4.0]))
    assert (choice.index, choice.temperature, choice.loss, choice.balanced_accuracy) == (1, 0.4, 1.5, 0.75)


def test_one_terrible_case_is_capped() -> None:
    heads = np.zeros((1, 1, 2, 2))
    heads[0, 0, 1, -1] = 1e6
    update = held_out(heads, np.zeros((1, 1)), np.array([0]), np.array([0]))
    assert update.arrays["losses"].max() == 20.0
