"""Random Fourier features: a non-linear head that is still solved from sums.

cos(w'z / s + b) with random w and b approximates the Gaussian kernel of width s (Rahimi and Recht, NeurIPS 2007), so a
linear head on such waves bends, and its statistics add as those of the plain features do (Fed3R-RF: Fanì et al., ICML
2024). The waves come from a public seed; what a hospital sends is counts, sums and Gram matrices of the mapped
features, once a width and fold.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, final

import numpy as np
from numpy.typing import NDArray

from medtl_core.aggregate.folds import total
from medtl_core.errors import ConfigError, WeightsError
from medtl_core.heads.closed import FAMILIES
from medtl_core.heads.crossval import TEMPERATURES, Choice, choose, fold_of, held_out
from medtl_core.heads.statistics import Float, Statistics, collect, pack, unpack
from medtl_core.material import Material
from medtl_core.methods.hospitals import ArraySpec, Request
from medtl_core.methods.method import Method
from medtl_core.methods.model import Model, Packed
from medtl_core.methods.outcome import Outcome, Share
from medtl_core.methods.study import Study
from medtl_core.methods.tasks import Arrays, Config, SiteData, Task
from medtl_core.rng import stream
from medtl_core.values import Array, Released, Update

#: Kernel widths that cross-validation chooses from, in multiples of the median heuristic.
WIDTHS = (0.5, 1.0, 2.0, 4.0)

#: Frequencies are multiples of this, so that the last digit of a logarithm on another machine changes none of them.
_STEP = 2.0**-12


@final
@dataclass(frozen=True)
class Waves:
    """The map z -> sqrt(2 / D) cos(w'z / s + b) of standardised features.

    Attributes:
        frequencies: float64 [D, d], the rows w.
        phases: float64 [D], the shifts b.
        mean, scale: float64 [d], of the standardisation.
    """

    frequencies: Float
    phases: Float
    mean: Float
    scale: Float

    @classmethod
    def draw(cls, count: int, mean: Float, scale: Float, *, rng: np.random.Generator) -> Self:
        """Returns `count` waves for features of these moments."""
        drawn = rng.standard_normal((count, len(mean))), rng.uniform(0.0, 2.0 * np.pi, count)
        frequencies, phases = (np.round(part / _STEP) * _STEP for part in drawn)
        return cls(frequencies, phases, np.asarray(mean, np.float64), np.asarray(scale, np.float64))

    @property
    def digest(self) -> str:
        """Names the frequencies and phases: both sides must have drawn the same."""
        steps = np.round(np.concatenate([self.frequencies.ravel(), self.phases]) / _STEP).astype("<i4")
        return hashlib.sha256(steps.tobytes()).hexdigest()

    def mapped(self, values: NDArray[np.floating[Any]], widths: tuple[float, ...]) -> list[Float]:
        """Returns the features [n, D] under each kernel width s, from one projection."""
        standard = (np.asarray(values, np.float64) - self.mean) / self.scale
        projected = standard @ self.frequencies.T
        root = np.sqrt(2.0 / len(self.phases))
        return [root * np.cos(projected / width + self.phases) for width in widths]


def widths_for(features: int) -> tuple[float, ...]:
    """Returns the kernel widths tried for so many standardised features.

    Two standardised vectors lie sqrt(2 d) apart in root mean square, whatever the data: half of the squared distance,
    the usual heuristic for s^2, is d.

    Example:
        >>> widths_for(100)
        (5.0, 10.0, 20.0, 40.0)
    """
    return tuple(float(multiple * np.sqrt(features)) for multiple in WIDTHS)


@final
@dataclass(frozen=True)
class FourierModel(Model):
    """An affine head on waves.

    Attributes:
        waves: the map.
        width: its kernel width.
        affine: float64 [C, D + 1], the head on the mapped features.
        classes, fingerprint, facts: as every classifier's.
    """

    kind: ClassVar[str] = "fourier"

    waves: Waves
    width: float
    affine: Float
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """See Model."""
        mapped = self.waves.mapped(values, (self.width,))[0]
        return np.asarray(mapped @ self.affine[:, :-1].T + self.affine[:, -1])

    def pack(self) -> Packed:
        """See Model."""
        arrays = {"affine": self.affine, **vars(self.waves)}
        return Packed(arrays, {"width": self.width}, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """See Model."""
        try:
            parts = {name: np.asarray(packed.arrays[name], np.float64) for name in ("affine", *Waves.__annotations__)}
            width = float(packed.config["width"])
        except KeyError as error:
            raise WeightsError(f"a fourier model lacks {error}; it was saved by something else") from error
        affine = parts.pop("affine")
        count, features = parts["frequencies"].shape if parts["frequencies"].ndim == 2 else (0, 0)
        shapes = {"phases": (count,), "mean": (features,), "scale": (features,)}
        fits = all(parts[name].shape == shape for name, shape in shapes.items())
        if not fits or affine.shape != (len(packed.classes), count + 1) or not width > 0:
            raise WeightsError("the arrays of a fourier model do not fit together; it is damaged")
        return cls(Waves(**parts), width, affine, packed.classes, packed.fingerprint, packed.facts)


def fourier_statistics(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Counts, class sums and Gram matrix of the mapped features, [G, F, ...] for every kernel width and fold."""
    fold = fold_of(site.patients, site.label, int(config["folds"]), site.seed)
    parts = []
    for mapped in _mapped(site, arrays, config):
        chosen = [collect(mapped[fold == f], site.label[fold == f], site.classes) for f in range(int(config["folds"]))]
        parts.append(pack(chosen).arrays)
    return Released(Update({name: np.stack([part[name] for part in parts]) for name in parts[0]}))


def fourier_validate(site: SiteData, arrays: Arrays, config: Config) -> Released:
    """Held-out losses and hits of fold heads [G, F, S, C, D + 1] on the mapped features, [G, S, ...]."""
    fold = fold_of(site.patients, site.label, int(config["folds"]), site.seed)
    pairs = zip(arrays["heads"], _mapped(site, arrays, config), strict=True)
    parts = [held_out(heads, mapped, site.label, fold).arrays for heads, mapped in pairs]
    return Released(Update({name: np.stack([part[name] for part in parts]) for name in parts[0]}))


def _mapped(site: SiteData, arrays: Arrays, config: Config) -> list[Float]:
    rng = stream(site.seed, "fourier", int(config["waves"]))
    waves = Waves.draw(int(config["waves"]), arrays["mean"], arrays["scale"], rng=rng)
    if waves.digest != config["digest"]:
        raise ConfigError("this machine draws other random waves than the server; use the same release of numpy")
    return waves.mapped(site.values, widths_for(site.values.shape[1]))


@final
@dataclass(frozen=True)
class Fourier(Method):
    """A discriminant or ridge head on random waves; width, strength and temperature by cross-validation on sums.

    Attributes:
        waves: number D of waves.
        ridge: whether the head is a ridge regression instead of the discriminant.
    """

    syntax: ClassVar[str] = r"fourier-(?P<waves>[1-9][0-9]{1,3})(?P<ridge>-ridge)?"
    example: ClassVar[str] = "fourier-100"
    summary: ClassVar[str] = "a discriminant (with -ridge: ridge) head on so many random Fourier features, from sums"

    waves: int
    ridge: bool

    def outcome(self, study: Study) -> Outcome:
        """See Method."""
        family = "ridge" if self.ridge else "discriminant"
        folds = study.once(f"fourier-folds-{self.waves}", lambda: self._folds(study))
        choices, spent = study.once(f"fourier-choices-{self.waves}", lambda: self._choices(study, folds))
        best = min(range(len(folds)), key=lambda index: choices[family, index].loss)
        choice, width = choices[family, best], widths_for(study.problem.width)[best]
        with study.clock(self.name) as last:
            everyone = sum(folds[best][1:], start=folds[best][0])
            affine = FAMILIES[family].heads(everyone)[choice.index] * choice.temperature
        facts = {
            "family": family,
            "waves": self.waves,
            "width": width,
            "strength": FAMILIES[family].strengths[choice.index],
            "temperature": choice.temperature,
            "cv_loss": choice.loss,
            "cv_balanced_accuracy": choice.balanced_accuracy,
        }
        problem = study.problem
        model = FourierModel(self._drawn(study), width, affine, problem.classes, problem.fingerprint, facts)
        phases = ("moments", *(f"fourier-{part}-{self.waves}" for part in ("statistics", "validate")))
        return Outcome({"": model}, dict.fromkeys(phases, Share()), spent + last[0], facts)

    def _drawn(self, study: Study) -> Waves:
        rng = stream(study.settings.seed, "fourier", self.waves)
        return Waves.draw(self.waves, study.moments.mean, study.moments.scale, rng=rng)

    def _asked(self, study: Study) -> tuple[dict[str, Float], dict[str, Any]]:
        waves = self._drawn(study)
        config = {"folds": study.settings.folds, "waves": self.waves, "digest": waves.digest}
        return {"mean": waves.mean, "scale": waves.scale}, config

    def _folds(self, study: Study) -> list[list[Statistics]]:
        """Statistics of each width and fold."""
        arrays, config = self._asked(study)
        shape = (len(WIDTHS), study.settings.folds)
        classes, count = len(study.problem.classes), self.waves
        expect = {
            "counts": ArraySpec((*shape, classes)),
            "sums": ArraySpec((*shape, classes, count)),
            "gram": ArraySpec((*shape, count * (count + 1) // 2)),
        }
        request = Request("fourier_statistics", arrays, config, expect, f"fourier-statistics-{count}")
        sums = total(reply.arrays for reply in study.hospitals.ask(request))
        return [unpack(Update({name: array[index] for name, array in sums.items()})) for index in range(len(WIDTHS))]

    def _choices(self, study: Study, folds: list[list[Statistics]]) -> tuple[dict[tuple[str, int], Choice], float]:
        """Cross-validated choice of each family and width, and CPU seconds; both families travel in one message."""
        families = ("ridge", "discriminant")
        with study.clock(self.name) as spent:
            wholes = [sum(parts[1:], start=parts[0]) for parts in folds]
            stack = np.stack([
                [np.concatenate([FAMILIES[name].heads(whole - part) for name in families]) for part in parts]
                for whole, parts in zip(wholes, folds, strict=True)
            ])  # fmt: skip
        arrays, config = self._asked(study)
        shape, classes = (len(WIDTHS), stack.shape[2]), stack.shape[3]
        expect = {"losses": ArraySpec((*shape, len(TEMPERATURES), classes)), "hits": ArraySpec((*shape, classes))}
        sent: dict[str, Array] = {**arrays, "heads": stack.astype(np.float32)}
        request = Request("fourier_validate", sent, config, expect, f"fourier-validate-{self.waves}")
        sums = total(reply.arrays for reply in study.hospitals.ask(request))
        cut = len(FAMILIES["ridge"].strengths)
        found = {}
        for name, rows in (("ridge", slice(None, cut)), ("discriminant", slice(cut, None))):
            for index, whole in enumerate(wholes):
                part = Update({key: array[index][rows] for key, array in sums.items()})
                found[name, index] = choose(part, whole.counts)
        return found, spent[0]


METHODS: tuple[type[Method], ...] = (Fourier,)
TASKS: Mapping[str, Task] = {task.__name__: task for task in (fourier_statistics, fourier_validate)}
MODELS: tuple[type[Model], ...] = (FourierModel,)
