"""Thresholds, net benefit, risk-coverage and groups, against scikit-learn and counts made by hand."""

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, roc_curve

from medtl_core.clinical.decision import at_prevalence, everyone_treated, kept_right, kept_right_sums, net_benefit
from medtl_core.clinical.ranking import Cell, Ranking, mean_recall, rankings, summed
from medtl_core.clinical.record import CLINICAL, Clinical, of_scores, of_sums, operating_point
from medtl_core.clinical.subgroups import FEWEST, judged_groups, named_columns
from medtl_core.errors import ConfigError, RunError
from medtl_core.evaluation.calibration import softmax
from medtl_core.evaluation.counts import calibration_bins
from medtl_core.evaluation.federated import summarise
from medtl_core.store import to_json, write_json
from medtl_core.values import Examples, Scores, Task
from tests.clinical.test_delong import scored

NAMES = ("a", "b", "c")


def test_sensitivity_at_a_specificity_and_back_are_those_of_the_roc_curve() -> None:
    scores = scored(200)
    for number, (name, ranking) in enumerate(rankings(scores, NAMES).items()):
        odds = np.log(softmax(scores.logits)[:, number] / (1 - softmax(scores.logits)[:, number]))
        false, found, _ = roc_curve(scores.label == number, odds, drop_intermediate=False)
        for level in (0.5, 0.8, 0.9, 0.95, 1.0):
            there, back = ranking.most_sensitive(level), ranking.most_specific(level)
            assert there and back
            assert there.sensitivity == pytest.approx(found[1 - false >= level - 1e-9].max(), abs=1e-12), name
            assert back.specificity == pytest.approx((1 - false[found >= level - 1e-9]).max(), abs=1e-12)
            assert (there.specificity or 0) >= level and (back.sensitivity or 0) >= level
        assert ranking.precision == pytest.approx(average_precision_score(scores.label == number, odds), abs=1e-12)


def test_predictive_values_follow_bayes() -> None:
    cell = Cell(80, 20, 90, 810)  # at its own prevalence of 0.1 they are plain shares
    assert cell.predictive(0.1) == pytest.approx((80 / 170, 810 / 830))
    ppv, npv = cell.predictive(0.01)
    assert (ppv, npv) == pytest.approx((0.8 * 0.01 / (0.8 * 0.01 + 0.1 * 0.99), 0.9 * 0.99 / (0.9 * 0.99 + 0.2 * 0.01)))
    assert Cell(0, 0, 1, 1).predictive(0.5) == (None, None)


def test_net_benefit_is_found_less_false_at_the_odds_of_the_threshold() -> None:
    scores = at_prevalence(scored(200, 2))
    probability = softmax(scores.logits)[:, 1]
    (ranking,) = rankings(scores, ("no", "yes")).values()
    for threshold, told in zip((0.1, 0.5, 0.9), net_benefit(ranking, (0.1, 0.5, 0.9)), strict=True):
        answered = probability >= threshold
        found, false = np.sum(answered & (scores.label == 1)), np.sum(answered & (scores.label == 0))
        assert told == pytest.approx(found / 200 - false / 200 * threshold / (1 - threshold), abs=1e-12)
    everyone = Ranking(np.array([9.0]), np.array([30.0]), np.array([70.0]))  # all are answered at any threshold
    assert net_benefit(everyone, (0.2, 0.6)) == pytest.approx(everyone_treated(0.3, (0.2, 0.6)))


def test_a_threshold_is_set_on_the_folds_and_judged_on_the_test_alone() -> None:
    folds, test = (rankings(scored(300, 2, seed), ("no", "yes"))["yes"] for seed in (5, 6))
    point = operating_point(folds, test, 0.9)
    assert point is not None and (point.folds.sensitivity or 0) >= 0.9
    tighter = folds.at(np.nextafter(point.floor, np.inf))
    assert (tighter.sensitivity or 1) < 0.9  # the strictest that still finds them
    assert point.test == test.at(point.floor)
    other = replace(test, positive=test.positive[::-1])  # other test cases move no threshold
    assert (operating_point(folds, other, 0.9) or point).floor == point.floor
    assert operating_point(Ranking(np.zeros(1), np.zeros(1), np.ones(1)), test, 0.9) is None


def test_thresholds_from_sums_are_exact_where_they_lie_on_an_edge() -> None:
    scores = scored(300, 3)
    exact, binned = rankings(scores, NAMES), summed({"s": summarise(scores)}, NAMES)
    for name in NAMES:
        floor = binned[name].floor_for(0.9)
        assert binned[name].at(floor) == exact[name].at(floor)


def test_what_abstaining_buys_is_counted() -> None:
    scores = scored(100, 2)
    curve = kept_right(scores)
    right = scores.logits.argmax(axis=1) == scores.label
    assert curve[0] == (1.0, pytest.approx(right.mean()))
    confidence = softmax(scores.logits).max(axis=1)
    for coverage, share in curve:
        kept = confidence >= np.sort(confidence)[::-1][round(100 * coverage) - 1] - 1e-12
        assert (kept.mean(), right[kept].mean()) == pytest.approx((coverage, share))
    binned = kept_right_sums(calibration_bins(scores))
    assert binned[0] == (1.0, pytest.approx(right.mean()))
    assert kept_right_sums(np.zeros((3, 15))) == []


def test_the_interval_of_a_hospitals_balanced_accuracy_stays_within_what_it_can_be() -> None:
    for table in ([[5, 0], [0, 7]], [[0, 5], [7, 0]], [[9, 1, 0], [0, 3, 2], [0, 0, 0]]):
        mean, low, high = mean_recall(np.array(table)) or (0, 0, 0)
        recalls = [row[place] / sum(row) for place, row in enumerate(table) if sum(row)]
        assert 0 <= low <= mean == pytest.approx(fmean(recalls)) and mean <= high <= 1 and high > low
    assert mean_recall(np.zeros((2, 2))) is None


def examples(columns: dict[str, list[object]], cases: int) -> Examples:
    rows = {name: np.asarray(column) for name, column in columns.items()}
    return Examples(
        {"label": np.zeros(cases, np.int64), "patient": np.arange(cases).astype(str), **rows}, Task("t", NAMES)
    )


def test_groups_are_values_bands_or_what_is_not_stated() -> None:
    made = examples({
        "sex": ["f", "m", "", "f"] * 10, "age": ["17", "18", "59.5", "nan"] * 10, "device": list("abab") * 10,
        "weight": [*map(str, range(40))],
    }, 40)  # fmt: skip
    found = named_columns(made, (), "sex, age,weight")
    assert sorted({*found["sex"].tolist()}) == ["f", "m", "not stated"]
    assert found["age"][:4].tolist() == ["below 18", "18 to below 40", "40 to below 60", "not stated"]
    assert sorted({*found["weight"].tolist()}) == ["13 to below 26", "26 and more", "below 13"]
    table = examples({"table": np.tile([[0.0, -2.2], [1.0, 2.6]], (20, 1))}, 40)  # type: ignore[dict-item]
    found = named_columns(table, ("sex (flag)", "age (a, 0.0 to 120.0, about 55.0 by 10.0)"), "sex,age")
    assert {*found["sex"].tolist()} == {"0", "1"} and {*found["age"].tolist()} == {"18 to below 40", "80 and more"}


@pytest.mark.parametrize("name", ["gender", "patient", "ward"])
def test_a_column_that_is_not_there_or_tells_patients_apart_is_refused(name: str) -> None:
    made = examples({"sex": ["f", "m"] * 10, "ward": [f"w{i}" for i in range(20)]}, 20)
    with pytest.raises(ConfigError, match=f"subgroups={name}"):
        named_columns(made, (), name)


def test_small_groups_are_not_told_and_cannot_be_reckoned_from_the_others() -> None:
    scores = scored(100)
    column = np.repeat(["big", "mid", "few"], [70, 20, 10])
    groups = {group.value: group for group in judged_groups(scores, {"g": column})["g"]}
    assert groups["few"].cases == groups["mid"].cases == 0 and groups["mid"].area is None
    big = groups["big"]
    rows = column == "big"
    answer = scores.logits.argmax(axis=1)
    assert big.cases == 70 >= FEWEST
    assert np.array_equal(big.confusion, confusion_matrix(scores.label[rows], answer[rows], labels=[0, 1, 2]))
    assert big.low is not None and big.area is not None and big.low < big.area
    alone = np.full(100, "all")
    assert judged_groups(scores, {"g": alone})["g"][0].cases == 100


def test_the_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    scores, other = scored(100), scored(100, seed=3)
    made = of_scores({"m": scores, "n": other}, NAMES, {"sex": np.repeat(["f", "m"], 50)})
    ranking = rankings(scores, NAMES)["b"]
    method = made.methods["m"]
    point = operating_point(ranking, ranking, 0.9)
    classes = {**method.classes, "b": replace(method.classes["b"], operating=point)}
    made = replace(made, methods={**made.methods, "m": replace(method, classes=classes)})
    write_json(tmp_path / CLINICAL, made.as_dict())
    again = Clinical.read(tmp_path)
    assert again is not None and to_json(again.as_dict()) == (tmp_path / CLINICAL).read_text()
    assert again.methods["m"].classes["b"].operating == point and again.against("m") == made.against("m")
    assert Clinical.read(tmp_path / "none") is None
    (tmp_path / CLINICAL).write_text('{"schema": 1, "methods": {"m": 1}}')
    with pytest.raises(RunError, match="not whole"):
        Clinical.read(tmp_path)


def test_findings_are_judged_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([-1, 0, 1], (90, 2), p=[0.2, 0.5, 0.3]).astype(np.int8)
    logits = rng.normal(size=(90, 2)) + (labels == 1)
    scores = Scores(logits, (labels == 1).any(axis=1).astype(int), np.full(90, "s"), np.arange(90), None, labels)
    record = of_scores({"m": scores}, ("x", "y")).methods["m"]
    there = of_sums({"m": {"s": summarise(scores)}}, ("x", "y"), findings=True).methods["m"]
    for place, name in enumerate("xy"):
        row = record.classes[name]
        assert (row.positive, row.negative) == ((labels[:, place] == 1).sum(), (labels[:, place] == 0).sum())
        assert there.classes[name].area == pytest.approx(row.area, abs=2e-3)
        assert row.benefit and there.classes[name].benefit
    assert record.kept == [] and record.sites == {}
