"""Classifiers beyond the affine head: arrays that travel and are saved, and a way to answer from them."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, ClassVar, Self, get_origin

import numpy as np
from numpy.typing import NDArray

from medtl_core.errors import WeightsError
from medtl_core.features.dataset import Material
from medtl_core.values import Array, Head, Packed

__all__ = ["Classifier", "Model", "Packed"]

#: Fields that every classifier has, which are no arrays.
_COMMON = ("classes", "fingerprint", "facts")


class Model(ABC):
    """A classifier that needs more than one matrix: a frozen dataclass that declares its arrays, listed in `MODELS`.

    `AXES` names the arrays and gives each axis a letter. The letter "c" is the number of classes, every other one is
    the size that the arrays agree on, "d+" is one more than "d" (a bias), and an array whose letters end in "?" is left
    out where it is empty. An array is the field of its name, a part of a field that is a dataclass (PART or
    FIELD-PART), or an entry of the field that is a mapping; with "*" among the names that mapping takes any array
    besides. The remaining fields are flat values (str, int, float, bool, or a tuple of str, which travels as JSON).
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
        config: dict[str, Any] = {}
        for name, kind, parts in _fields(type(self)):
            value = getattr(self, name)
            if parts:
                arrays |= {key: getattr(value, part) for part, key in parts.items()}
            elif get_origin(kind) is Mapping:
                arrays |= value
            elif name in self.AXES:
                arrays[name] = value
            else:
                config[name] = json.dumps(value) if isinstance(value, tuple) else value
        whole = {
            name: np.asarray(array, np.int64) if np.asarray(array).dtype == bool else np.asarray(array)
            for name, array in arrays.items()
            if np.size(array) or not self.AXES.get(name, "").endswith("?")
        }
        return Packed(whole, config, self.classes, self.fingerprint, self.facts)

    @classmethod
    def unpack(cls, packed: Packed) -> Self:
        """Returns the model that `pack` took apart.

        Raises:
            WeightsError: arrays or values are missing, foreign or not finite, or do not fit together.
        """
        values: dict[str, Any] = {}
        try:
            arrays = _checked(packed.arrays, cls.AXES, len(packed.classes))
            for name, kind, parts in _fields(cls):
                if parts:
                    values[name] = kind(**{part: arrays.pop(key) for part, key in parts.items()})
                elif get_origin(kind) is Mapping:
                    values[name] = arrays  # whatever the other fields leave
                elif name in cls.AXES:
                    values[name] = arrays.pop(name)
                else:
                    values[name] = _flat(packed.config[name], kind)
        except KeyError as error:
            raise _unfit(cls.kind, f"it lacks {error}") from error
        except (TypeError, ValueError) as error:
            raise _unfit(cls.kind, str(error)) from error
        build: Any = cls
        model: Self = build(**values, classes=packed.classes, fingerprint=packed.fingerprint, facts=packed.facts)
        flaw = model.flaw()
        if flaw:
            raise _unfit(cls.kind, flaw)
        return model


#: Whatever turns cases into logits: affine on the agreed features, or something else.
Classifier = Head | Model


def _checked(arrays: Mapping[str, Array], axes: Mapping[str, str], classes: int) -> dict[str, Array]:
    """Returns the arrays once they are what `axes` declares, those that may be left out as empty ones.

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


def _fields(model: type[Model]) -> Iterator[tuple[str, Any, dict[str, str]]]:
    """Yields name and type of each field, and for a record of arrays part -> name on the wire; mappings come last."""
    own = [(field.name, field.type) for field in fields(model) if field.name not in _COMMON]  # type: ignore[arg-type]
    for name, kind in sorted(own, key=lambda field: get_origin(field[1]) is Mapping):
        parts = [part.name for part in fields(kind)] if is_dataclass(kind) else []
        yield name, kind, {part: f"{name}-{part}" if f"{name}-{part}" in model.AXES else part for part in parts}


def _flat(value: Any, kind: Any) -> Any:
    return tuple(str(item) for item in json.loads(str(value))) if get_origin(kind) is tuple else kind(value)


def _unfit(kind: str, what: str) -> WeightsError:
    return WeightsError(
        f"the arrays of this {kind} model do not fit: {what}; they are damaged or were saved by something else"
    )
