"""The seam of methods: a name that says everything, and what it gives in a study."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from medtl_core.federation.outcome import Outcome, Rounds, Share
from medtl_core.federation.study import Candidates, Need, Study

__all__ = ["Candidates", "Method", "Need", "Outcome", "Rounds", "Share", "Study"]


@dataclass(frozen=True)
class Method(ABC):
    """One way to obtain classifiers from hospitals.

    A subclass that adds a field is a frozen dataclass. Its `syntax` is the regular expression of its names; a named
    group fills the field of that name, converted to the field's type (a bool field says whether the group is there).

    Attributes:
        name: the full name, as asked for.
    """

    #: Regular expression of the names this class answers to.
    syntax: ClassVar[str]
    #: A name that matches, the syntax itself unless stated; shown in messages, and run by the contract test.
    example: ClassVar[str]
    #: One line for `medtl methods`; the first of the class's description unless stated.
    summary: ClassVar[str] = ""
    #: Where the result can be judged: "any", "server" (needs the server's cases) or "sites" (needs the hospitals').
    test: ClassVar[str] = "any"
    #: Cases that it needs: "any", "table" (records) or "followed" (records with an event and a time).
    cases: ClassVar[str] = "any"
    #: Settings (kebab-case) that it reads, beside those that say what is asked of whom: see `methods.effect`.
    reads: ClassVar[tuple[str, ...]] = ()

    name: str

    def __init_subclass__(cls) -> None:
        if "syntax" in vars(cls) and "example" not in vars(cls):
            cls.example = cls.syntax
        cls.summary = vars(cls).get("summary") or (cls.__doc__ or "").partition("\n")[0]

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
    def names(cls) -> tuple[str, ...]:
        """Returns a name of every family the class answers to: its example, with every word that may stand in it."""
        example = re.fullmatch(cls.syntax, cls.example)
        assert example is not None, f"{cls.example} is not a name of its own method"
        names = [cls.example, *cls.syntax.split("|")]
        for group, words in _WORDS.findall(cls.syntax):
            start, end = example.span(group) if example[group] is not None else (len(cls.example),) * 2
            names += [cls.example[:start] + word + cls.example[end:] for word in words.split("|")]
        return tuple(name for name in dict.fromkeys(names) if cls.parse(name) is not None)

    def needs(self, study: Study) -> tuple[Need, ...]:
        """Returns what the method reads of phases that others may read too, its members' needs included.

        A study asks every method once, before it asks a hospital anything, and fits each phase to all needs together.
        """
        return ()

    @abstractmethod
    def outcome(self, study: Study) -> Outcome:
        """Asks the hospitals and returns what the method gave."""


#: A named group of a syntax, and what may stand there.
_WORDS = re.compile(r"\(\?P<(\w+)>([^()]+)\)")
#: A field's type, as a class or as written under postponed evaluation -> how a part of the name becomes its value.
_KINDS: dict[Any, Any] = {int: int, float: float, bool: bool, str: str, "int": int, "float": float, "bool": bool}
