"""Multi-label tasks against scikit-learn on the pooled cases of which each finding is known."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from medtl_core.errors import ConfigError, DataError
from medtl_core.federation.model import Classifier
from medtl_core.federation.registry import answer, multi_label, read_methods, unpack
from medtl_core.federation.tasks import SiteData
from medtl_core.heads.statistics import TINY, Float
from medtl_core.methods.multilabel.discriminant import grid
from medtl_core.methods.multilabel.sums import sums_of
from medtl_core.privacy.outbound import LABEL_OUTBOUND
from medtl_core.values import MULTI_LABEL, UNKNOWN, Examples, Task
from tests.methods.labelled import TASK, WIDTH, opened, outcome, pooled, site, study

#: A hospital with fewer cases than features, two with more; one never saw nodules.
WHOLE = [site("a", 9), site("b", 80), site("c", 120)]
GAPS = [site("a", 9, gaps=0.3), site("b", 80, gaps=0.3, unseen=[2]), site("c", 120, gaps=0.3)]


def standardised(values: Float) -> Float:
    return (values - values.mean(axis=0)) / (values.std(axis=0) + TINY)


def discriminant(inputs: Float, groups: np.ndarray, shrinkage: float) -> tuple[Float, float]:
    """Log-odds of group 1 against group 0 with an even prior: weights and bias of scikit-learn's discriminant.

    What chance adds to the length of a group's mean is taken off.
    """
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, store_covariance=True).fit(inputs, groups)
    coef, bias = fitted.coef_, fitted.intercept_ - np.log(fitted.priors_)
    own = inputs - fitted.means_[np.searchsorted(fitted.classes_, groups)]
    freedom = (len(inputs) - len(fitted.classes_)) / len(inputs)  # its covariance is that divided by all cases
    apart = np.trace(np.linalg.solve(fitted.covariance_, own.T @ own / len(inputs))) / freedom
    chance = 0.5 * apart * (1.0 / (groups == 1).sum() - 1.0 / (groups == 0).sum())
    if len(fitted.classes_) == 2:
        return coef[0], float(-0.5 * (fitted.means_[1] + fitted.means_[0]) @ coef[0] + chance)
    none, there = list(fitted.classes_).index(0), list(fitted.classes_).index(1)
    return coef[there] - coef[none], float(bias[there] - bias[none] + chance)


@pytest.mark.parametrize("sites", [WHOLE, GAPS], ids=["all-known", "some-unknown"])
def test_each_finding_has_the_discriminant_of_the_pooled_cases(sites: list) -> None:
    values, labels = pooled(sites)
    inputs = standardised(values)
    head = outcome(sites, "discriminant").heads[""]
    for place, (strength, factor) in enumerate(zip(head.facts["strength"], head.facts["temperature"], strict=True)):
        groups = labels[:, place]
        coef, bias = discriminant(inputs, groups, strength)
        freedom = (len(inputs) - len(np.unique(groups))) / len(inputs)  # scikit-learn divides by all cases
        expected = (inputs @ coef + bias) * factor * freedom
        assert head.logits(values)[:, place] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "sites", [pytest.param(WHOLE, marks=pytest.mark.slow), GAPS], ids=["all-known", "some-unknown"]
)
def test_each_finding_has_the_logistic_regression_of_the_cases_that_it_is_known_of(sites: list) -> None:
    values, labels = pooled(sites)
    inputs = standardised(values)
    head = outcome(sites, "logistic-200").heads[""]
    for place, (strength, factor) in enumerate(zip(head.facts["strength"], head.facts["temperature"], strict=True)):
        known = labels[:, place] != UNKNOWN
        fitted = LogisticRegression(C=2.0 / (strength * known.sum()), tol=1e-12, max_iter=10_000)
        fitted.fit(inputs[known], labels[known, place])
        share = labels[known, place].mean()
        expected = (fitted.decision_function(inputs) - np.log(share / (1 - share))) * factor
        assert head.logits(values)[:, place] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["discriminant", "logistic-5", "auto", "fedavg-3", "local"])
def test_a_finding_that_nobody_knows_is_never_there_and_one_that_some_know_is_learnt(name: str) -> None:
    blind = [site("a", 9, unseen=[1]), site("b", 80, unseen=[0, 1]), site("c", 120, unseen=[1])]
    for head in outcome(blind, name).heads.values():
        odds = head.logits(pooled(blind)[0])
        assert np.isfinite(odds).all()
        assert (odds[:, 1] <= 0).all()
    if name != "local":
        labels = pooled(blind)[1]
        told = labels[:, 0] != UNKNOWN
        odds = outcome(blind, name).heads[""].logits(pooled(blind)[0])[told, 0]
        assert np.mean((odds > 0) == (labels[told, 0] == 1)) > 0.7


def test_a_finding_that_is_always_there_is_always_answered() -> None:
    values, labels = pooled(WHOLE)
    labels[:, 1] = 1
    sites = [opened("a", values[:100].astype(np.float32), labels[:100])]
    for name in ("discriminant", "logistic-5", "auto", "local"):
        (head,) = outcome(sites, name).heads.values()
        assert (head.logits(values)[:, 1] > 100).all()


def test_the_default_takes_eight_exchanges_and_is_a_mean_of_two_heads() -> None:
    made = study(GAPS, "auto,discriminant,logistic-5")
    auto, first, second = (made.outcome(method) for method in made.methods)
    alone = study(GAPS, "auto")
    alone.outcome(alone.methods[0])
    assert len(alone.hospitals.exchanges) == 8
    assert auto.facts["chosen"] in ("mean", "discriminant", "logistic")
    parts = {"mean": (first, second), "discriminant": (first,), "logistic": (second,)}[auto.facts["chosen"]]
    values = pooled(GAPS)[0]
    mean = np.mean([part.heads[""].logits(values) for part in parts], axis=0)
    assert auto.heads[""].logits(values) == pytest.approx(mean, abs=1e-9)


def test_hospitals_with_few_cases_tell_the_same_in_fewer_numbers() -> None:
    """One case more than features makes a hospital send whole matrices: the heads do not notice."""
    values, labels = pooled(GAPS)
    cut = [
        opened(f"{at:02}", values[at : at + 10].astype(np.float32), labels[at : at + 10]) for at in range(0, 200, 10)
    ]
    joined = [opened("one", values[:200].astype(np.float32), labels[:200])]
    few, many = (grid(sums_of(study(sites, "discriminant"))).whole for sites in (cut, joined))
    assert few == pytest.approx(many, abs=1e-6)
    solved = [outcome(sites, "logistic-5") for sites in (cut, joined)]
    told = [{key: np.array(out.facts[key]) for key in ("strength", "temperature")} for out in solved]
    heads: list[Classifier] = [out.heads[""] for out in solved]
    scaled = [head.logits(values) / each["temperature"] for head, each in zip(heads, told, strict=True)]
    alike = told[0]["strength"] == told[1]["strength"]
    assert alike.any()
    assert scaled[0][:, alike] == pytest.approx(scaled[1][:, alike], abs=1e-4)


def test_fedavg_of_one_batch_is_the_gradient_step_of_the_masked_loss() -> None:
    sites = [site("a", 8, gaps=0.4)]
    values, labels = pooled(sites)
    inputs = standardised(values)
    made = study(sites, "fedavg-1", local_epochs=1, batch_size=8, learning_rate=0.5, weight_decay=0.0)
    head = made.outcome(made.methods[0]).heads[""]
    error = np.where(labels == UNKNOWN, 0.0, 0.5 - (labels == 1))
    step = -0.5 * np.column_stack([inputs, np.ones(8)]).T @ error / 8
    assert head.logits(values) == pytest.approx(np.column_stack([inputs, np.ones(8)]) @ step, abs=1e-5)


def test_methods_that_cannot_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="ridge does not answer multi-label tasks; those that do: auto"):
        multi_label(read_methods("auto,ridge"))
    with pytest.raises(ConfigError, match="private"):
        multi_label(read_methods("private-mean"))


def test_cases_of_one_class_each_cannot_be_asked_for_findings() -> None:
    plain = replace(WHOLE[0], material=None)
    with pytest.raises(DataError, match="multi-label"):
        outcome([plain], "discriminant")
    with pytest.raises(DataError, match=r"docs/data\.md"):
        Examples({"label": np.zeros(2), "labels": np.zeros((2, 2), np.int8)}, Task("x", ("a", "b", "c"), MULTI_LABEL))


def test_the_model_travels_whole() -> None:
    head = outcome(GAPS, "auto").heads[""]
    again = unpack("multi-label", head.pack())  # type: ignore[union-attr]
    values = np.ones((2, WIDTH))
    assert np.array_equal(again.logits(values), head.logits(values))
    assert again.classes == TASK.classes


@pytest.mark.parametrize("hospital", GAPS, ids=lambda one: f"{len(one.label)}-cases")
def test_sums_that_cannot_be_true_are_refused(hospital: SiteData) -> None:
    made = study(GAPS, "discriminant")
    made.outcome(made.methods[0])
    request, cases = made.hospitals.asked[0], len(hospital.label)  # type: ignore[attr-defined]
    told = dict(answer(request.task, hospital, {}, request.config).update.arrays)
    more, other, (name,) = told["known"] + cases, told["known"].copy(), told.keys() & {"known-sums", "known-labels"}
    other[0, 0] = other[0, 0, ::-1]
    none = {**told, "known": np.where(np.arange(3)[:, None] == 0, 0.0, told["known"]), name: told[name] + 0.1}
    assert request.check(told, cases) == ""
    assert "more cases" in request.check({**told, "known": more}, cases)
    assert "no case" in request.check(none, cases)
    if name == "known-labels":
        assert "roots" in request.check({**told, "known": other}, cases)


def test_a_hospital_sends_for_the_default_what_is_listed_and_no_more() -> None:
    made = study(GAPS, "auto")
    made.outcome(made.methods[0])
    sent = set()
    for request in made.hospitals.asked:  # type: ignore[attr-defined]
        for one in GAPS:
            arrays = answer(request.task, one, request.arrays, request.config).update.arrays
            sent.add((request.task, frozenset(arrays)))
    assert sent == {(row.task, frozenset(row.name.split(", "))) for row in LABEL_OUTBOUND}
