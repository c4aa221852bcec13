"""Intervals: against scipy, and by coverage on made-up patients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medtl_core.clinical.significance import holm, paired
from medtl_core.errors import DataError
from medtl_core.evaluation.intervals import bootstrap, over_seeds
from medtl_core.evaluation.scores import plain, select
from medtl_core.rng import stream
from medtl_core.values import Scores
from tests.evaluation.drawn import FEW

BOTH = ("balanced_accuracy", "auroc")


def draw(patients: int, seed: int, *, each: int = 1, classes: int = 3, shared: float = 0.0) -> Scores:
    """Patients with `each` cases of one class; `shared` is how alike the cases of a patient are."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(patients), each)
    label = (np.arange(patients) % classes)[group]
    noise = np.sqrt(1 - shared) * rng.normal(size=(len(group), classes))
    noise += np.sqrt(shared) * rng.normal(size=(patients, classes))[group]
    noise[np.arange(len(group)), label] += 1.0
    return Scores(noise, label, np.array(["a"] * len(group)), group)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    truth = draw(60_000, 999)
    exact = plain(truth, ["balanced_accuracy", "auroc"])
    hits = dict.fromkeys(BOTH, 0)
    for trial in range(200):
        found = bootstrap(draw(90, trial), BOTH, 200, rng=stream(trial, "bootstrap"))
        for name in BOTH:
            hits[name] += found[name][0] <= exact[name] <= found[name][1]
    assert all(178 <= count <= 199 for count in hits.values()), hits  # 0.95 of 200, less the percentile's slight bias


def test_cases_of_one_patient_are_not_independent() -> None:
    scores = draw(60, 3, each=8, shared=0.9)
    alone = Scores(scores.logits, scores.label, scores.site, np.arange(len(scores.label)))
    by_patient, by_case = (bootstrap(s, BOTH, 400, rng=stream(0, "b")) for s in (scores, alone))
    for name in BOTH:
        wide, narrow = (found[name][1] - found[name][0] for found in (by_patient, by_case))
        assert wide > 1.8 * narrow
    # copies of every case in one patient are no news at all
    single = draw(60, 4)
    twice = select(single, np.repeat(np.arange(60), 2))
    assert bootstrap(twice, BOTH, rng=stream(1, "b")) == bootstrap(single, BOTH, rng=stream(1, "b"))


@FEW
@given(seed=st.integers(0, 1000), data=st.data())
def test_the_order_of_cases_does_not_matter(seed: int, data: st.DataObject) -> None:
    scores = draw(10, seed, each=3)
    scores.label[:] = np.random.default_rng(seed).integers(3, size=30)  # patients with several classes
    order = np.array(data.draw(st.permutations(range(30))))
    one, other = (bootstrap(s, BOTH, 20, rng=stream(seed, "b")) for s in (scores, select(scores, order)))
    assert one == other


def test_a_rare_class_stays_in_every_resample() -> None:
    label = np.array([0] * 97 + [1, 2, 2])
    logits = np.eye(3)[label]
    found = bootstrap(Scores(logits, label, np.array(["a"] * 100), np.arange(100)), BOTH, rng=stream(0, "b"))
    assert found == {"balanced_accuracy": (1.0, 1.0), "auroc": (1.0, 1.0)}


def test_undefined_figures_have_no_interval() -> None:
    one = Scores(np.zeros((5, 2)), np.zeros(5, np.int64), np.array(["a"] * 5), np.arange(5))
    assert bootstrap(one, BOTH, rng=stream(0, "b")) == {"balanced_accuracy": (1.0, 1.0)}
    assert bootstrap(select(one, np.array([], np.int64)), BOTH, rng=stream(0, "b")) == {}


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = draw(50, 1)
    whole = bootstrap(scores, BOTH, 60, rng=stream(0, "b"))
    monkeypatch.setitem(bootstrap.__globals__, "_BLOCK", 7 * 50)
    assert bootstrap(scores, BOTH, 60, rng=stream(0, "b")) == whole


@FEW
@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_paired_test_matches_scipy(pairs: list[tuple[float, float]]) -> None:
    a, b = (list(side) for side in zip(*pairs, strict=True))
    found = paired(a, b)
    if np.std(np.subtract(a, b)) > 1e-6:
        exact = stats.ttest_rel(a, b)
        assert found.p == pytest.approx(exact.pvalue, abs=1e-9)
        interval = exact.confidence_interval()
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 11, 100, 101, 10_000])
def test_the_interval_over_any_number_of_repetitions_is_students(count: int) -> None:
    values = np.linspace(0.0, 1.0, count).tolist()
    low, high = stats.t.interval(0.95, count - 1, loc=0.5, scale=np.std(values, ddof=1) / np.sqrt(count))
    np.testing.assert_allclose(over_seeds(values), (0.5, low, high), rtol=1e-12)


def test_differences_all_alike() -> None:
    assert paired([0.5, 0.5], [0.5, 0.5]).p == 1.0
    assert paired([1.0, 1.0], [0.5, 0.5]).p == 0.0


def test_holm_by_closed_testing() -> None:
    """Holm's p is the largest Bonferroni p over all sets of hypotheses that contain the one in question."""
    p = [0.01, 0.2, 0.03, 0.03, 0.6]
    sets = [[i for i in range(5) if mask >> i & 1] for mask in range(1, 32)]
    exact = [max(min(len(s) * min(p[j] for j in s), 1.0) for s in sets if i in s) for i in range(5)]
    assert holm(p) == pytest.approx(exact)
    assert holm([]) == []


def test_numbers_that_give_no_interval_are_refused() -> None:
    with pytest.raises(DataError, match="at least two"):
        over_seeds([0.5])
    with pytest.raises(DataError, match="same seeds"):
        paired([0.5, 0.6], [0.5])
    with pytest.raises(DataError, match="p-values"):
        holm([0.5, float("nan")])
