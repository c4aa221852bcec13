"""Hospitals alone with scikit-learn: each judges its own model on its own cases, and nothing but sums leaves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.evaluation.federated import expected_shapes, judge_sites, summarise
from medtl_core.federation.registry import answer, read_methods
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import SiteData
from medtl_core.values import ABSENT, Scores
from simulations.memory import MemoryHospitals
from tests.memory import PROBLEM, make_site

NAMES = ("logistic", "svm", "svm-rbf", "knn", "boosting")


def oracle(name: str, strength: float) -> Any:
    if name == "logistic":
        return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)
    if name == "svm":
        return LinearSVC(C=strength, class_weight="balanced", max_iter=20_000, tol=1e-8, random_state=0)
    if name == "svm-rbf":
        return SVC(C=strength, gamma=0.5 / 6, class_weight="balanced")
    if name == "knn":
        return KNeighborsClassifier(int(strength), weights="distance")
    return HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, min_samples_leaf=5, l2_regularization=1.0, class_weight="balanced",
        early_stopping=False,
    )  # fmt: skip


def two_classes() -> SiteData:
    site = make_site("a", 24, classes=2)
    return replace(site, classes=3, label=site.label * 2, test_label=site.test_label * 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("site", [make_site("a", 30), two_classes()], ids=["three classes", "two classes"])
def test_the_model_is_scikit_learns(name: str, site: SiteData) -> None:
    released = answer("local_judged", site, {}, {"recipe": name})
    assert released.metrics["not-converged"] == 0.0
    mean, scale = site.values.astype(float).mean(axis=0), site.values.astype(float).std(axis=0)
    inputs, seen = (site.values - mean) / scale, np.unique(site.label)
    theirs = oracle(name, released.metrics["strength"]).fit(inputs, site.label)
    held_out = theirs.predict((site.test_values - mean) / scale)
    confusion = np.zeros((3, 3))
    np.add.at(confusion, (site.test_label, held_out), 1)
    ours = released.update.arrays["confusion"]
    assert np.abs(ours - confusion).sum() <= (2 if name == "knn" else 0)  # ties of neighbours fall either way
    assert not np.delete(ours, seen, axis=-1).any()


@pytest.mark.parametrize("name", NAMES)
def test_hospitals_judge_their_own_model_on_their_own_cases(hospitals: MemoryHospitals, name: str) -> None:
    study = Study(hospitals, PROBLEM, Settings(test="sites"), read_methods(f"local-{name}"))
    found = study.outcome(study.methods[0])
    assert found.heads == {} and study.methods[0].test == "sites"
    assert sorted(found.own_sums) == ["a", "b", "c", "d", "e"]
    assert judge_sites(found.own_sums, PROBLEM.classes).as_dict()["figures"]["balanced_accuracy"] > 0.4
    assert {reply for request in hospitals.asked for reply in request.expect} == {*expected_shapes(3)}


def test_an_unknown_recipe_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'knn'"):
        answer("local_judged", make_site("a", 12), {}, {"recipe": "kn"})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cases", [1, 2, 3])
def test_a_handful_of_cases_is_no_error_and_one_class_is_always_answered(name: str, cases: int) -> None:
    sums = answer("local_judged", make_site("a", cases), {}, {"recipe": name}).update.arrays
    assert all(np.isfinite(array).all() for array in sums.values())
    site = make_site("a", cases, skew=1)
    logits = np.where(np.isin(np.arange(3), site.label), 0.0, ABSENT) * np.ones((len(site.test_label), 1))
    group = np.unique(site.test_patients, return_inverse=True)[1]
    direct = summarise(Scores(logits, site.test_label, np.full(len(site.test_label), "a"), group)).arrays
    ours = answer("local_judged", site, {}, {"recipe": name}).update.arrays
    assert all(np.array_equal(ours[key], array) for key, array in direct.items())
