"""Plain figures against scikit-learn, and what they must do where it would warn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from medtl_core.errors import DataError
from medtl_core.evaluation.calibration import softmax
from medtl_core.evaluation.counts import FIGURES, confusion
from medtl_core.evaluation.scores import balanced_accuracy, judge, plain, select, weighted
from medtl_core.values import ABSENT, Scores
from tests.evaluation.drawn import FEW, SEEDS, alike, draw


@FEW
@given(seed=SEEDS, classes=st.integers(3, 6), decimals=st.sampled_from([None, 0]))
def test_several_classes_match_scikit_learn(seed: int, classes: int, decimals: int | None) -> None:
    scores = draw(60, classes, seed, decimals=decimals, label=np.arange(60) % classes)
    label, probability = scores.label, softmax(scores.logits)
    logs, onehot = np.log(probability), np.eye(classes)[label]
    if decimals is not None:  # equal up to rounding must be equal to the oracle as well
        logs = logs.round(9)
        scores = Scores(logs, label, scores.site, scores.group)
    answer = probability.argmax(axis=1)
    figures = judge(scores).figures
    assert figures["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(label, answer), abs=1e-12)
    assert figures["brier"] == pytest.approx(oracle.brier_score_loss(label, probability), abs=1e-8)
    assert figures["log_loss"] == pytest.approx(oracle.log_loss(label, probability), abs=1e-8)
    assert figures["sensitivity"] == figures["balanced_accuracy"]
    np.testing.assert_array_equal(confusion(scores), oracle.confusion_matrix(label, answer))
    if decimals is None:
        assert figures["auroc"] == pytest.approx(oracle.roc_auc_score(onehot, logs, average="macro"), abs=1e-12)
        exact = oracle.average_precision_score(onehot, logs, average="macro")
        assert figures["auprc"] == pytest.approx(exact, abs=1e-12)


@FEW
@given(seed=SEEDS, decimals=st.sampled_from([None, 0]))
def test_two_classes_match_scikit_learn(seed: int, decimals: int | None) -> None:
    scores = draw(50, 2, seed, decimals=decimals, label=np.arange(50) % 2)
    label, score = scores.label, scores.logits[:, 1] - scores.logits[:, 0]
    judged = judge(scores)
    figures, answer = judged.figures, scores.logits.argmax(axis=1)
    assert figures["auroc"] == pytest.approx(oracle.roc_auc_score(label, score), abs=1e-12)
    assert figures["auprc"] == pytest.approx(oracle.average_precision_score(label, score), abs=1e-12)
    assert figures["brier"] == pytest.approx(oracle.brier_score_loss(label, softmax(scores.logits)[:, 1]), abs=1e-8)
    assert figures["sensitivity"] == pytest.approx(oracle.recall_score(label, answer))
    assert figures["specificity"] == pytest.approx(oracle.recall_score(label, answer, pos_label=0))
    fpr, tpr, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    assert judged.curves is not None
    np.testing.assert_allclose(judged.curves.roc["all"], (fpr, tpr))


def test_ties_over_several_classes_count_half() -> None:
    figures = judge(alike(np.zeros((6, 3)), [0, 1, 2, 0, 1, 2])).figures
    assert (figures["auroc"], figures["balanced_accuracy"]) == (0.5, 1 / 3)
    assert figures["auprc"] == pytest.approx(1 / 3)


@FEW
@given(seed=SEEDS, classes=st.integers(2, 5), data=st.data())
def test_the_order_of_cases_changes_no_figure(seed: int, classes: int, data: st.DataObject) -> None:
    scores = draw(40, classes, seed, decimals=1)
    order = np.array(data.draw(st.permutations(range(40))))
    assert judge(scores) == judge(select(scores, order))


@FEW
@given(seed=SEEDS, classes=st.integers(2, 5))
def test_a_weight_counts_a_case_so_often(seed: int, classes: int) -> None:
    scores = draw(30, classes, seed, decimals=1)
    times = np.random.default_rng(seed + 1).integers(0, 4, size=30)
    once = judge(select(scores, np.repeat(np.arange(30), times))).figures
    often = weighted(scores, times[:, None].astype(float), [name for name in FIGURES if name != "ece"])
    for name, values in often.items():
        exact = once[name]
        assert values[0] == pytest.approx(np.nan if exact is None else exact, abs=1e-12, nan_ok=True), name


def test_a_class_that_no_case_shows_is_left_out_of_means() -> None:
    scores = draw(60, 4, 3, label=np.arange(60) % 3)
    label, logs = scores.label, np.log(softmax(scores.logits))
    figures = judge(scores).figures
    recalls = [(scores.logits.argmax(axis=1) == label)[label == cls].mean() for cls in range(3)]
    assert figures["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    areas = [oracle.roc_auc_score(label == cls, logs[:, cls]) for cls in range(3)]
    precisions = [oracle.average_precision_score(label == cls, logs[:, cls]) for cls in range(3)]
    assert figures["auroc"] == pytest.approx(np.mean(areas))
    assert figures["auprc"] == pytest.approx(np.mean(precisions))


@pytest.mark.parametrize("classes", [2, 3])
def test_one_class_alone_leaves_ranking_undefined(classes: int) -> None:
    scores = draw(10, classes, 0, label=np.zeros(10, np.int64))
    judged = judge(scores)
    assert judged.curves is not None
    assert judged.curves.roc == {}
    assert [judged.figures[name] for name in ("auroc", "auprc", "worst_site")] == [None, None, None]
    assert judged.figures["balanced_accuracy"] == (scores.logits.argmax(axis=1) == 0).mean()
    assert judged.figures["sensitivity"] == (None if classes == 2 else judged.figures["balanced_accuracy"])


def test_no_case_leaves_everything_undefined() -> None:
    judged = judge(draw(0, 3, 0))
    assert set(judged.figures.values()) == {None}
    assert judged.as_dict()["curves"] == {"roc": {}, "reliability": [[], [], []]}


def test_worst_site_ignores_sites_with_one_class() -> None:
    site = np.array(["a", "a", "b", "b", "c", "c"])
    logits = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1]])
    judged = judge(Scores(logits, np.array([0, 1, 0, 1, 0, 0]), site, np.arange(6)))
    assert judged.figures["worst_site"] == 0.5  # c has no right answer at all, but one class only
    assert judged.by_site["c"].as_dict() == {
        "balanced_accuracy": 0.0,
        "auroc": None,
        "n": 2,
        "confusion": ((0, 2), (0, 0)),
    }


def test_calibration_error_by_hand() -> None:
    judged = judge(alike(np.log([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]), [0, 1, 1, 0]))
    # bins of 1/15, all apart: |.9 - .5| * 2/4 + |.8 - 1| * 1/4 + |.5 - 1| * 1/4
    assert judged.figures["ece"] == pytest.approx(0.2 + 0.05 + 0.125, abs=1e-8)
    assert judged.curves is not None
    bins = judged.curves.reliability
    assert bins.confidence == pytest.approx([0.5, 0.8, 0.9], abs=1e-8)
    assert (bins.accuracy, bins.count) == ([1.0, 1.0, 0.5], [1, 1, 2])


def test_a_confident_head_still_ranks_its_cases() -> None:
    scores = alike(np.array([[900.0, 0, 0], [800, 0, 0], [700, 0, 0], [0, 600, 0]]), [0, 0, 1, 1])
    assert plain(scores, ["auroc"])["auroc"] == oracle.roc_auc_score(
        np.eye(2)[scores.label], [[3, 0], [2, 0], [1, 1], [0, 2]]
    )


def test_a_class_unknown_to_the_head_is_a_finite_figure() -> None:
    scores = draw(30, 3, 0, label=np.arange(30) % 3)
    scores.logits[:, 2] = ABSENT
    assert np.isfinite([value for value in judge(scores).figures.values() if value is not None]).all()
    assert balanced_accuracy(scores) == judge(scores).figures["balanced_accuracy"]


def test_the_mean_curve_has_nearly_the_mean_area() -> None:
    judged = judge(draw(600, 3, 5))
    assert judged.curves is not None
    assert judged.curves.roc.keys() == {"all", "a", "b", "c"}
    fpr, tpr = judged.curves.roc["all"]
    assert np.trapezoid(tpr, fpr) == pytest.approx(judged.figures["auroc"], abs=0.01)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize(
    ("logits", "label", "word"),
    [
        (np.full((1, 2), np.nan), [0], "finite"),
        (np.zeros((1, 2)), [2], "outside"),
        (np.zeros((1, 1)), [0], "at least two classes"),
        (np.zeros((2, 2)), [0], "every case"),
    ],
)
def test_scores_that_cannot_be_judged_are_refused(logits: np.ndarray, label: list[int], word: str) -> None:
    with pytest.raises(DataError, match=word):
        judge(alike(logits, label))
