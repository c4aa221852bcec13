"""scikit-learn's classifiers, fitted by a hospital on its own cases and judged there; see `local_baselines`."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.federation.tasks import Arrays, Config, SiteData, judged
from medtl_core.heads.crossval import fold_of
from medtl_core.heads.statistics import TINY, Float
from medtl_core.rng import stream
from medtl_core.values import ABSENT, Released

#: Classifier -> strengths to choose from, the most regularised first.
STRENGTHS: Mapping[str, tuple[float, ...]] = {
    "logistic": (0.001, 0.01, 0.1, 1.0),
    "svm": (0.0001, 0.001, 0.01, 0.1),
    "svm-rbf": (0.1, 1.0, 10.0),
    "knn": (15.0, 7.0, 5.0, 3.0, 1.0),
    "boosting": (1.0,),
}


def local_judged(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Evaluation sums of the hospital's own model on its own held-out cases; see `evaluation.federated`."""
    from sklearn.exceptions import ConvergenceWarning

    recipe = str(config["recipe"])
    if recipe not in STRENGTHS:
        raise ConfigError(f"no local classifier is called {recipe!r}; {did_you_mean(recipe, STRENGTHS)}")
    mean, scale = site.values.mean(axis=0, dtype=np.float64), site.values.std(axis=0, dtype=np.float64) + TINY
    inputs, seen = (site.values - mean) / scale, np.unique(site.label)
    logits = np.full((len(site.test_values), site.classes), ABSENT)
    logits[:, seen] = 0.0
    if len(seen) < 2:
        return Released(judged(site, logits), metrics={"strength": 0.0, "not-converged": 0.0})
    state = int(stream(site.seed, "local-head", site.name).integers(2**31))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        strength = _best(recipe, inputs, site, state)
        fitted = _estimator(recipe, strength, inputs, state).fit(inputs, site.label)
    logits[:, seen] = _scores(fitted, (site.test_values - mean) / scale)
    return Released(judged(site, logits), metrics={"strength": strength, "not-converged": float(len(caught))})


def _best(recipe: str, inputs: Float, site: SiteData, state: int) -> float:
    """The first strength of the best balanced accuracy over held-out cases, in three folds of the patients."""
    label, fold = site.label, fold_of(site.patients, site.label, 3, site.seed)
    strengths, right = STRENGTHS[recipe], []
    for strength in strengths:
        answer = np.full(len(label), -1)
        for held in (fold == index for index in np.unique(fold)):
            if len(strengths) > 1 and len(np.unique(label[~held])) > 1:
                fitted = _estimator(recipe, strength, inputs[~held], state).fit(inputs[~held], label[~held])
                answer[held] = fitted.predict(inputs[held])
        right.append(float((1.0 / np.bincount(label)[label])[answer == label].sum()))
    return strengths[int(np.argmax(right))]


def _estimator(recipe: str, strength: float, inputs: Float, state: int) -> Any:
    """An unfitted classifier, classes balanced where it knows how; the kernel's width is the median heuristic's."""
    from sklearn import ensemble, linear_model, neighbors, svm

    few = {"max_iter": 60, "max_leaf_nodes": 8, "min_samples_leaf": 5, "early_stopping": False}  # 90 cases fill no more
    balanced = {"class_weight": "balanced", "random_state": state}
    return {
        "logistic": linear_model.LogisticRegression(C=strength, max_iter=2000, **balanced),
        "svm": svm.LinearSVC(C=strength, max_iter=20_000, **balanced),
        "svm-rbf": svm.SVC(C=strength, gamma=0.5 / inputs.shape[1], **balanced),
        "knn": neighbors.KNeighborsClassifier(min(int(strength), len(inputs)), weights="distance"),
        "boosting": ensemble.HistGradientBoostingClassifier(l2_regularization=strength, **few, **balanced),
    }[recipe]


def _scores(fitted: Any, inputs: Float) -> Float:
    """Scores [m, k] of the k >= 2 classes that were seen; of neighbours, logarithms of smoothed shares of votes."""
    if hasattr(fitted, "decision_function"):
        scores = np.asarray(fitted.decision_function(inputs), np.float64)
        return scores if scores.ndim == 2 else np.stack([-scores / 2, scores / 2], axis=1)
    share, votes = np.asarray(fitted.predict_proba(inputs), np.float64), fitted.n_neighbors
    return np.asarray(np.log((share * votes + 0.5) / (votes + 0.5 * share.shape[1])))


TASKS = {"local_judged": local_judged}
