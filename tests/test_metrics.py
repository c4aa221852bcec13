"""Plain figures against scikit-learn, and what they must do where it would warn."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from medtl_core.errors import DataError
from medtl_core.evaluation import scores as metrics
from medtl_core.evaluation.calibration import softmax
from medtl_core.evaluation.scores import judge
from medtl_core.evaluation.weighted import WEIGHTED, weighted
from medtl_core.values import ABSENT, Scores


def draw(
    cases: int, classes: int, seed: int, *, decimals: int | None = None, label: np.ndarray | None = None
) -> Scores:
    """Scores that know something; few decimals make ties."""
    rng = np.random.default_rng(seed)
    label = rng.integers(classes, size=cases) if label is None else label
    logits = rng.normal(size=(cases, classes)) * 2
    logits[np.arange(cases), label] += 1.0
    if decimals is not None:
        logits = logits.round(decimals)
    return Scores(
        logits, label, np.array(["a", "b", "c"])[rng.integers(3, size=cases)], rng.integers(cases, size=cases)
    )


FEW = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 10_000)


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
    found = judge(scores)
    assert found.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(label, answer), abs=1e-12)
    assert found.brier == pytest.approx(oracle.brier_score_loss(label, probability), abs=1e-8)
    assert found.log_loss == pytest.approx(oracle.log_loss(label, probability), abs=1e-8)
    assert found.confusion == oracle.confusion_matrix(label, answer).tolist()
    assert found.sensitivity == found.balanced_accuracy
    if decimals is None:
        assert found.auroc == pytest.approx(oracle.roc_auc_score(onehot, logs, average="macro"), abs=1e-12)
        assert found.auprc == pytest.approx(oracle.average_precision_score(onehot, logs, average="macro"), abs=1e-12)


@FEW
@given(seed=SEEDS, decimals=st.sampled_from([None, 0]))
def test_two_classes_match_scikit_learn(seed: int, decimals: int | None) -> None:
    scores = draw(50, 2, seed, decimals=decimals, label=np.arange(50) % 2)
    label, score = scores.label, scores.logits[:, 1] - scores.logits[:, 0]
    found = judge(scores)
    assert found.auroc == pytest.approx(oracle.roc_auc_score(label, score), abs=1e-12)
    assert found.auprc == pytest.approx(oracle.average_precision_score(label, score), abs=1e-12)
    assert found.brier == pytest.approx(oracle.brier_score_loss(label, softmax(scores.logits)[:, 1]), abs=1e-8)
    answer = scores.logits.argmax(axis=1)
    assert found.sensitivity == pytest.approx(oracle.recall_score(label, answer))
    assert found.specificity == pytest.approx(oracle.recall_score(label, answer, pos_label=0))
    recall, precision = metrics.pr_curve(scores, 1) or (np.empty(0), np.empty(0))
    exact_precision, exact_recall, _ = oracle.precision_recall_curve(label, score)
    np.testing.assert_allclose(precision, exact_precision[:-1][::-1])
    np.testing.assert_allclose(recall, exact_recall[:-1][::-1])
    curve = metrics.roc_curve(scores, 1)
    assert curve is not None
    fpr, tpr, _ = oracle.roc_curve(label, score, drop_intermediate=False)
    np.testing.assert_allclose(curve, (fpr, tpr))


def test_ties_over_several_classes_count_half() -> None:
    label = np.array([0, 1, 2, 0, 1, 2])
    scores = Scores(np.zeros((6, 3)), label, np.array(["a"] * 6), np.arange(6))
    found = judge(scores)
    assert (found.auroc, found.balanced_accuracy) == (0.5, 1 / 3)
    assert found.auprc == pytest.approx(1 / 3)


@FEW
@given(seed=SEEDS, classes=st.integers(2, 5), data=st.data())
def test_the_order_of_cases_changes_no_figure(seed: int, classes: int, data: st.DataObject) -> None:
    scores = draw(40, classes, seed, decimals=1)
    order = np.array(data.draw(st.permutations(range(40))))
    assert judge(scores).as_dict() == judge(metrics.select(scores, order)).as_dict()


@FEW
@given(seed=SEEDS, classes=st.integers(2, 5))
def test_a_weight_counts_a_case_so_often(seed: int, classes: int) -> None:
    scores = draw(30, classes, seed, decimals=1)
    times = np.random.default_rng(seed + 1).integers(0, 4, size=30)
    many = metrics.select(scores, np.repeat(np.arange(30), times))
    once = {name: values[0] for name, values in weighted(many, np.ones((len(many.label), 1)), list(WEIGHTED)).items()}
    often = weighted(scores, times[:, None].astype(float), list(WEIGHTED))
    assert {name: values[0] for name, values in often.items()} == pytest.approx(once, abs=1e-12, nan_ok=True)


def test_a_class_that_no_case_shows_is_left_out_of_means() -> None:
    scores = draw(60, 4, 3, label=np.arange(60) % 3)
    label, logs = scores.label, np.log(softmax(scores.logits))
    recalls = [(scores.logits.argmax(axis=1) == label)[label == cls].mean() for cls in range(3)]
    assert metrics.balanced_accuracy(scores) == pytest.approx(np.mean(recalls))
    areas = [oracle.roc_auc_score(label == cls, logs[:, cls]) for cls in range(3)]
    precisions = [oracle.average_precision_score(label == cls, logs[:, cls]) for cls in range(3)]
    assert metrics.auroc(scores) == pytest.approx(np.mean(areas))
    assert metrics.auprc(scores) == pytest.approx(np.mean(precisions))
    assert metrics.roc_curve(scores, 3) is None
    assert metrics.pr_curve(scores, 3) is None


@pytest.mark.parametrize("classes", [2, 3])
def test_one_class_alone_leaves_ranking_undefined(classes: int) -> None:
    scores = draw(10, classes, 0, label=np.zeros(10, np.int64))
    found = judge(scores)
    assert (found.auroc, found.auprc, found.worst_site, found.worst_site_name) == (None, None, None, None)
    assert found.roc == {}
    assert found.balanced_accuracy == (scores.logits.argmax(axis=1) == 0).mean()
    assert found.sensitivity == (None if classes == 2 else found.balanced_accuracy)


def test_no_case_leaves_everything_undefined() -> None:
    found = judge(draw(0, 3, 0))
    assert set(found.figures.values()) == {None}
    assert found.as_dict()["curves"] == {"roc": {}, "reliability": [[], [], []]}


def test_worst_site_ignores_sites_with_one_class() -> None:
    site = np.array(["a", "a", "b", "b", "c", "c"])
    logits = np.array([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1]])
    scores = Scores(logits, np.array([0, 1, 0, 1, 0, 0]), site, np.arange(6))
    assert metrics.worst_site(scores) == ("b", 0.5)  # c has no right answer at all, but one class only
    assert metrics.by_site(scores)["c"] == {"balanced_accuracy": 0.0, "auroc": None, "n": 2}


def test_calibration_error_by_hand() -> None:
    logits = np.log([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    scores = Scores(logits, np.array([0, 1, 1, 0]), np.array(["a"] * 4), np.arange(4))
    # bins of 0.1: |.9 - .5| * 2/4 + |.8 - 1| * 1/4 + |.5 - 1| * 1/4
    assert metrics.expected_calibration_error(scores, 10) == pytest.approx(0.2 + 0.05 + 0.125, abs=1e-8)
    confidence, accuracy, count = metrics.reliability(scores, 10)
    assert confidence == pytest.approx([0.5, 0.8, 0.9], abs=1e-8)
    assert (accuracy, count) == ([1.0, 1.0, 0.5], [1, 1, 2])


def test_a_confident_head_still_ranks_its_cases() -> None:
    logits = np.array([[900.0, 0, 0], [800, 0, 0], [700, 0, 0], [0, 600, 0]])
    scores = Scores(logits, np.array([0, 0, 1, 1]), np.array(["a"] * 4), np.arange(4))
    assert metrics.auroc(scores) == oracle.roc_auc_score(np.eye(2)[scores.label], [[3, 0], [2, 0], [1, 1], [0, 2]])


def test_a_class_unknown_to_the_head_is_a_finite_figure() -> None:
    scores = draw(30, 3, 0, label=np.arange(30) % 3)
    scores.logits[:, 2] = ABSENT
    assert np.isfinite([value for value in judge(scores).figures.values() if value is not None]).all()


def test_judgement_survives_json_and_keeps_the_agreed_names() -> None:
    record = judge(draw(40, 3, 1)).as_dict()
    assert json.loads(json.dumps(record)) == record
    agreed = {"balanced_accuracy", "auroc", "auprc", "sensitivity", "specificity", "ece", "brier", "worst_site"}
    assert agreed <= record["figures"].keys()
    assert record["curves"]["roc"].keys() == {"all", "a", "b", "c"}


def test_the_mean_curve_has_nearly_the_mean_area() -> None:
    scores = draw(600, 3, 5)
    fpr, tpr = metrics.macro_roc(scores) or ([], [])
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auroc(scores), abs=0.01)
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
    cases = len(label)
    with pytest.raises(DataError, match=word):
        judge(Scores(logits, np.array(label), np.array(["a"] * cases), np.arange(cases)))
