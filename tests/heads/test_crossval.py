import numpy as np

from medtl_core.heads.crossval import TEMPERATURES, choose, fold_of, held_out


def test_patients_stay_in_one_fold_and_classes_are_spread_in_any_order() -> None:
    patients = np.array([f"p{i // 2}" for i in range(40)])
    label = np.repeat([0, 1], 20)
    fold = fold_of(patients, label, 5, seed=3)
    assert all(len(set(fold[patients == p])) == 1 for p in set(patients))
    assert np.bincount(fold[label == 0], minlength=5).tolist() == [4] * 5
    assert np.bincount(fold[label == 1], minlength=5).tolist() == [4] * 5
    order = np.random.default_rng(0).permutation(40)
    assert (fold[order] == fold_of(patients[order], label[order], 5, seed=3)).all()


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
