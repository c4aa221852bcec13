"""LEEP and NCE: how well the source task's answers tell the target's classes, from summed counts.

The backbone's own classifier says what each image looks like among the source's classes (theta, views averaged). First
exchange: the joint count of target and source class, soft (theta summed) and hard (its largest). Second exchange: the
log-likelihood of the labels under the expected empirical predictor P(y | x) = sum_z P(y | z) theta(x)_z, summed.

- LEEP is that log-likelihood per case (Nguyen et al., ICML 2020, eq. 1 to 3).
- NCE is minus the entropy of the target class given the hard source class (Tran et al., ICCV 2019); one exchange.

Both judge a source as a whole, not a layer, and need weights that come with their classifier. The predictor itself is
the method's classifier: no image feature was trained for it.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.aggregate.folds import total
from medtl_core.backbones.zoo import find_backbone
from medtl_core.cache import FeatureCache
from medtl_core.config import Settings
from medtl_core.data.images import content_key, decode
from medtl_core.errors import ConfigError, DataError, WeightsError
from medtl_core.features import cache_folder, images_of
from medtl_core.heads.statistics import Float
from medtl_core.material import Material
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.model import Model, Packed
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.specs import FeatureSpec, backbone_names, backbone_spec
from medtl_core.values import ABSENT, Array, Released, Update, digest
from medtl_core.views import square, stacked

if TYPE_CHECKING:
    from torch import nn

#: Probabilities below this count as this: a label that the predictor rules out costs 27.6 nats, not infinity.
_LEAST = 1e-12
#: Images between two writes to the cache.
_CHUNK = 64
_LOADING = threading.Lock()


def nce(joint: Float) -> float:
    """Returns minus the entropy of the target given the source class in nats, from their joint counts [C, Z].

    Example:
        >>> nce(np.array([[5.0, 0.0], [0.0, 5.0]]))
        0.0
    """
    conditional = conditional_of(joint)
    terms = joint * np.log(np.where(joint > 0, conditional.T, 1.0))
    return float(terms.sum() / joint.sum()) + 0.0


def conditional_of(joint: Float) -> Float:
    """Returns P(y | z), float64 [Z, C], from joint counts [C, Z]; zero for a source class nobody showed.

    Example:
        >>> conditional_of(np.array([[1.0, 0.0], [3.0, 0.0]])).tolist()
        [[0.25, 0.75], [0.0, 0.0]]
    """
    shown = joint.sum(axis=0)
    return np.asarray(np.where(shown > 0, joint / np.where(shown > 0, shown, 1.0), 0.0).T)


@final
@dataclass(frozen=True)
class ExpectedEmpirical(Model):
    """P(y | x) = sum_z P(y | z) theta(x)_z: the source classifier's answers, renamed by how often they met each class.

    Attributes:
        conditional: float64 [Z, C], P(y | z).
        classes, fingerprint, facts: as every classifier's.
    """

    kind: ClassVar[str] = "expected-empirical"

    conditional: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> Float:
        """Returns log P(y | x), float64 [n, C]; see Model.

        Raises:
            DataError: the cases themselves are not there.
            WeightsError: the backbone's weights here have no classifier, or one of other classes.
        """
        theta = source_probabilities(_cases(material))
        if theta.shape[1] != len(self.conditional):
            raise WeightsError(f"the source has {theta.shape[1]} classes where {len(self.conditional)} were counted")
        seen = self.conditional.sum(axis=0) > 0
        return np.where(seen, np.log(np.maximum(theta @ self.conditional, _LEAST)), ABSENT)

    def pack(self) -> Packed:
        """See Model."""
        return Packed({"conditional": self.conditional}, {}, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """See Model."""
        found = packed.arrays.get("conditional")
        if found is None or found.ndim != 2 or found.shape[1] != len(packed.classes):
            raise WeightsError(f"a model {cls.kind!r} needs an array 'conditional' [Z, {len(packed.classes)}]")
        if not np.isfinite(found).all() or found.min() < 0 or found.max() > 1 + 1e-9:
            raise WeightsError(f"a model {cls.kind!r} holds conditional probabilities outside [0, 1]")
        return cls(np.asarray(found, np.float64), packed.classes, packed.fingerprint, packed.facts)


@final
@dataclass(frozen=True)
class Leep(Method):
    """The expected empirical predictor, with LEEP and NCE of the source as facts."""

    syntax: ClassVar[str] = "leep"
    example: ClassVar[str] = "leep"
    summary: ClassVar[str] = "the source classifier's answers renamed by joint counts; LEEP and NCE of the source"

    def outcome(self, study: Study) -> Outcome:
        """See Method.

        Raises:
            ConfigError: the backbone is a table, or several.
            WeightsError: the backbone's weights have no classifier.
            DataError: the hospitals together show fewer than two classes.
        """
        _, sources = _source(study.settings, _spec(study.settings, study.problem.views))
        shape = (len(study.problem.classes), sources)
        expect = {"soft": ArraySpec(shape), "hard": ArraySpec(shape)}
        request = Request("source_counts", {}, {"sources": sources}, expect)
        joint = total(reply.arrays for reply in study.hospitals.ask(request))
        if (joint["hard"].sum(axis=1) > 0.5).sum() < 2:
            raise DataError("the hospitals together show fewer than two classes; LEEP can judge no source on that")
        conditional = conditional_of(joint["soft"])
        expect = {"likelihood": ArraySpec((shape[0],))}
        request = Request("source_likelihood", {"conditional": conditional}, {}, expect)
        sums = total(reply.arrays for reply in study.hospitals.ask(request))["likelihood"]
        scores = {"leep": float(sums.sum() / joint["hard"].sum()), "nce": nce(joint["hard"])}
        facts = {"scores": scores, "sources": sources}
        problem = study.problem
        model = ExpectedEmpirical(conditional, problem.classes, problem.fingerprint, facts)
        return Outcome({"": model}, {"source_counts": Share(), "source_likelihood": Share()}, 0.0, facts)


def source_counts(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Joint counts of target and source class, soft and hard, each float64 [C, Z]."""
    theta = source_probabilities(_cases(site.material))
    if theta.shape[1] != int(config["sources"]):
        raise WeightsError(f"the source has {theta.shape[1]} classes here, {config['sources']} at the server")
    onehot = np.eye(site.classes)[site.label]
    hard = np.eye(theta.shape[1])[theta.argmax(axis=1)]
    return Released(Update({"soft": onehot.T @ theta, "hard": onehot.T @ hard}))


def source_likelihood(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Log-likelihood of the labels under P(y | z) [Z, C], summed by class, float64 [C]."""
    predicted = source_probabilities(_cases(site.material)) @ arrays["conditional"]
    own = np.log(np.maximum(predicted[np.arange(len(site.label)), site.label], _LEAST))
    return Released(Update({"likelihood": np.eye(site.classes)[site.label].T @ own}))


def source_probabilities(material: Material) -> Float:
    """Returns what the backbone's classifier says of each case, float64 [n, Z], views averaged; cached on disk.

    Raises:
        ConfigError: the backbone is a table, or several.
        WeightsError: the weights have no classifier, or are missing.
        DataError: an image cannot be decoded, or the cases are a table.
    """
    spec = _spec(material.settings, material.views)
    images = images_of(material.examples)
    recipe = digest({**vars(spec), "taps": "classifier", "channels": (), "pooling": "softmax"})
    keys = [digest([content_key(image), recipe]) for image in images]
    network, sources = _source(material.settings, spec)
    cache = FeatureCache(cache_folder(material.settings.cache))
    rows = {key: row for key, row in cache.get_many(keys).items() if row.shape == (sources,)}
    todo = [(key, image) for key, image in dict(zip(keys, images, strict=True)).items() if key not in rows]
    read = _reader(network, spec)
    for first in range(0, len(todo), _CHUNK):
        fresh = {key: read(image) for key, image in todo[first : first + _CHUNK]}
        cache.put_many(fresh)
        rows |= fresh
    return np.stack([rows[key] for key in keys]).astype(np.float64) if keys else np.zeros((0, sources))


def _cases(material: Material | None) -> Material:
    if material is None:
        raise DataError("LEEP asks the backbone's classifier about the images, and there are only features here")
    return material


def _spec(settings: Settings, views: tuple[str, ...]) -> FeatureSpec:
    if settings.backbone == "table" or len(backbone_names(settings.backbone)) > 1:
        raise ConfigError(f"backbone={settings.backbone!r}: LEEP judges one image backbone at a time")
    return backbone_spec(settings, views)


def _source(settings: Settings, spec: FeatureSpec) -> tuple["nn.Module", int]:
    """The source's network and its number of classes; threads that ask at once load one."""
    with _LOADING:
        return _loaded(settings.backbone, settings.weights, spec.weights_sha)


@lru_cache(maxsize=2)
def _loaded(name: str, weights: str, sha: str) -> tuple["nn.Module", int]:
    from medtl_core.backbones.classifier import load_classifier

    return load_classifier(find_backbone(name), weights)


def _reader(network: "nn.Module", spec: FeatureSpec) -> Callable[[Array | Path | str], NDArray[np.float32]]:
    import torch

    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (spec.mean, spec.std))

    def read(image: Array | Path | str) -> NDArray[np.float32]:
        pixels = torch.from_numpy(stacked(square(decode(image), spec.size), spec.views))
        with torch.inference_mode():
            batch = (pixels.permute(0, 3, 1, 2).float() / 255.0 - mean) / std
            theta = network(batch).softmax(dim=1).mean(dim=0)
        if not bool(theta.isfinite().all()):
            raise WeightsError("the source classifier gives numbers that are not finite; check its weights")
        found: NDArray[np.float32] = theta.numpy()
        return found

    return read


METHODS: tuple[type[Method], ...] = (Leep,)
TASKS: Mapping[str, Task] = {"source_counts": source_counts, "source_likelihood": source_likelihood}
MODELS: tuple[type[Model], ...] = (ExpectedEmpirical,)
