"""Classifiers beyond the affine head: arrays that travel and are saved, and a way to answer from them."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Protocol, Self, get_origin

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import WeightsError
from medtl_core.features.dataset import Material
from medtl_core.values import Array, Packed

__all__ = ["Classifier", "Model", "Packed"]


class Classifier(Protocol):
    """Whatever turns cases into logits: a `Head` (affine on the agreed features) or a `Model`."""

    @property
    def kind(self) -> str:
        """The method that made it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """In order."""

    @property
    def fingerprint(self) -> str:
        """Of the agreed features."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """JSON-able remarks."""

    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """Returns float64 [n, C] for the agreed features [n, d] and the cases behind them."""


class Model(ABC):
    """A classifier that needs more than one matrix: a frozen dataclass that declares its arrays, listed in `MODELS`.

    `AXES` names the arrays and gives each axis a letter. The letter "c" is the number of classes, every other one is
    the size that the arrays agree on, "d+" is one more than "d" (a bias), and an array whose letters end in "?" is left
    out where it is empty. An array is the field of its name, a part of a field that is a dataclass (PART or
    FIELD-PART), or an entry of the field that is a mapping; with "*" among the names that mapping takes any array
    besides. The remaining fields are flat values (str, int, float, bool, or a tuple of str, which travels as JSON).

    Example:
        A nearest mean in two pieces, packed, unpacked and checked by what it declares.

        >>> from dataclasses import dataclass, field
        >>> @dataclass(frozen=True)
        ... class Means(Model):
        ...     kind: ClassVar[str] = "means"
        ...     AXES: ClassVar[Mapping[str, str]] = {"means": "cd", "scale": "d"}
        ...     means: Array
        ...     scale: Array
        ...     classes: tuple[str, ...]
        ...     fingerprint: str
        ...     facts: Mapping[str, Any] = field(default_factory=dict)
        ...     def logits(self, values, material=None):
        ...         return -(((values[:, None] - self.means) / self.scale) ** 2).sum(axis=2)
        >>> packed = Means(np.eye(2), np.ones(2), ("ill", "well"), "print").pack()
        >>> sorted(packed.arrays), Means.unpack(packed).logits(np.zeros((1, 2))).tolist()
        (['means', 'scale'], [[-1.0, -1.0]])
    """

    #: Names the class in manifests and messages.
    kind: ClassVar[str]
    #: Array name -> its axes, a letter each.
    AXES: ClassVar[Mapping[str, str]]
    classes: tuple[str, ...]
    fingerprint: str
    facts: Mapping[str, Any]

    @abstractmethod
    def logits(self, values: NDArray[np.floating[Any]], material: Material | None = None) -> NDArray[np.float64]:
        """Returns float64 [n, C].

        Args:
            values: the agreed features, float [n, d].
            material: the n cases themselves; a model that reads images raises DataError without them.
        """

    def flaw(self) -> str:
        """Returns what is wrong with the values where names, shapes and finiteness are right; "" = nothing."""
        return ""

    def pack(self) -> Packed:
        """Returns the model as arrays and flat values."""
        arrays: dict[str, Array] = {}
        for name, kind in _fields(type(self)):
            value = getattr(self, name)
            if _is_group(kind):
                arrays |= {_name(self.AXES, name, part.name): getattr(value, part.name) for part in fields(kind)}
            elif get_origin(kind) is Mapping:
                arrays |= value
            elif name in self.AXES:
                arrays[name] = value
        whole = {
            name: np.asarray(array, np.int64) if np.asarray(array).dtype == bool else np.asarray(array)
            for name, array in arrays.items()
            if np.size(array) or not self.AXES.get(name, "").endswith("?")
        }
        config = {name: _packed(getattr(self, name)) for name, _ in _flat(type(self))}
        return Packed(whole, config, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """Returns the model that `pack` took apart.

        Raises:
            WeightsError: arrays or values are missing, foreign or not finite, or do not fit together.
        """
        try:
            arrays = checked(packed.arrays, cls.AXES, len(packed.classes))
            values = {name: _unpacked(packed.config[name], kind) for name, kind in _flat(cls)}
        except KeyError as error:
            raise _unfit(cls.kind, f"it lacks {error}") from error
        except (TypeError, ValueError) as error:
            raise _unfit(cls.kind, str(error)) from error
        for name, kind in _fields(cls):
            if _is_group(kind):
                values[name] = kind(
                    **{part.name: arrays.pop(_name(cls.AXES, name, part.name)) for part in fields(kind)}
                )
            elif name in cls.AXES:
                values[name] = arrays.pop(name)
        values |= {name: arrays for name, kind in _fields(cls) if get_origin(kind) is Mapping}
        build: Any = cls
        model: Self = build(**values, classes=packed.classes, fingerprint=packed.fingerprint, facts=packed.facts)
        flaw = model.flaw()
        if flaw:
            raise _unfit(cls.kind, flaw)
        return model


def checked(arrays: Mapping[str, Array], axes: Mapping[str, str], classes: int) -> dict[str, Array]:
    """Returns the arrays once they are what `axes` declares, those that may be left out as empty ones.

    Args:
        arrays: by name.
        axes: see `Model`.
        classes: their number, the size of "c".

    Raises:
        ValueError: a name is missing or foreign, an array is not finite, or sizes contradict each other.
    """
    declared = {name: letters for name, letters in axes.items() if name != "*"}
    needed = {name for name, letters in declared.items() if not letters.endswith("?")}
    if not needed <= arrays.keys() or not ("*" in axes or arrays.keys() <= declared.keys()):
        raise ValueError(f"it holds {sorted(arrays)}, not {sorted(needed)}")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} holds numbers that are not finite")
    sizes, whole = {"c": classes}, dict(arrays)
    for name in sorted(declared, key=lambda name: name not in needed):
        letters = re.findall(r"[a-z]\+?", declared[name])
        if name not in arrays:
            whole[name] = np.zeros([0, *(sizes.get(letter[0], 0) for letter in letters[1:])])
        least = [size - len(letter) + 1 for letter, size in zip(letters, whole[name].shape, strict=False)]
        agreed = [sizes.setdefault(letter[0], size) for letter, size in zip(letters, least, strict=False)]
        if whole[name].ndim != len(letters) or agreed != least:
            raise ValueError(f"{name!r} is {whole[name].shape} and does not fit the other arrays or {classes} classes")
    return whole


def _fields(model: type[Model]) -> list[tuple[str, Any]]:
    """Name and type of each field that is the class's own."""
    own = [(field.name, field.type) for field in fields(model)]  # type: ignore[arg-type]
    return [(name, kind) for name, kind in own if name not in ("classes", "fingerprint", "facts")]


def _flat(model: type[Model]) -> list[tuple[str, Any]]:
    """Name and type of each field that is neither an array nor a group of arrays."""
    return [
        (name, kind)
        for name, kind in _fields(model)
        if not (name in model.AXES or _is_group(kind) or get_origin(kind) is Mapping)
    ]


def _is_group(kind: Any) -> bool:
    """Whether a field of this type is a record of arrays."""
    return is_dataclass(kind)


def _name(axes: Mapping[str, str], field: str, part: str) -> str:
    """Under which name a part of a field's arrays travels."""
    return f"{field}-{part}" if f"{field}-{part}" in axes else part


def _packed(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, tuple) else value


def _unpacked(value: Any, kind: Any) -> Any:
    return tuple(str(item) for item in json.loads(str(value))) if get_origin(kind) is tuple else kind(value)


def _unfit(kind: str, what: str) -> WeightsError:
    return WeightsError(
        f"the arrays of this {kind} model do not fit: {what}; they are damaged or were saved by something else"
    )
