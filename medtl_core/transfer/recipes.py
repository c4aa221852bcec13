"""scikit-learn's classifiers as a hospital fits them alone: strengths to choose from, and which are plain arrays."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.heads.crossval import fold_of
from medtl_core.heads.linear import to_raw
from medtl_core.heads.statistics import TINY, Float
from medtl_core.methods.hospitals import ArraySpec
from medtl_core.methods.model import Classifier, Packed
from medtl_core.methods.tasks import SiteData
from medtl_core.rng import stream
from medtl_core.transfer.trees import NAMES, Trees, exported, stumps
from medtl_core.values import ABSENT, Array, Head

#: Folds by patient, inside a hospital, that choose a strength.
_FOLDS = 3


class Recipe(ABC):
    """One of scikit-learn's classifiers and the strengths to choose from, the most regularised first."""

    strengths: ClassVar[tuple[float, ...]] = (1.0,)
    #: Whether it reads features standardised by the hospital's own cases.
    standardised: ClassVar[bool] = True

    @abstractmethod
    def estimator(self, strength: float, shape: tuple[int, int], state: int) -> Any:
        """Returns an unfitted classifier for features [n, d] of this shape; `state` seeds what is random."""

    def scores(self, fitted: Any, inputs: Float) -> Float:
        """Returns scores [n, k] of the k >= 2 classes the fitted classifier saw."""
        found = np.asarray(fitted.decision_function(inputs), np.float64)
        return found if found.ndim == 2 else np.stack([-found / 2, found / 2], axis=1)


class Portable(Recipe):
    """A classifier that is a few arrays of known shape."""

    @abstractmethod
    def expect(self, classes: int, width: int) -> dict[str, ArraySpec]:
        """Returns the shapes of the arrays."""

    @abstractmethod
    def export(self, own: "Own", classes: int) -> dict[str, Array]:
        """Returns a hospital's model as arrays, on raw features."""

    @abstractmethod
    def classifier(self, packed: Packed) -> Classifier:
        """Returns the classifier of the arrays.

        Raises:
            WeightsError: they do not fit together.
        """


class _Affine(Portable):
    def expect(self, classes: int, width: int) -> dict[str, ArraySpec]:
        return {"head": ArraySpec((classes, width + 1))}

    def export(self, own: "Own", classes: int) -> dict[str, Array]:
        head = np.zeros((classes, len(own.mean) + 1))
        if own.fitted is not None:
            pairs = np.concatenate([own.fitted.coef_, own.fitted.intercept_[:, None]], axis=1)
            head[own.seen] = pairs if len(own.seen) > 2 else np.concatenate([-pairs / 2, pairs / 2])
        return {"head": to_raw(head, own.mean, own.scale, np.isin(np.arange(classes), own.seen))}

    def classifier(self, packed: Packed) -> Classifier:
        weight, bias = packed.arrays["head"][:, :-1].copy(), packed.arrays["head"][:, -1].copy()
        return Head(weight, bias, "local", packed.classes, packed.fingerprint, packed.facts)


@final
class Logistic(_Affine):
    """Multinomial logistic regression, classes balanced."""

    strengths = (0.001, 0.01, 0.1, 1.0)

    def estimator(self, strength: float, shape: tuple[int, int], state: int) -> Any:
        """See Recipe."""
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000)


@final
class LinearMachine(_Affine):
    """Linear support vector machine, one class against the rest, classes balanced."""

    strengths = (0.0001, 0.001, 0.01, 0.1)

    def estimator(self, strength: float, shape: tuple[int, int], state: int) -> Any:
        """See Recipe."""
        from sklearn.svm import LinearSVC

        return LinearSVC(C=strength, class_weight="balanced", max_iter=20_000, random_state=state)


@final
class KernelMachine(Recipe):
    """Support vector machine with a Gaussian kernel, classes balanced; its width is the median heuristic's."""

    strengths = (0.1, 1.0, 10.0)

    def estimator(self, strength: float, shape: tuple[int, int], state: int) -> Any:
        """See Recipe."""
        from sklearn.svm import SVC

        return SVC(C=strength, gamma=0.5 / shape[1], class_weight="balanced")


@final
class Neighbours(Recipe):
    """Nearest neighbours by distance; a class's score is the logarithm of its smoothed share of the votes."""

    strengths = (15.0, 7.0, 5.0, 3.0, 1.0)

    def estimator(self, strength: float, shape: tuple[int, int], state: int) -> Any:
        """See Recipe."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(min(int(strength), shape[0]), weights="distance")

    def scores(self, fitted: Any, inputs: Float) -> Float:
        """See Recipe."""
        share, votes = np.asarray(fitted.predict_proba(inputs), np.float64), fitted.n_neighbors
        return np.asarray(np.log((share * votes + 0.5) / (votes + 0.5 * share.shape[1])))


@final
class Boosting(Portable):
    """Gradient-boosted small trees, classes balanced."""

    #: Trees a class, and leaves a tree: 90 cases do not fill more.
    rounds, leaves = 60, 8
    standardised = False  # a threshold orders cases alike on any scale

    def estimator(self, strength: float, shape: tuple[int, int], state: int) -> Any:
        """See Recipe."""
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=self.rounds, max_leaf_nodes=self.leaves, min_samples_leaf=5, l2_regularization=strength,
            class_weight="balanced", early_stopping=False, random_state=state,
        )  # fmt: skip

    def expect(self, classes: int, width: int) -> dict[str, ArraySpec]:
        """See Portable."""
        shape = (self.rounds, classes, 2 * self.leaves - 1)
        real = ("threshold", "value")
        trees = {name: ArraySpec(shape, "float64" if name in real else "int64") for name in NAMES}
        return {**trees, "bias": ArraySpec((classes,))}

    def export(self, own: "Own", classes: int) -> dict[str, Array]:
        """See Portable."""
        nodes = 2 * self.leaves - 1
        if own.fitted is None:
            arrays = stumps(self.rounds, classes, nodes)
            arrays["bias"][own.seen] = 0.0
            return arrays
        return exported(own.fitted, classes, nodes)

    def classifier(self, packed: Packed) -> Classifier:
        """See Portable."""
        return Trees.unpack(packed)


RECIPES: Mapping[str, Recipe] = {
    "logistic": Logistic(),
    "svm": LinearMachine(),
    "svm-rbf": KernelMachine(),
    "knn": Neighbours(),
    "boosting": Boosting(),
}


@dataclass(frozen=True)
class Own:
    """A hospital's own model.

    Attributes:
        recipe: of it.
        fitted: scikit-learn's classifier; None if the hospital shows a single class.
        seen: int [k], places of the classes it saw.
        mean, scale: float64 [d], of its own standardisation.
        metrics: chosen strength, and how many fits did not converge.
    """

    recipe: Recipe
    fitted: Any
    seen: NDArray[np.int64]
    mean: Float
    scale: Float
    metrics: Mapping[str, float]

    def logits(self, values: NDArray[np.floating[Any]], classes: int) -> Float:
        """Returns logits [n, C]; a class that was never seen is no answer."""
        found = np.full((len(values), classes), ABSENT)
        inputs = (np.asarray(values, np.float64) - self.mean) / self.scale
        found[:, self.seen] = 0.0 if self.fitted is None else self.recipe.scores(self.fitted, inputs)
        return found


def own_model(site: SiteData, recipe: Recipe) -> Own:
    """Returns what a hospital would fit alone; the strength has the best balanced accuracy in folds of its patients."""
    from sklearn.exceptions import ConvergenceWarning

    values, label = site.values.astype(np.float64), site.label
    mean, scale = np.zeros(values.shape[1]), np.ones(values.shape[1])
    if recipe.standardised:
        mean, scale = values.mean(axis=0), values.std(axis=0) + TINY
    inputs, seen = (values - mean) / scale, np.unique(label)
    if len(seen) == 1:
        return Own(recipe, None, seen, mean, scale, {"strength": 0.0, "not-converged": 0.0})
    state = int(stream(site.seed, "local-head", site.name).integers(2**31))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ConvergenceWarning)
        best = _best(recipe, inputs, label, fold_of(site.patients, label, _FOLDS, site.seed), state)
        fitted = recipe.estimator(best, inputs.shape, state).fit(inputs, label)
    return Own(recipe, fitted, seen, mean, scale, {"strength": best, "not-converged": float(len(caught))})


def _best(recipe: Recipe, inputs: Float, label: NDArray[np.int64], fold: NDArray[np.int64], state: int) -> float:
    """The first strength of the best balanced accuracy over held-out cases."""
    if len(recipe.strengths) == 1:
        return recipe.strengths[0]
    weight = 1.0 / np.bincount(label)[label]
    right = []
    for strength in recipe.strengths:
        answer = np.full(len(label), -1)
        for index in range(_FOLDS):
            train, held = fold != index, fold == index
            if held.any() and len(np.unique(label[train])) > 1:
                fitted = recipe.estimator(strength, inputs[train].shape, state).fit(inputs[train], label[train])
                answer[held] = fitted.predict(inputs[held])
        right.append(float(weight[answer == label].sum()))
    return recipe.strengths[int(np.argmax(right))]
