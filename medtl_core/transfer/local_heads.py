"""Each hospital alone, with scikit-learn's classifiers: what collaboration has to beat.

Under `test=sites` a hospital judges its own model on its own held-out cases, and nothing but evaluation sums leaves.
Under `test=server` the model itself has to leave to be judged, so only those go that are plain arrays: an affine head
(`local-logistic`, `local-svm`) or boosted trees (`local-boosting`; their thresholds lie midway between two values of a
feature at that hospital, so they tell more than a head does). The nearest neighbours and the kernel machine consist of
training cases: they stay, and are refused under `test=server`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from medtl_core.errors import ConfigError, did_you_mean
from medtl_core.histogram import expected_shapes, summarise
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.model import Packed
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.transfer.recipes import RECIPES, Portable, Recipe, own_model
from medtl_core.values import Released, Scores, Update


def local_portable(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """The hospital's own model as arrays, for the recipes that are such."""
    recipe = _portable(str(config["recipe"]))
    own = own_model(site, recipe)
    return Released(Update(recipe.export(own, site.classes)), metrics=own.metrics)


def local_judged(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Evaluation sums of the hospital's own model on its own held-out cases; see `histogram`."""
    own = own_model(site, _recipe(str(config["recipe"])))
    group = np.unique(site.test_patients, return_inverse=True)[1].astype(np.int64)
    logits = own.logits(site.test_values, site.classes)
    names = np.full(len(site.test_label), site.name)
    return Released(summarise(Scores(logits, site.test_label, names, group)), metrics=own.metrics)


def _recipe(name: str) -> Recipe:
    if name not in RECIPES:
        raise ConfigError(f"no local classifier is called {name!r}; {did_you_mean(name, RECIPES)}")
    return RECIPES[name]


def _portable(name: str) -> Portable:
    recipe = _recipe(name)
    if not isinstance(recipe, Portable):
        raise ConfigError(f"local-{name} consists of training cases and does not leave a hospital; set test=sites")
    return recipe


def _judged(study: Study, name: str, recipe: str) -> Outcome:
    expect = {key: ArraySpec(shape) for key, shape in expected_shapes(len(study.problem.classes)).items()}
    request = Request("local_judged", {}, {"recipe": recipe}, expect, name)
    replies = list(study.hospitals.ask(request))  # a few kB each
    told = {reply.site: _told(reply.metrics) for reply in replies}
    facts = {"judged": "each hospital's own model on its own held-out cases", "hospitals": told}
    sums = {reply.site: Update(reply.arrays) for reply in replies}
    return Outcome({}, {name: Share()}, 0.0, facts, own_sums=sums)


def _told(metrics: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if key in ("strength", "not-converged")}


@final
@dataclass(frozen=True)
class LocalPortable(Method):
    """Every hospital's own model, of a kind that may leave to be judged.

    Attributes:
        recipe: of `RECIPES`.
    """

    syntax: ClassVar[str] = "local-(?P<recipe>logistic|svm|boosting)"
    example: ClassVar[str] = "local-logistic"
    summary: ClassVar[str] = "each hospital alone: scikit-learn's logistic regression, linear SVM or boosted trees"

    recipe: str

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        if study.settings.test == "sites":
            return _judged(study, self.name, self.recipe)
        problem, recipe = study.problem, _portable(self.recipe)
        expect = recipe.expect(len(problem.classes), problem.width)
        request = Request("local_portable", {}, {"recipe": self.recipe}, expect, self.name)
        heads, told = {}, {}
        for reply in study.hospitals.ask(request):
            packed = Packed(reply.arrays, {}, problem.classes, problem.fingerprint, {"site": reply.site})
            heads[reply.site] = recipe.classifier(packed)
            told[reply.site] = _told(reply.metrics)
        return Outcome(heads, {self.name: Share()}, 0.0, {"fitted": told})


@final
@dataclass(frozen=True)
class LocalKept(Method):
    """Every hospital's own model, of a kind that consists of its training cases and never leaves.

    Attributes:
        recipe: of `RECIPES`.
    """

    syntax: ClassVar[str] = "local-(?P<recipe>svm-rbf|knn)"
    example: ClassVar[str] = "local-knn"
    summary: ClassVar[str] = "each hospital alone: scikit-learn's nearest neighbours or RBF machine, judged where it is"
    test: ClassVar[str] = "sites"

    recipe: str

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        return _judged(study, self.name, self.recipe)


METHODS: tuple[type[Method], ...] = (LocalPortable, LocalKept)
TASKS: Mapping[str, Task] = {task.__name__: task for task in (local_portable, local_judged)}
