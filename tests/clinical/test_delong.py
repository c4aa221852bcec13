"""AUROC's error, its interval and the paired test, against the published formula written out pair by pair."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from medtl_core.clinical.delong import areas, difference, interval, ranked_variance
from medtl_core.clinical.ranking import Ranking, rankings, summed
from medtl_core.clinical.record import of_scores, of_sums
from medtl_core.evaluation.federated import summarise
from medtl_core.evaluation.scores import select
from medtl_core.values import Array, Scores


def scored(cases: int = 120, classes: int = 3, seed: int = 0, signal: float = 1.0, digits: int = 9) -> Scores:
    """Made-up scores of two hospitals, with ties where they have few digits."""
    rng = np.random.default_rng(seed)
    label = np.random.default_rng(1).integers(0, classes, cases)
    logits = rng.normal(size=(cases, classes)) + signal * np.eye(classes)[label]
    site = np.where(np.arange(cases) % 3 == 0, "north", "south")
    return Scores(np.round(logits, digits), label, site, np.arange(cases))


def written_out(scores: list[Array], label: Array) -> tuple[Array, Array]:
    """AUROCs and their covariance by DeLong's equations 2 and 4 to 6, every pair of cases by itself."""
    place, negative = label == 1, label == 0
    psi = np.stack([
        (s[place][:, None] > s[negative][None]) + 0.5 * (s[place][:, None] == s[negative][None]) for s in scores
    ])  # fmt: skip
    theta, v10, v01 = psi.mean(axis=(1, 2)), psi.mean(axis=2), psi.mean(axis=1)
    s10, s01 = np.atleast_2d(np.cov(v10)), np.atleast_2d(np.cov(v01))
    return theta, s10 / place.sum() + s01 / negative.sum()


def test_the_error_and_the_paired_test_are_delongs() -> None:
    ours, theirs = scored(classes=2, seed=2, digits=1), scored(classes=2, seed=3, signal=0.5, digits=1)
    margins = [each.logits[:, 1] - each.logits[:, 0] for each in (ours, theirs)]
    theta, covariance = written_out(margins, ours.label)
    a, b = areas(ours), areas(theirs)
    assert [a.area[0], b.area[0]] == pytest.approx([roc_auc_score(ours.label, m) for m in margins], abs=1e-12)
    assert a.variance[0] == pytest.approx(covariance[0, 0], rel=1e-10)
    assert float(a.part[:, 0] @ b.part[:, 0]) == pytest.approx(covariance[0, 1], rel=1e-10)
    told, p = of_scores({"a": ours, "b": theirs}, ("no", "yes")).against("a")["b"]
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    gain = theta[0] - theta[1]
    expected = [gain, gain - 1.959964 * error, gain + 1.959964 * error, 2 * norm.sf(abs(gain) / error)]
    assert [told.gain, told.low, told.high, told.p] == pytest.approx(expected, abs=1e-6)
    assert p == told.p  # one comparison needs no correction


def test_sums_of_hospitals_give_the_same_error_as_cases() -> None:
    scores = scored(600, 3)
    exact, table = areas(scores), rankings(scores, ("a", "b", "c"))
    binned = summed({s: summarise(select(scores, scores.site == s)) for s in ("north", "south")}, ("a", "b", "c"))
    for number, name in enumerate("abc"):
        assert ranked_variance(table[name]) == pytest.approx(exact.variance[number], rel=1e-10)
        assert binned[name].area == pytest.approx(exact.area[number], abs=2e-3)
        assert ranked_variance(binned[name]) == pytest.approx(exact.variance[number], rel=0.03)
    record = of_sums({"m": {"s": summarise(scores)}}, ("a", "b", "c")).methods["m"]
    assert record.area == pytest.approx(exact.macro[0], abs=2e-3)


def test_several_cases_of_a_patient_are_not_independent() -> None:
    twice = scored(60)
    same = Scores(*(np.repeat(column, 4, axis=0) for column in (twice.logits, twice.label, twice.site, twice.group)))
    assert areas(same).area == pytest.approx(areas(twice).area)
    assert areas(same).variance == pytest.approx(areas(twice).variance, rel=1e-9)  # copies add no knowledge
    alone = Scores(same.logits, same.label, same.site, np.arange(len(same.label)))
    assert (areas(alone).variance < 0.3 * areas(twice).variance).all()


def test_the_interval_holds_the_truth_as_often_as_promised() -> None:
    rng, held, repeats = np.random.default_rng(0), 0, 400
    truth = norm.cdf(1.5 / np.sqrt(2))
    for _ in range(repeats):
        label = np.repeat([1, 0], [25, 40])
        ranking = Ranking.of(rng.normal(size=65) + 1.5 * label, label == 1)
        low, high = interval(ranking.area, ranked_variance(ranking)) or (0.0, 1.0)
        held += low <= truth <= high
    assert 0.92 <= held / repeats <= 0.98


def test_equal_methods_differ_as_often_as_the_level_says() -> None:
    """Patients have two cases each that share most of what is seen."""
    rng, refused, repeats = np.random.default_rng(0), 0, 400
    for _ in range(repeats):
        label, seen = np.repeat(rng.integers(0, 3, 60), 2), np.repeat(rng.normal(size=(60, 3)), 2, axis=0)
        same = (label, np.full(120, "s"), np.arange(120) // 2)
        (a, ours), (b, theirs) = (
            areas(Scores(seen + 0.8 * np.eye(3)[label] + 0.7 * rng.normal(size=(120, 3)), *same)).macro
            for _ in "ab"
        )  # fmt: skip
        test = difference(a - b, float(((ours - theirs) ** 2).sum()))
        refused += test is not None and test.p < 0.05
    assert 0.02 <= refused / repeats <= 0.085  # 400 draws of 0.05: 0.05 +- 0.03


def test_what_cannot_be_known_is_not_told() -> None:
    assert interval(1.0, 0.0) is None and interval(0.9, float("nan")) is None
    assert difference(0.1, float("nan")) is None and difference(0.1, 0.0) is None
    assert difference(0.0, 0.0) is not None
    one = Scores(np.eye(2)[[1, 0, 0]] * 1.0, np.array([1, 0, 0]), np.full(3, "s"), np.arange(3))
    assert areas(one).area[0] == 1.0 and np.isnan(areas(one).variance[0])
    none = Scores(np.eye(2) * 1.0, np.array([0, 0]), np.full(2, "s"), np.arange(2))
    record = of_scores({"m": none}, ("no", "yes")).methods["m"]
    assert (record.area, record.classes["yes"].area, record.classes["yes"].at_specificity) == (None, None, {})
    low, high = interval(0.999, 0.2**2) or (0, 0)
    assert 0 <= low < high <= 1
