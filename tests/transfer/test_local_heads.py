"""Hospitals alone with scikit-learn: what leaves answers as scikit-learn does, and what must not leave stays."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

from medtl_core.config import Settings
from medtl_core.errors import ConfigError
from medtl_core.histogram import judge_sites, summarise
from medtl_core.methods.outcome import Outcome, Problem
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import SiteData
from medtl_core.registry import read_methods
from medtl_core.transfer.local_heads import local_judged, local_portable
from medtl_core.transfer.recipes import RECIPES, own_model
from medtl_core.values import ABSENT, Scores
from tests.memory import DirectHospitals, make_site

PROBLEM = Problem(("x", "y", "z"), "features", (("4", 0, 6),))
ORACLES = {
    "logistic": LogisticRegression, "svm": LinearSVC, "svm-rbf": SVC, "knn": KNeighborsClassifier,
    "boosting": HistGradientBoostingClassifier,
}  # fmt: skip


def outcome(hospitals: DirectHospitals, name: str, test: str = "server") -> Outcome:
    made = Study(hospitals, PROBLEM, Settings(test=test), read_methods(name))
    return made.outcome(made.methods[0])


def two_classes() -> SiteData:
    site = make_site("a", 24, classes=2)
    return SiteData(**{**vars(site), "classes": 3, "label": site.label * 2, "test_label": site.test_label * 2})


@pytest.mark.parametrize("name", ["logistic", "svm", "boosting"])
@pytest.mark.parametrize("site", [make_site("a", 30), two_classes()], ids=["three classes", "two classes"])
def test_what_leaves_answers_as_scikit_learn(name: str, site: SiteData) -> None:
    own = own_model(site, RECIPES[name])
    assert isinstance(own.fitted, ORACLES[name])
    model = outcome(DirectHospitals([site]), f"local-{name}").heads["a"]
    values = site.test_values.astype(float)
    inputs = (values - own.mean) / own.scale
    theirs, ours = own.fitted.decision_function(inputs), model.logits(site.test_values)
    if len(own.seen) == 2:
        assert (ours[:, 1] == ABSENT).all()
        ours = ours[:, 2] - ours[:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.logits(site.test_values), own.logits(site.test_values, 3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", RECIPES)
def test_hospitals_judge_their_own_model_on_their_own_cases(hospitals: DirectHospitals, name: str) -> None:
    found = outcome(hospitals, f"local-{name}", test="sites")
    assert found.heads == {}
    assert sorted(found.own_sums) == ["a", "b", "c", "d", "e"]
    site = hospitals.sites["a"]
    logits = own_model(site, RECIPES[name]).logits(site.test_values, 3)
    group = np.unique(site.test_patients, return_inverse=True)[1]
    direct = summarise(Scores(logits, site.test_label, np.full(20, "a"), group)).arrays
    for key, array in direct.items():
        np.testing.assert_array_equal(found.own_sums["a"].arrays[key], array)
    assert judge_sites(found.own_sums, PROBLEM.classes).as_dict()["figures"]["balanced_accuracy"] > 0.4
    assert {reply for request in hospitals.asked for reply in request.expect} == {*direct}


def test_a_strength_is_chosen_by_the_hospitals_own_folds() -> None:
    own = own_model(make_site("a", 30), RECIPES["svm-rbf"])
    assert own.metrics["strength"] in RECIPES["svm-rbf"].strengths
    assert own.metrics["strength"] == own.fitted.C
    assert own.metrics["not-converged"] == 0.0


def test_neighbours_are_smoothed_shares_of_votes() -> None:
    site = make_site("a", 30)
    own = own_model(site, RECIPES["knn"])
    share = np.exp(own.logits(site.test_values, 3))
    np.testing.assert_allclose(share.sum(axis=1), 1.0)
    theirs = own.fitted.predict((site.test_values.astype(float) - own.mean) / own.scale)
    assert (share.argmax(axis=1) == theirs).mean() > 0.9  # ties fall either way


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("cases", [1, 2, 3])
def test_a_handful_of_cases_or_one_class_is_no_error(name: str, cases: int) -> None:
    for site in (make_site("a", cases), make_site("a", cases, skew=1)):
        logits = own_model(site, RECIPES[name]).logits(site.test_values, 3)
        assert np.isfinite(logits).all()
        unseen = np.setdiff1d(np.arange(3), site.label)
        assert (logits[:, unseen] == ABSENT).all()


@pytest.mark.parametrize("name", ["svm-rbf", "knn"])
def test_training_cases_do_not_leave(name: str) -> None:
    site = make_site("a", 12)
    with pytest.raises(ConfigError, match=r"does not leave a hospital; set test=sites"):
        local_portable(site, {}, {"recipe": name})
    (method,) = read_methods(f"local-{name}")
    assert method.test == "sites"
    with pytest.raises(ConfigError, match="did you mean 'knn'"):
        local_judged(site, {}, {"recipe": "kn"})


def test_fits_that_do_not_converge_are_counted() -> None:
    class Hasty(type(RECIPES["logistic"])):  # type: ignore[misc]
        def estimator(self, strength: float, shape: tuple[int, int], state: int) -> LogisticRegression:
            return LogisticRegression(C=1e6, max_iter=1)

    assert own_model(make_site("a", 30), Hasty()).metrics["not-converged"] > 0
