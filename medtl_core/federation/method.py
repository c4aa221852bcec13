"""The seam of methods: a name that says everything, and what it gives in a study."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from medtl_core.federation.outcome import Outcome
    from medtl_core.federation.study import Study


@dataclass(frozen=True)
class Candidates:
    """A need: the heads of a closed-form family on some feature columns, cross-validated (phases of the sums).

    Attributes:
        family: of `heads.closed_form.FAMILIES`.
        columns_key: taps as `heads.tap_subsets.column_choices` names them; "" = all columns.
    """

    family: str
    columns_key: str = ""

    @property
    def key(self) -> str:
        """Name of the candidate in a study, e.g. "discriminant@4+7"."""
        return f"{self.family}@{self.columns_key}" if self.columns_key else self.family


@dataclass(frozen=True)
class Rounds:
    """A need: the head of a gradient algorithm after so many rounds.

    Attributes:
        algorithm: what is trained; methods of the same one share their rounds.
        rounds: after which the head is wanted.
        folds: whether the heads of the cross-validation folds train along in the same messages.
    """

    algorithm: str
    rounds: int
    folds: bool = False


Need = Candidates | Rounds


@dataclass(frozen=True)
class Method(ABC):
    """One way to obtain classifiers from hospitals.

    A subclass is a frozen dataclass. Its `syntax` is the regular expression of its names; a named group fills the
    field of that name, converted to the field's type (a bool field says whether the group is there).

    Attributes:
        name: the full name, as asked for.
    """

    #: Regular expression of the names this class answers to.
    syntax: ClassVar[str]
    #: A name that matches; shown in messages, and run by the contract test.
    example: ClassVar[str]
    #: One line for `medtl methods` and the documentation.
    summary: ClassVar[str] = ""
    #: Where the result can be judged: "any", "server" (needs the server's cases) or "sites" (needs the hospitals').
    test: ClassVar[str] = "any"

    name: str

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Returns the method a name stands for, or None for another method's name."""
        match = re.fullmatch(cls.syntax, name)
        if match is None:
            return None
        known = {field.name: field.type for field in fields(cls)}
        given: dict[str, Any] = {
            key: _KINDS.get(known[key], str)(text)
            for key, text in match.groupdict().items()
            if text is not None or known[key] in (bool, "bool")
        }
        return cls(name=name, **given)

    @classmethod
    def names(cls) -> str:
        """Returns the fixed names the class answers to, or its example."""
        words = cls.syntax.split("|")
        return ", ".join(words) if all(word.replace("-", "").isalnum() for word in words) else cls.example

    def needs(self, study: "Study") -> tuple[Need, ...]:
        """Returns what the method reads of phases that others may read too, its members' needs included.

        A study asks every method once, before it asks a hospital anything, and fits each phase to all needs together.
        """
        return ()

    @abstractmethod
    def outcome(self, study: "Study") -> "Outcome":
        """Asks the hospitals and returns what the method gave."""


#: A field's type, as a class or as written under postponed evaluation -> how a part of the name becomes its value.
_KINDS: dict[Any, Any] = {int: int, float: float, bool: bool, str: str, "int": int, "float": float, "bool": bool}
