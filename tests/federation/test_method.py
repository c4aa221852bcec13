"""A method's name becomes its fields."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from medtl_core.errors import ConfigError
from medtl_core.federation.method import Method
from medtl_core.federation.outcome import Outcome
from medtl_core.federation.registry import find_method
from medtl_core.federation.study import Study
from medtl_core.methods.core import METHODS


@dataclass(frozen=True)
class Typed(Method):
    syntax: ClassVar[str] = r"typed-(?P<count>\d+)-(?P<share>[.\d]+)(-(?P<word>[a-z]+))?(?P<flag>!)?"
    example: ClassVar[str] = "typed-3-0.5"

    count: int
    share: float
    word: str = "none"
    flag: bool = False

    def outcome(self, study: Study) -> Outcome:
        return Outcome({}, {})


def test_groups_fill_fields_by_their_type() -> None:
    assert Typed.parse("typed-3-0.5-soft!") == Typed("typed-3-0.5-soft!", 3, 0.5, "soft", True)
    assert Typed.parse("typed-3-0.5") == Typed("typed-3-0.5", 3, 0.5, "none", False)


@pytest.mark.parametrize("name", ["typed-x-0.5", "typed-3-0.5-soft!?", "", "Typed-3-0.5"])
def test_another_name_is_another_methods(name: str) -> None:
    assert Typed.parse(name) is None


def test_gradient_names() -> None:
    known = {"name": "fedavg-20-adjusted", "rounds": 20, "algorithm": "fedavg", "adjusted": True}
    assert vars(find_method("fedavg-20-adjusted")) == known
    assert vars(find_method("scaffold-5"))["adjusted"] is False
    with pytest.raises(ConfigError, match="unknown method 'fedavg-0'"):
        find_method("fedavg-0")


def test_every_core_method_knows_its_example() -> None:
    for kind in METHODS:
        assert kind.parse(kind.example) is not None, kind
        assert kind.summary, kind
