"""The door to encoders: how cases that are no images become features, by the first word of `backbone`.

An encoder is a leaf's module with an `ENCODER`, named below. Nothing behind the features knows what kind a case was of.
"""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

from medtl_core.config import Settings, kind_of
from medtl_core.errors import ConfigError, DataError
from medtl_core.values import Array, Examples

#: Kind of a backbone -> module of its encoder.
_MODULES = {"table": "formats.columns", "signal": "signals.encoder", "text": "notes.encoder"}


@final
@dataclass(frozen=True)
class Encoding:
    """What decides the features of an encoder beside its name.

    Attributes:
        sha: names weights, constants, version and the order of columns, whatever the features depend on.
        taps: names of the groups of features, in order.
        channels: features of each.
    """

    sha: str
    taps: tuple[str, ...]
    channels: tuple[int, ...]


class CaseEncoder(ABC):
    """Makes features of one column of cases. They lie on a scale of about one that no patient's case has set.

    Attributes:
        column: of `Examples`, which it reads.
        kept: whether features are kept in the cache, by what `column` holds; a table's are made as quickly as found.
    """

    column: ClassVar[str]
    kept: ClassVar[bool] = True

    @abstractmethod
    def encoding(self, settings: Settings, columns: Sequence[str]) -> Encoding:
        """Returns what the settings mean, without a look at cases or an import of torch.

        Args:
            settings: `backbone` is the single one meant, e.g. "signal:spectrum"; `features` and `weights` are its own.
            columns: all of `Facts.columns`, those of other kinds among them.

        Raises:
            ConfigError: there is no encoder of that name, or the settings do not suit it.
            WeightsError: its weights are not on this machine.
        """

    @abstractmethod
    def blank(self, columns: Sequence[str]) -> Array:
        """Returns the column of one case that is nobody's; it shows what is wrong with settings or weights."""

    @abstractmethod
    def rows(self, cases: Examples, encoding: Encoding, settings: Settings) -> Array:
        """Returns the features, float32 [n, d]; a case's row hangs on that case alone.

        Raises:
            DataError: a case cannot be used; which one, `Material.readable` finds out.
            WeightsError: the weights changed since `encoding`.
        """

    def opened(self, places: Sequence[Any], columns: Sequence[str]) -> Iterator[tuple[str, Any, str]]:
        """Yields name, content of `column` and fault ("" = none) of each new case that files or folders hold, or tables
        that were read before, as `columns` has it.

        Raises:
            DataError: a place is not there, or holds no case.
        """
        raise DataError(f"new cases with a {self.column} cannot be read from {', '.join(map(str, places))}")

    def parts(self, case: Any, weight: Array, settings: Settings) -> Sequence[tuple[str, float]]:
        """Returns what each part of a case, by its name, adds to a weighted sum (float64 [d]) of its features.

        Raises:
            ConfigError: the encoder tells no parts.
        """
        raise ConfigError(f"{settings.backbone!r} tells no parts of a case")


def encoder_of(backbone: str) -> CaseEncoder:
    """Returns the encoder that reads cases for a backbone that is no image's: see `config.kind_of`."""
    encoder: CaseEncoder = importlib.import_module(f"medtl_core.{_MODULES[kind_of(backbone)]}").ENCODER
    return encoder
