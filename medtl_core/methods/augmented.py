"""Any core method on features averaged over the agreed views and N random pictures of the same finding.

Training and answering average alike: a classifier fitted on averaged features and asked about others loses several
points. What is drawn depends on the image only, so features are computed once and kept in the feature cache.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import ConfigError, DataError
from medtl_core.features.augment import augmented_features, recipe_for
from medtl_core.features.cache import Row
from medtl_core.features.dataset import Material
from medtl_core.features.spec import Spec, feature_spec
from medtl_core.federation import tasks
from medtl_core.federation.feature_map import IDENTITY, tasks_of
from medtl_core.federation.hospitals import Cost, Failure, Hospitals, Reply, Request
from medtl_core.federation.method import Method
from medtl_core.federation.model import Model
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.study import Study
from medtl_core.federation.tasks import Arrays, Config, SiteData, Task
from medtl_core.heads.closed_form import FAMILIES
from medtl_core.heads.statistics import Float
from medtl_core.methods.balanced import LogitAdjusted, Weighted, fit_loss
from medtl_core.methods.closed import Closed
from medtl_core.methods.gradient import ALGORITHMS, GradientMethod, fit
from medtl_core.values import Head, Released, digest

#: What can be named before "-augmented-N".
BASES: tuple[type[Method], ...] = (Closed, GradientMethod, LogitAdjusted, Weighted)

_ROUNDS = "[1-9][0-9]{0,3}"

#: Seed of the pictures: the same in every run and on both sides.
_SEED = 0


def blended(values: NDArray[np.floating[Any]], material: Material, copies: int) -> NDArray[np.float32]:
    """Returns features [n, d] averaged over the agreed views and so many random pictures, each counting alike.

    The pictures' features stay in the cases' store: rounds and heads read them from memory, not from disk.

    Args:
        values: the agreed features of the cases, float [n, d].
        material: the cases.
        copies: random pictures of each.

    Raises:
        ConfigError: the modality has no recipe, as a table has none.
        DataError: an image cannot be decoded.
    """
    spec = feature_spec(material.settings, material.views, material.columns)
    views = max(len(record.views) for record, _ in spec.parts(material.settings))
    drawn = _drawn(material, spec, copies)
    return np.asarray((views * np.asarray(values, np.float64) + copies * drawn) / (views + copies), np.float32)


def _drawn(material: Material, spec: Spec, copies: int) -> Row:
    """The mean features of the random pictures, float32 [n, d]."""
    recipe = recipe_for(material.modality, material.views)
    content = [key for key, _ in material.keyed_images()]
    name = digest(["augmented", content, spec.fingerprint, vars(recipe), copies])
    entry: tuple[Row] | None = material.store.get(name)
    if entry is None:
        entry = (augmented_features(material, copies, seed=_SEED, recipe=recipe).values,)
        material.store.put(name, entry)
    return entry[0]


@final
@dataclass(frozen=True)
class AugmentedHead(Model):
    """An affine head on blended features; it looks at the images themselves.

    Attributes:
        weight: float64 [C, d].
        bias: float64 [C].
        copies: random pictures of each case.
        classes, fingerprint, facts: as every classifier's.
    """

    kind: ClassVar[str] = "augmented"
    AXES: ClassVar[Mapping[str, str]] = {"weight": "cd", "bias": "c"}

    weight: Float
    bias: Float
    copies: int
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        if material is None:
            raise DataError("a head on augmented features needs the images, not their features alone")
        read = blended(np.asarray(values, np.float32), material, self.copies)
        return np.asarray(read.astype(np.float64) @ self.weight.T + self.bias)

    def flaw(self) -> str:
        """See Model."""
        return "" if self.copies > 0 else f"it blends {self.copies} copies"


@final
@dataclass(frozen=True)
class Augmented(Method):
    """A core method on blended features, e.g. `discriminant-augmented-8`.

    Attributes:
        base: the method's name.
        copies: random pictures of each case.
    """

    syntax: ClassVar[str] = (
        rf"(?P<base>{'|'.join(FAMILIES)}|(?:{'|'.join(ALGORITHMS)})-{_ROUNDS}(?:-adjusted)?"
        rf"|fed(?:logit|weighted)-{_ROUNDS})-augmented-(?P<copies>[1-9][0-9]?)"
    )
    example: ClassVar[str] = "discriminant-augmented-8"
    summary: ClassVar[str] = "a method on features averaged over the views and N random pictures, in training and after"

    base: str
    copies: int

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        inner = study.once(f"augmented/{self.copies}", lambda: self._inner(study))
        base = inner.outcome(_method(self.base))
        head = base.heads[""]
        if not isinstance(head, Head):
            raise TypeError(f"{self.base} gave no affine head")
        facts = {**base.facts, "base": self.base, "copies": self.copies}
        model = AugmentedHead(head.weight, head.bias, self.copies, head.classes, head.fingerprint, facts)
        bill = {_phase(phase, self.copies): share for phase, share in base.bill.items()}
        return Outcome({"": model}, bill, base.server_cpu, facts)

    def _inner(self, study: Study) -> Study:
        """The same hospitals, asked about blended features, by all methods of as many copies together."""
        alike = [
            method for method in study.methods if isinstance(method, Augmented) and method.copies == self.copies
        ] or [self]
        bases = [_method(method.base) for method in alike]
        return Study(BlendedHospitals(study.hospitals, self.copies), study.problem, study.settings, bases)


@final
@dataclass(frozen=True)
class BlendedHospitals(Hospitals):
    """The hospitals of a run, every question asked about blended features.

    Attributes:
        hospitals: who answers.
        copies: random pictures of each case.
    """

    hospitals: Hospitals
    copies: int

    @property
    def weights(self) -> Mapping[str, int]:
        """See Hospitals."""
        return self.hospitals.weights

    def ask(self, request: Request) -> Iterator[Reply]:
        """See Hospitals."""
        return self.hospitals.ask(
            replace(
                request,
                task=f"augmented_{request.task}",
                config={**request.config, "copies": self.copies},
                phase=_phase(request.phase or request.task, self.copies),
            )
        )

    @property
    def costs(self) -> Mapping[str, Cost]:
        """See Hospitals."""
        return self.hospitals.costs

    @property
    def failures(self) -> tuple[Failure, ...]:
        """See Hospitals."""
        return self.hospitals.failures

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """See Hospitals."""
        return self.hospitals.history


def _phase(phase: str, copies: int) -> str:
    return f"{phase}-augmented-{copies}"


def _method(base: str) -> Method:
    method = next(filter(None, (kind.parse(base) for kind in BASES)), None)
    if method is None:
        raise ConfigError(f"no method {base!r} works on augmented features")
    return method


def _blended(task: Task) -> Task:
    """Returns the task on blended features; a hospital without images refuses."""

    def asked(site: SiteData, arrays: Arrays, config: Config) -> Released:
        if site.material is None:
            raise DataError(f"hospital {site.name!r} holds features only; augmentation needs the images")
        return task(replace(site, values=blended(site.values, site.material, int(config["copies"]))), arrays, config)

    return asked


METHODS: tuple[type[Method], ...] = (Augmented,)
MODELS: tuple[type[Model], ...] = (AugmentedHead,)
_CORE: Mapping[str, Task] = {**tasks_of(IDENTITY), "moments": tasks.moments, "fit": fit, "fit_loss": fit_loss}
TASKS: Mapping[str, Task] = {f"augmented_{name}": _blended(task) for name, task in _CORE.items()}
